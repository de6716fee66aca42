"""The database: connections that keep no state outside a transaction, and faults made typed."""

# Over 300 lines: opening, retrying and giving up connections is one machine with one set of
# invariants.

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

import asyncpg
import structlog

from backfill.errors import DatabaseError
from backfill.store.address import Address, read_url
from backfill.store.faults import FAULTS, FULL, passes, said, tell_unless_lost, unreachable
from backfill.store.path import look, seen
from backfill.store.quote import identifier
from backfill.store.session import (
    WORKING,
    Connection,
    CopyRefused,
    Manner,
    Rows,
    asked_at_once,
    connected,
    keep_as_it_is,
    opening,
    see_authorities,
    take_back,
)
from backfill.store.trip import Session, copied_out
from backfill.store.turns import Turns

__all__ = ["CONNECTIONS", "Connection", "Database"]

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()

CONNECTIONS: Final = WORKING.connections
_CONNECT_S: Final = 10.0
_STATEMENT_S: Final = 60.0
_CLOSE_S: Final = 1.0
_PROBE_S: Final = 2.0


class Database:
    """A pool that works through a transaction-mode pooler.

    No prepared statement, setting or lock outlives its transaction. Work that meets a passing
    fault (a restart, a dropped connection, a deadlock, a lock that is held too long) is done
    again, so it must be safe to repeat.
    """

    def __init__(self, pool: asyncpg.Pool, address: Address, manner: Manner) -> None:
        self._pool = pool
        self._address = address
        self._manner = manner
        self._turns = Turns(manner.connections)
        self._schemas: tuple[str, ...] = ()
        self._has_ledger = False
        self._transaction_needed = True
        self._under_way: set[asyncio.Task[Any]] = set()
        self._trip_s = math.inf

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, manner: Manner = WORKING) -> AsyncIterator["Database"]:
        """Connect to the database of a URL and close every connection at the end.

        Raises
        ------
        UsageError
            If it is no Postgres URL, or names a schema that isn't there.
        SchemaMismatch
            If somebody else's function stands in the schema of our tables, to be called for ours.
        LoginRefused
            If the server does not take the login.
        DatabaseError
            If it can't be reached.
        """
        address = read_url(url)
        see_authorities(address)
        if address.dropped:
            log.warning("database.url_parameters_dropped", names=list(address.dropped))
        loop = asyncio.get_running_loop()
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(tell_unless_lost)
        pool = await asyncpg.create_pool(
            **address.arguments,
            min_size=0,  # a pool that keeps a floor retries aloud, with tracebacks
            max_size=manner.connections + 1,  # one may be listening
            timeout=_CONNECT_S,
            command_timeout=_STATEMENT_S,
            statement_cache_size=0,
            connect=connected,
            reset=keep_as_it_is,
        )
        database = cls(pool, address, manner)
        try:
            try:
                await database._again(database._reach)
            except (*FAULTS, UnicodeError) as error:
                raise unreachable(error) from None
            yield database
        finally:
            await database._close()

    @property
    def has_ledger(self) -> bool:
        """Whether anything was ever migrated here, as it was seen when the database was opened."""
        return self._has_ledger

    @property
    def schema(self) -> str:
        """The schema of our tables, as SQL takes it."""
        return identifier(self._schemas[0])

    @property
    def trip_s(self) -> float:
        """The least time that a round trip has taken, in seconds; 0 before the first."""
        return self._trip_s if math.isfinite(self._trip_s) else 0.0

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do work in one transaction and return its result.

        Where a COPY is refused, it is done again without.

        Raises
        ------
        DatabaseError
            If a fault stays, or isn't a passing one.
        """

        async def again(*, may_copy: bool) -> _T:
            return await self._left_at_once(self._in_transaction(work, may_copy=may_copy))

        try:
            return await self._retried(partial(again, may_copy=True))
        except CopyRefused:
            return await self._retried(partial(again, may_copy=False))

    async def run_once(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do work in one transaction as `run` does, but never again: it isn't safe to repeat.

        Raises
        ------
        DatabaseError
            If any fault ends it.
        """
        try:
            return await self._left_at_once(self._in_transaction(work, may_copy=False))
        except FAULTS as error:
            raise DatabaseError(f"the database refused: {said(error)}") from error

    async def fetch_row(self, query: str, *values: object) -> asyncpg.Record:
        """Run one statement in a transaction of its own and return its only row.

        Raises
        ------
        DatabaseError
            As `run` does.
        """

        async def work(connection: Connection) -> asyncpg.Record:
            return await connection.fetchrow(query, *values)

        return await self.run(work)

    async def row_at_once(self, query: str) -> list[str]:
        """Run one statement that carries its values and return its only row, as text.

        It takes one round trip, in a transaction where only that can name the isolation. The
        statement names the schema of all that isn't PostgreSQL's own.

        Raises
        ------
        DatabaseError
            As `run` does.
        """

        async def send(session: Session) -> str:
            begins = self._opening(session) if self._transaction_needed else ""
            return await _copied(session, query, begins)

        return (await self._at_once(send)).split("\t")

    async def execute_at_once(self, query: str) -> None:
        """Run one statement that carries its values in a transaction, in one round trip.

        Raises
        ------
        DatabaseError
            As `run` does.
        """

        async def send(session: Session) -> None:
            await session.execute(f"{self._opening(session)}{query};COMMIT")

        await self._at_once(send)

    async def ask(self, *queries: str) -> list[Rows]:
        """Return the rows of each of some queries, with JSON's own types, in one round trip.

        It is a transaction of its own: all see the same state of the tables.

        Raises
        ------
        DatabaseError
            As `run` does.
        """

        async def send(session: Session) -> list[Rows]:
            return await asked_at_once(session, self._opening(session), queries)

        return await self._at_once(send)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that each empty notice on a channel sets, on a connection of its own.

        Where notices don't come, or the connection breaks, the event is never set; whoever waits
        for it must look now and then anyhow.
        """
        heard = asyncio.Event()

        def hear(payload: str) -> None:
            if not payload:
                heard.set()

        async with self.hearing(channel, hear):
            yield heard

    @asynccontextmanager
    async def hearing(
        self, channel: str, hear: Callable[[str], None]
    ) -> AsyncIterator[asyncio.Event]:
        """Have the notices on a channel heard, on a connection of its own.

        Yields an event that is set once none comes any more. A pooler that lends connections for a
        transaction each passes no notices on, and says nothing of it: one that nobody else hears is
        sent first.
        """
        arrived, lost = asyncio.Event(), asyncio.Event()
        probe = f"probe_{uuid4().hex}"

        def take(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            hear(payload)

        def arrive(*_: object) -> None:
            arrived.set()

        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._pool.acquire(timeout=_CONNECT_S))
                connection.add_termination_listener(lambda _connection: lost.set())
                for name, told in ((channel, take), (probe, arrive)):
                    await connection.add_listener(name, told)
                    stack.push_async_callback(_stop_listening, connection, name, told)
                await self.fetch_row("SELECT pg_notify($1, '')", probe)
                async with asyncio.timeout(_PROBE_S):
                    await arrived.wait()
            except (*FAULTS, DatabaseError):
                await stack.aclose()
                lost.set()
            yield lost

    def _opening(self, session: Session) -> str:
        return opening(session, self._schemas, self._manner)

    async def _reach(self) -> None:
        """Open the first connection, and see which schemas to work in."""
        named = self._address.search_path
        async with self._lent() as session:
            found = seen(await _copied(session, look(named)), named)
        self._schemas = found.schemas
        self._has_ledger = found.has_ledger
        self._transaction_needed = found.isolation != "read committed"

    async def _at_once(self, send: Callable[[Session], Awaitable[_T]]) -> _T:
        """Send all of a transaction in one round trip."""

        async def work() -> _T:
            async with self._lent() as session:
                try:
                    return await send(session)
                except BaseException as error:
                    await take_back(session, error)
                    raise

        async def again() -> _T:
            return await self._left_at_once(work())

        return await self._retried(again)

    async def _in_transaction(
        self, work: Callable[[Connection], Awaitable[_T]], *, may_copy: bool
    ) -> _T:
        async with self._lent() as session:
            connection = Connection(session, self._opening(session), may_copy=may_copy)
            clock = asyncio.get_running_loop().time
            began_s = clock()
            try:
                result = await work(connection)
                await connection.commit()
            except BaseException as error:
                await take_back(session, error)
                raise
            if connection.trips:
                self._trip_s = min(self._trip_s, (clock() - began_s) / connection.trips)
            return result

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Session]:
        """Lend a connection for a piece of work, when its turn has come."""
        async with self._turns.taken():
            try:
                session = await self._pool.acquire(timeout=_CONNECT_S)
            except FULL:
                self._turns.give_one_up()
                raise
            try:
                yield session
            finally:
                await self._pool.release(session)

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
        try:
            return await self._again(work)
        except FAULTS as error:
            raise DatabaseError(f"the database refused: {said(error)}") from error

    async def _again(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do work, again if a passing fault ends it; the fault that stays is raised as it is."""
        try:
            return await work()
        except FAULTS as error:
            if not passes(error):
                raise
            from backfill.store.again import again_after

            return await again_after(error, work, self._manner.tries)


async def _copied(session: Session, query: str, begins: str = "") -> str:
    """Return the only row of a query as COPY writes it, in a transaction if that is begun."""
    ends = ";COMMIT" if begins else ""
    copied = await copied_out(session, f"{begins}COPY ({query}) TO STDOUT{ends}")
    return copied.decode().rstrip("\n")


async def _stop_listening(connection: Session, channel: str, hear: Callable[..., None]) -> None:
    with suppress(*FAULTS):  # one whose session has ended is out of reach
        try:
            async with asyncio.timeout(_CLOSE_S):
                await connection.remove_listener(channel, hear)
        except TimeoutError:
            connection.terminate()
