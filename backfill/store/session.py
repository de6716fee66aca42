"""One session with a server: how it is opened, and how a transaction in it begins and ends."""

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from backfill.errors import UsageError
from backfill.store.address import Address
from backfill.store.faults import FAULTS, said
from backfill.store.path import setting

if TYPE_CHECKING:
    import asyncio

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy"

_SEND_BUFFER: Final = 2**21
"""In bytes; the system may allow less."""

# What a transaction is and how long it may take, whatever the defaults of server, database and role
# are, in one round trip with its beginning. Whether it may write is theirs to say.
_OPENING: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = '55s';
    SET LOCAL lock_timeout = '20s';
    SET LOCAL idle_in_transaction_session_timeout = '60s';
"""
# A clock that runs is not set anew: it has to be stopped first.
_OPENING_17: Final = "SET LOCAL transaction_timeout = 0; SET LOCAL transaction_timeout = '10min';"
_HAS_TRANSACTION_TIMEOUT: Final = 17


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


async def keep_as_it_is(_connection: Connection) -> None:
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


def opening(connection: Connection, schemas: Sequence[str]) -> str:
    """Return the statements that begin a transaction in some schemas, in one round trip."""
    statements = _OPENING + setting(schemas)
    if connection.get_server_version().major >= _HAS_TRANSACTION_TIMEOUT:
        statements += _OPENING_17
    return statements


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """Take back what is done within, and nothing else of the transaction, if it fails."""
    await connection.execute("SAVEPOINT trial")
    try:
        yield
    except asyncpg.PostgresError:
        await connection.execute("ROLLBACK TO SAVEPOINT trial")
        raise
    await connection.execute("RELEASE SAVEPOINT trial")


async def take_back(connection: Connection, error: BaseException) -> None:
    """Roll a transaction back; the session goes where that can't be done, and the work with it."""
    if isinstance(error, asyncpg.InternalClientError):
        # asyncpg 0.31 loses track of a session that the server ends amid a COPY.
        connection.terminate()
    elif not connection.is_closed():
        try:
            await connection.execute("ROLLBACK")
        except FAULTS:
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise
