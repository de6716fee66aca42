"""The database: connections that keep no state outside a transaction, and faults made typed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import asyncpg
import structlog
import tenacity

from backfill.errors import BackfillError, DatabaseError, LoginRefused, UsageError

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy"
_T = TypeVar("_T")

log = structlog.stdlib.get_logger()

CONNECTIONS: Final = 6
_CONNECT_S: Final = 10.0
_STATEMENT_S: Final = 60.0
_CLOSE_S: Final = 1.0
_SEND_BUFFER: Final = 2**21
"""In bytes; the system may allow less."""
_ATTEMPTS: Final = 6
_PROBE_S: Final = 2.0
_LIMITS: Final = "SET LOCAL statement_timeout = '55s'; SET LOCAL lock_timeout = '20s'"

_URL_PARAMETERS: Final = {
    "host", "port", "user", "password", "passfile", "dbname", "database", "sslmode", "sslcert",
    "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
}  # fmt: skip

_FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_LOGIN: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_TRANSIENT: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class Database:
    """A pool that works through a transaction-mode pooler.

    No prepared statement, setting or lock outlives its transaction. Work that meets a passing
    fault (a restart, a dropped connection, a deadlock, a lock that is held too long) is done
    again, so it must be safe to repeat.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._under_way: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["Database"]:
        """Connect to the database of a URL and close every connection at the end.

        Raises
        ------
        UsageError
            If it is no Postgres URL.
        LoginRefused
            If the server does not take the login.
        DatabaseError
            If it can't be reached.
        """
        try:
            pool = await asyncpg.create_pool(
                _without_unknown_parameters(url),
                min_size=0,  # a pool that keeps a floor retries aloud, with tracebacks
                max_size=CONNECTIONS,
                timeout=_CONNECT_S,
                command_timeout=_STATEMENT_S,
                statement_cache_size=0,
                connect=_connected,
                reset=_keep_as_it_is,
            )
            async with pool.acquire(timeout=_CONNECT_S):
                pass  # it can be reached, and takes the login
        except asyncpg.ClientConfigurationError as error:
            raise UsageError(f"DATABASE_URL can't be used: {said(error)}") from None
        except ssl.SSLCertVerificationError as error:
            raise DatabaseError(
                f"the database's certificate is refused: {error.verify_message}"
            ) from None
        except ValueError:
            # Its message quotes what was read as the port: often the first half of a password.
            raise UsageError(
                "DATABASE_URL can't be read: is its port a number, and are the characters "
                "@ / ? # [ ] % of its password percent-encoded (@ as %40)?"
            ) from None
        except _LOGIN as error:
            raise LoginRefused(f"the database can't be reached: {said(error)}") from None
        except _FAULTS as error:
            raise DatabaseError(f"the database can't be reached: {said(error)}") from None
        database = cls(pool)
        try:
            yield database
        finally:
            await database._close()

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do work in one transaction and return its result.

        Raises
        ------
        DatabaseError
            If a fault stays, or isn't a passing one.
        """

        async def again() -> _T:
            return await self._left_at_once(self._in_transaction(work))

        return await self._retried(again)

    async def fetch_row(self, query: str, *values: object) -> asyncpg.Record:
        """Run one statement that stands alone and return its only row.

        Raises
        ------
        DatabaseError
            As `run` does.
        """

        async def work() -> asyncpg.Record:
            return await self._left_at_once(self._pool.fetchrow(query, *values))

        return await self._retried(work)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that each empty notice on a channel sets, on a connection of its own.

        A pooler that lends connections for a transaction each passes no notices on, and says
        nothing of it: one to itself is sent first. Where that doesn't come, or the connection
        breaks, the event is never set; whoever waits for it must look now and then anyhow.
        """
        heard, arrived = asyncio.Event(), asyncio.Event()
        token = uuid4().hex

        def hear(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            if not payload:
                heard.set()
            elif payload == token:
                arrived.set()

        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._pool.acquire(timeout=_CONNECT_S))
                await connection.add_listener(channel, hear)
                stack.push_async_callback(_stop_listening, connection, channel, hear)
                await self.fetch_row("SELECT pg_notify($1, $2)", channel, token)
                async with asyncio.timeout(_PROBE_S):
                    await arrived.wait()
            except (*_FAULTS, DatabaseError):
                await stack.aclose()
            yield heard

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        async with self._pool.acquire(timeout=_CONNECT_S) as connection:
            try:
                async with connection.transaction():
                    await connection.execute(_LIMITS)
                    return await work(connection)
            except asyncpg.InternalClientError:
                # asyncpg 0.31 loses track of a session that the server ends amid a COPY.
                connection.terminate()
                raise

    async def _left_at_once(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await work; when cancelled, leave it to roll back by itself: a silent server takes long.

        How it ends interests nobody then, and so `_close` sees it end: the loop would tell of it.
        """
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSE_S)

    async def _retried(self, work: Callable[[], Awaitable[_T]]) -> _T:
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(multiplier=0.25, max=5.0, jitter=0.25),
            retry=tenacity.retry_if_exception_type(_TRANSIENT),
            before_sleep=_note_retry,
            reraise=True,
        )
        try:
            return await attempts(work)
        except BackfillError:
            raise
        except _FAULTS as error:
            raise DatabaseError(f"the database refused: {said(error)}") from error


async def _connected(*address: Any, **options: Any) -> asyncpg.Connection:
    """Connect, and let a local socket hold as many rows as one to another host does.

    The kernel sizes the buffers of TCP by itself. A Unix socket's takes two milliseconds' worth of
    rows, after which the server waits for the event loop: a tenth of the time of a load. asyncpg
    (0.31) tells nobody its socket.
    """
    connection = await asyncpg.connect(*address, **options)
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    opened = transport.get_extra_info("socket") if transport else None
    if opened is not None and opened.family == getattr(socket, "AF_UNIX", None):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return connection


async def _keep_as_it_is(_connection: Connection) -> None:
    """Reset nothing when a connection returns to the pool: nothing was set."""


async def _stop_listening(connection: Connection, channel: str, hear: Callable[..., None]) -> None:
    with suppress(*_FAULTS):  # one whose session has ended is out of reach
        try:
            async with asyncio.timeout(_CLOSE_S):
                await connection.remove_listener(channel, hear)
        except TimeoutError:
            connection.terminate()


def _note_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("database.retry", attempt=state.attempt_number, message=said(error))


def said(error: BaseException | None) -> str:
    """Return what a fault says, on one line."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:300]


def _without_unknown_parameters(url: str) -> str:
    """Drop URL parameters that are meant for other clients, such as ``pgbouncer=true``.

    asyncpg would send them to the server as settings, which a pooler refuses.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise UsageError("DATABASE_URL must begin with postgresql://")
    given = parse_qsl(parts.query, keep_blank_values=True)
    known = [(name, value) for name, value in given if name in _URL_PARAMETERS]
    for name, value in known:
        if name == "sslrootcert":
            _see_authorities(value)
    if len(known) < len(given):
        dropped = [
            name if name.isidentifier() else "…" for name, _ in given if name not in _URL_PARAMETERS
        ]
        log.warning("database.url_parameters_dropped", names=dropped)
    return parts._replace(query=urlencode(known)).geturl()


def _see_authorities(path: str) -> None:
    """Read a file of certificates, whose faults asyncpg would tell as those of a server."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise UsageError(
            f"DATABASE_URL can't be used: sslrootcert={path} can't be read: {said(error)}"
        ) from None
