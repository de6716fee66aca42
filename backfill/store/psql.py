"""PostgreSQL's own client for a person: what it has to be told, none of it in its arguments."""

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from backfill.errors import UsageError
from backfill.store.address import Address, read_url
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


def open_psql(url: str, environment: dict[str, str]) -> int:
    """Run psql on the database of a URL until it ends, and return its exit code.

    Raises
    ------
    UsageError
        If there is no psql here, or the URL can't be read.
    """
    program = shutil.which("psql")
    if program is None:
        raise UsageError(
            "psql is not installed here (the embedded Postgres brings none): install PostgreSQL's "
            'client, or give a statement: backfill sql "SELECT count(*) FROM ohlc_bars"'
        )
    told = environment | variables_of(read_url(url))
    # An interrupt is for psql, which ends a query by it. A handler, unlike being deaf, isn't
    # inherited.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run([program], env=told, check=False).returncode  # noqa: S603 - no argument
    finally:
        signal.signal(signal.SIGINT, before)
