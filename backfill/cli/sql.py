"""The command that asks the database in use in SQL."""

import asyncio
import os
from typing import Annotated

import typer

from backfill.cli.edge import AsJson, read_settings, say


def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="STATEMENT", help="Such as 'SELECT * FROM symbols'.")
    ] = None,
    *,
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="table, csv or json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a statement on the database in use, or open psql on it; the embedded one included.

    psql takes what comes through a pipe, too: echo "TABLE watchlist" | backfill sql

    A statement runs in a transaction of its own, of at most 55 seconds, and what it changes stays
    changed. What psql has to know, a password too, is told by its environment alone.
    """
    from backfill.cli import arguments
    from backfill.errors import UsageError
    from backfill.present.rows import FORMATS, Printer

    shape = arguments.one_format(form, FORMATS, as_json=as_json)
    settings = read_settings()
    if statement is None:
        if form is not None or as_json:
            raise UsageError('--format and --json go with a statement: backfill sql "SELECT 1"')
        from backfill.run.connect import database_url
        from backfill.store.psql import open_psql

        with database_url(settings) as url:
            embedded = settings.database() is None
            raise typer.Exit(open_psql(url, dict(os.environ), embedded=embedded) and 1)
    from backfill.admin.query import answer

    printer = Printer(shape, say)
    printer.close(asyncio.run(answer(settings, statement, printer)))
