"""The command that says whether a run could start from here, and what to mend."""

import asyncio
import os
from dataclasses import replace

import typer

from backfill.cli.edge import AsJson, fit_to_leave, print_result


def doctor(*, as_json: AsJson = False) -> None:
    """Look at the settings, keys, database, clock and calendars, and say what to mend.

    Nothing is changed, and no call of a quota is used. Exits 0 if a run could start, though a key
    is missing, 2 for a setting given wrongly, 3 for what can't be reached or used.
    """
    from backfill import log
    from backfill.audit.doctor import exit_code, look
    from backfill.errors import UsageError
    from backfill.notify.delivery import destinations_of
    from backfill.present import doctor as present
    from backfill.settings import secrets_in
    from backfill.settings.examine import examine

    examined = examine()
    log.configure(examined.settings.log_format, secrets_in(os.environ))
    try:
        destinations_of(examined.settings)
    except UsageError as error:
        examined = replace(examined, faults=(*examined.faults, error))
    findings = [
        replace(one, said=fit_to_leave(one.said), mend=one.mend and fit_to_leave(one.mend))
        for one in asyncio.run(look(examined))
    ]
    code = exit_code(findings)
    print_result(
        present.as_dict(findings, code), as_json=as_json, text=lambda: present.told(findings)
    )
    raise typer.Exit(code)
