"""One session with a server: how it is opened, and how a transaction in it begins and ends."""

import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import asyncpg

from backfill.core.dataclass import dataclass
from backfill.errors import UsageError
from backfill.store import quote
from backfill.store.address import Address
from backfill.store.faults import FAULTS, said
from backfill.store.path import setting
from backfill.store.trip import Session, copied_in, copied_out, only_value

if TYPE_CHECKING:
    import asyncio

_SEND_BUFFER: Final = 2**21
"""In bytes; the system may allow less."""

# What a transaction is, how long it may take and that NULL in an array is none, whatever the
# defaults of server, database and role are, in one round trip with its beginning. Whether it may
# write is theirs to say, unless it shall only read.
_OPENING: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED{writes};
    SET LOCAL statement_timeout = '{statement_s}s';
    SET LOCAL lock_timeout = '20s';
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SET LOCAL array_nulls = on;
"""
# A clock that runs is not set anew: it has to be stopped first.
_OPENING_17: Final = "SET LOCAL transaction_timeout = 0; SET LOCAL transaction_timeout = '10min';"
_HAS_TRANSACTION_TIMEOUT: Final = 17


@dataclass(frozen=True, slots=True)
class Manner:
    """How a database is used: over how many connections, and what a transaction may do.

    A statement may take ``statement_s`` seconds; ``tries`` is how often work is done that passing
    faults end.
    """

    connections: int
    statement_s: int
    tries: int
    reads_only: bool


WORKING: Final = Manner(connections=6, statement_s=55, tries=6, reads_only=False)
"""As a run does, which waits for a database that restarts."""
LOOKING: Final = Manner(connections=4, statement_s=30, tries=2, reads_only=True)
"""As who answers others does: a replica will do, and nobody waits long for a fault to pass."""


def see_authorities(address: Address) -> None:
    """Read a file of certificates, whose faults asyncpg would tell as those of a server."""
    path = dict(address.passed).get("sslrootcert")
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise UsageError(
            f"DATABASE_URL can't be used: sslrootcert={path} can't be read: {said(error)}"
        ) from None


async def connected(*address: Any, **options: Any) -> asyncpg.Connection:
    """Connect, and let a local socket hold as many rows as one to another host does.

    The kernel sizes the buffers of TCP by itself. A Unix socket's takes two milliseconds' worth of
    rows, after which the server waits for the event loop: a tenth of the time of a load. asyncpg
    (0.31) tells nobody its socket.
    """
    several = len(options["host"] or ()) > 1 and options["target_session_attrs"] != "prefer-standby"
    opening = _first_that_will_do if several else asyncpg.connect
    connection = await opening(*address, **options)
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    opened = transport.get_extra_info("socket") if transport else None
    if opened is not None and opened.family == getattr(socket, "AF_UNIX", None):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return connection


async def keep_as_it_is(_connection: Session) -> None:
    """Reset nothing when a connection returns to the pool: nothing was set."""


async def _first_that_will_do(*address: Any, **options: Any) -> asyncpg.Connection:
    """Connect to the first of several servers that is what is asked for.

    asyncpg (0.32) gives all its time to the first one, be it silent.
    """
    hosts, ports = options["host"], options["port"] or [None]
    time_s = options["timeout"] / len(hosts)
    *others, last = (
        options | {"host": host, "port": port, "timeout": time_s}
        for host, port in zip(hosts, ports * len(hosts), strict=False)
    )
    for other in others:
        with suppress(
            OSError,
            TimeoutError,
            asyncpg.CannotConnectNowError,
            asyncpg.TargetServerAttributeNotMatched,
        ):
            return await asyncpg.connect(*address, **other)
    return await asyncpg.connect(*address, **last)


def opening(connection: Session, schemas: Sequence[str], manner: Manner) -> str:
    """Return the statements that begin a transaction in some schemas, in one round trip."""
    writes = " READ ONLY" if manner.reads_only else ""
    begins = _OPENING.format(writes=writes, statement_s=manner.statement_s)
    statements = begins + setting(schemas)
    if connection.get_server_version().major >= _HAS_TRANSACTION_TIMEOUT:
        statements += _OPENING_17
    return statements


# The rows of several queries as one value.
_ALL: Final = "SELECT json_build_array({rows})::text"
_ROWS: Final = "(SELECT coalesce(json_agg(q), '[]') FROM ({query}) AS q)"
# The rows that a statement writes and returns, as one value.
_RETURNED: Final = "WITH q AS ({statement}) SELECT coalesce(json_agg(q), '[]')::text FROM q"
# The only value of a query, as it is sent.
_COPIED: Final = "COPY ({query}) TO STDOUT (FORMAT binary)"

Rows: TypeAlias = list[dict[str, Any]]
"""Rows of a query, with JSON's own types."""


class Asks(Protocol):
    """What can be asked in one round trip: a transaction, or the database in one of its own."""

    async def ask(self, *queries: str) -> list[Rows]:
        """Return the rows of each of some queries."""
        ...


async def asked_at_once(session: Session, begins: str, queries: Sequence[str]) -> list[Rows]:
    """Return the rows of each of some queries, in a transaction of their own and one round trip."""
    query = _COPIED.format(query=_all(queries))
    return _read(only_value(await copied_out(session, f"{begins}{query};COMMIT")))


def _all(queries: Iterable[str]) -> str:
    return _ALL.format(rows=", ".join(_ROWS.format(query=query) for query in queries))


def _read(sent: bytes) -> list[Rows]:
    found: list[Rows] = json.loads(sent)
    return found


class CopyRefused(Exception):
    """A COPY met a row that was there already, or a role that may not COPY: insert instead."""


class Connection:
    """A transaction in a session, in as few round trips as its statements allow.

    Statements carry their values (`backfill.store.quote`), so the server is never asked what a type
    is. What begins the transaction goes along with its first statement, and what is put off with
    the next one or with the end, in the order in which it was given.

    Parameters
    ----------
    session
        A connection of the pool, in no transaction.
    begins
        The statements that begin one.
    may_copy
        Whether rows may go straight into a table that may hold them.

    Its ``trips`` are the times that it has waited for the server.
    """

    def __init__(self, session: Session, begins: str, *, may_copy: bool) -> None:
        self._session = session
        self._begins = begins
        self._put_off = [begins]
        self._rows: AsyncIterator[bytes] | None = None
        self.may_copy = may_copy
        self.trips = 0

    @property
    def told_pid(self) -> int:
        """The server process that the session was told of when it began; a pooler tells its own."""
        return int(self._session.get_server_pid())

    def later(self, statement: str, *values: object) -> None:
        """Put a statement off; nobody hears what it did but by the state of the tables."""
        self._put_off.append(quote.bound(statement, *values))

    async def copy_later(self, statement: str, rows: AsyncIterator[bytes]) -> None:
        """Put a COPY of rows off; the transaction is done again without one where it is refused."""
        if self._rows is not None:
            await self.flush()
        self._put_off.append(statement)
        self._rows = rows

    async def execute(self, statement: str, *values: object) -> str:
        """Run a statement in one round trip, and return how the server calls what it did."""
        self.later(statement, *values)
        return await self.flush()

    async def ask(self, *queries: str) -> list[Rows]:
        """Return the rows of each of some queries in one round trip, with JSON's own types.

        They see the same state of the tables: that after all that was put off.
        """
        return _read(await self.value(_all(queries)))

    async def returned(self, statement: str, *values: object) -> Rows:
        """Run one statement that writes, and return what it returns, as `ask` does of queries."""
        rows: Rows = json.loads(await self.value(_RETURNED.format(statement=statement), *values))
        return rows

    async def value(self, query: str, *values: object) -> bytes:
        """Return the only value of a query's only row, as it is sent, in one round trip."""
        if self._rows is not None:
            await self.flush()
        self.later(_COPIED.format(query=query), *values)
        self.trips += 1
        return only_value(await copied_out(self._session, self._taken()))

    async def fetch(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query, in two round trips."""
        found: list[Any] = await (await self._ready()).fetch(quote.bound(query, *values))
        return found

    async def fetchrow(self, query: str, *values: object) -> Any:
        """Return the first row of a query, None if there is none, in two round trips."""
        return await (await self._ready()).fetchrow(quote.bound(query, *values))

    async def fetchval(self, query: str, *values: object) -> Any:
        """Return the first value of a query's first row, in two round trips."""
        return await (await self._ready()).fetchval(quote.bound(query, *values))

    async def fetch_given(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a library's query, which takes its values as parameters.

        It is two round trips, and more where asyncpg has to ask what a type is.
        """
        found: list[Any] = await (await self._ready()).fetch(query, *values)
        return found

    async def prepare(self, statement: str) -> Any:
        """Return a statement as asyncpg prepares it."""
        return await (await self._ready()).prepare(statement)

    async def flush(self) -> str:
        """Do what was put off in one round trip; return how the server calls the last of it."""
        rows, self._rows = self._rows, None
        self.trips += 1
        if rows is None:
            return str(await self._session.execute(self._taken()))
        try:
            return await copied_in(self._session, self._taken(), rows)
        except (asyncpg.UniqueViolationError, asyncpg.FeatureNotSupportedError) as error:
            raise CopyRefused from error

    async def commit(self) -> None:
        """End the transaction, and do what was put off; one without a statement never began."""
        if self._put_off != [self._begins]:
            await self.execute("COMMIT")

    async def _ready(self) -> Session:
        if self._put_off:
            await self.flush()
        self.trips += 2
        return self._session

    def _taken(self) -> str:
        put_off, self._put_off = self._put_off, []
        return ";\n".join(put_off)


async def take_back(connection: Session, error: BaseException) -> None:
    """Roll a transaction back; the session goes where that can't be done, and the work with it."""
    if isinstance(error, asyncpg.InternalClientError):
        # asyncpg 0.32 loses track of a session that the server ends amid a COPY, or before one.
        connection.terminate()
    elif not connection.is_closed():
        try:
            await connection.execute("ROLLBACK")
        except FAULTS:
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise
