"""PostgreSQL's own client for a person: what it has to be told, none of it in its arguments."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from backfill.errors import UsageError
from backfill.store.address import Address, read_url
from backfill.store.programs import clients
from backfill.store.quote import identifier

_MEANS_SOMETHING: Final = re.compile(r"[\s\\]")
"""In the options of a session: white space ends one, a backslash takes the next as it is."""
_ESCAPED: Final = r"\\\g<0>"
# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES: Final = {
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
}


def variables_of(address: Address) -> dict[str, str]:
    """Return the environment by which libpq connects to a database."""
    given = {
        "PGHOST": ",".join(address.hosts),
        "PGPORT": ",".join(map(str, address.ports)),
        "PGUSER": address.user,
        "PGPASSWORD": address.password,
        "PGDATABASE": address.database,
        "PGTARGETSESSIONATTRS": address.target,
        # A pooler may refuse options: none are sent unless the URL asks for a schema.
        "PGOPTIONS": _option("search_path", address.search_path) if address.search_path else None,
        **{_VARIABLES[name]: value for name, value in address.passed if name in _VARIABLES},
    }
    return {name: value for name, value in given.items() if value}


def _option(name: str, values: Sequence[str]) -> str:
    """Return a setting as the server reads it among the options of a session."""
    return f"-c {name}={_MEANS_SOMETHING.sub(_ESCAPED, ','.join(map(identifier, values)))}"


def open_psql(url: str, environment: dict[str, str], *, embedded: bool) -> int:
    """Run psql on the database of a URL until it ends, and return its exit code.

    It is the one on the path, or that of the embedded Postgres, which goes before on an embedded
    database: pg_dump, which psql may start, takes no server that is newer. What psql starts finds
    the same programs.

    Raises
    ------
    UsageError
        If there is no psql here, or the URL can't be read.
    """
    own = clients()
    folders = [environment.get("PATH", os.defpath)]
    if own is not None:
        folders.insert(0 if embedded else 1, str(own))
    path = os.pathsep.join(folders)
    program = shutil.which("psql", path=path)
    if program is None:
        raise UsageError(
            "psql is not installed here: install PostgreSQL's client or 'ohlc-backfill[embedded]', "
            'or give a statement: backfill sql "SELECT count(*) FROM ohlc_bars"'
        )
    told = environment | variables_of(read_url(url)) | {"PATH": path}
    # An interrupt is for psql, which ends a query by it. A handler, unlike being deaf, isn't
    # inherited.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run([program], env=told, check=False).returncode  # noqa: S603 - no argument
    finally:
        signal.signal(signal.SIGINT, before)
