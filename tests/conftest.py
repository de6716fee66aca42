"""A real Postgres, a simulated provider over HTTP, and the real command."""

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from backfill.core.calendar import ZONES
from backfill.core.timeframe import Timeframe
from backfill.providers import PROVIDERS
from backfill.simulator import Market, Simulator, run_in_thread
from backfill.store.migrate import migrate
from backfill.store.pool import Database
from backfill.store.sessions import load_calendar
from tests import hosts
from tests.forked import Forks

_T = TypeVar("_T")

NOW = datetime(2024, 11, 12, 12, tzinfo=UTC)
"""A Tuesday noon; two years before it hold both changes of daylight time, twice."""

KEY = "sim-key"

MARKET = Market()
"""The simulated market: drawn once, as far as anybody asks."""

# No deadlines, nor a check of how fast examples are drawn: a shared machine's clock proves nothing.
# What a test's examples share of its fixtures they share on purpose. `make test` and `make wide`
# try the same examples each time, so what they say is of the change; `make soak` looks for others.
_NOT_CHECKED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
FEW = 20
"""How many examples `make test` has time for."""
for _name, _examples in (("some", FEW), ("many", 150), ("others", 150)):
    settings.register_profile(
        _name,
        deadline=None,
        derandomize=_name != "others",
        suppress_health_check=_NOT_CHECKED,
        max_examples=_examples,
    )
settings.load_profile(os.environ.get("BACKFILL_TEST_EXAMPLES", "some"))

SHARED = settings(max_examples=settings().max_examples // 4)
"""The examples of a test that is run for many parameters, which share them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which tests write down what they see."""
    parser.addoption("--reliability", metavar="PATH", help="write what faults did to this page")
    parser.addoption("--screens", action="store_true", help="record what terminals show now")


def pytest_configure(config: pytest.Config) -> None:
    """Have a page written of what tests see, if one is asked for."""
    if page := config.getoption("reliability"):
        from tests.faults.recording import Recording

        config.pluginmanager.register(Recording(Path(page)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes or waits longest, so that all workers end at about the same time."""
    longest = ("faults", "screens", "providers", "integration")

    def turn(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return longest.index(folder) if folder in longest else len(longest)

    items.sort(key=turn)


def pytest_collection_finish() -> None:
    """Never look for circles again among what all the tests are made of."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """End what commands were forked from."""
    FORKS.close()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a Postgres server that lives as long as the tests; `hosts` tells which."""
    with hosts.chosen_server() as url:
        # Nothing here outlives a crash, and a checkpoint that waits for the disk takes seconds.
        blocking(_execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"))
        yield url


def _in_database(url: str, name: str) -> str:
    return url.replace("/postgres?", f"/{name}?")


def blocking(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine from a test that is none, whether or not a loop runs in this thread."""
    with asyncio.Runner() as runner:
        return runner.run(work)


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _copy(server: str, template: str, name: str) -> None:
    """Make a database that is like another.

    Copying files takes a quarter of the time that a write-ahead log of each page takes, and is
    the only way before PostgreSQL 15.
    """
    connection = await asyncpg.connect(server)
    try:
        by_files = "STRATEGY FILE_COPY" if connection.get_server_version() >= (15,) else ""
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {by_files}")
    finally:
        await connection.close()


async def _leave(server: str, name: str) -> None:
    """End the sessions that a pooler still holds in a database that is to be copied."""
    await _execute(
        server,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()",
    )


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database that holds the schema and nothing else."""

    async def make() -> None:
        await _execute(server, "CREATE DATABASE schema_only")
        async with Database.connect(_in_database(server, "schema_only")) as database:
            await migrate(database)
        await _leave(server, "schema_only")

    blocking(make())
    return "schema_only"


@pytest.fixture(scope="session")
def with_calendars(server: str, template: str) -> str:
    """The name of a database that holds the schema and all sessions of the calendars.

    It takes half a second to fill them; also today's are there, for who asks by the clock.
    """

    async def make() -> None:
        await _execute(server, f"CREATE DATABASE with_calendars TEMPLATE {template}")
        async with Database.connect(_in_database(server, "with_calendars")) as database:
            for name in ZONES:
                await load_calendar(database, name, "sip", NOW.date(), datetime.now(UTC).date())
        await _leave(server, "with_calendars")

    blocking(make())
    return "with_calendars"


@pytest.fixture
def empty_url(server: str) -> Iterator[str]:
    """The URL of a database without any table."""
    yield from _fresh(server, "template1")


@pytest.fixture
def database_url(server: str, with_calendars: str) -> Iterator[str]:
    """The URL of a database with the schema and the calendars, and nothing else."""
    yield from _fresh(server, with_calendars)


# Where a server's rules of access stand. One that runs in its own folder names them by that.
HBA_FILE = """
    SELECT replace(
        current_setting('hba_file'),
        '/proc/self/',
        '/proc/' || split_part(pg_read_file('postmaster.pid'), chr(10), 1) || '/'
    )
"""


def _fresh(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    blocking(_copy(server, template, name))
    yield _in_database(server, name)
    blocking(_execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The database of `database_url`, connected."""
    async with Database.connect(database_url) as connected:
        yield connected


@pytest.fixture(scope="session")
def market() -> Market:
    """The simulated market: the truth that tables are compared with."""
    return MARKET


@pytest.fixture
def simulate(market: Market) -> Iterator[Callable[..., Simulator]]:
    """Start simulated providers, each in a thread of its own; options as of `Simulator`."""
    with ExitStack() as stack:

        def start(**options: Any) -> Simulator:
            given: dict[str, Any] = {"market": market, "key": KEY, "now": NOW} | options
            running: AbstractContextManager[Simulator] = run_in_thread(Simulator(**given))
            return stack.enter_context(running)

        yield start


_PROVIDERS = [name.upper() for name in PROVIDERS]
_NOT_INHERITED = {
    *("DATABASE_URL", "MASSIVE_API_KEY", "POLYGON_API_KEY", "CI", "GITHUB_ACTIONS"),
    *(f"{name}_{what}" for name in _PROVIDERS for what in ("URL", "PLAN", "QUOTA")),
    "PYTHONDONTWRITEBYTECODE",  # compiling anew takes an eighth of a command's time
}
_READ_LATE = (
    *("DATABASE_URL", "POLYGON_", "BACKFILL_", "GITHUB_"),
    *(f"{name}_" for name in _PROVIDERS),
)
"""How the names begin of what a command reads by itself, no library or interpreter before it."""
FORKS = Forks()


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed on stdout, which must be one JSON object and nothing else."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that it logged."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


def first_of(*values: Any) -> list[Any]:
    """Values of one kind for a parameter: `make test` takes the first, `make wide` the others."""
    first, *others = values
    return [first, *(pytest.param(one, marks=pytest.mark.wide) for one in others)]


RAN: list[Ended] = []
"""The commands that ended by themselves, since this was last cleared."""


@dataclass(frozen=True)
class Cli:
    """The command ``backfill`` in a process of its own, with the environment of a test."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, timeout: float = 120, **environment: str) -> Ended:
        """Run a command to its end."""
        if all(name.startswith(_READ_LATE) for name in self.environment | environment):
            ended = Ended(*FORKS.run(list(arguments), self.environment_with(environment), timeout))
        else:
            process = self.start(*arguments, **environment)
            out, err = process.communicate(timeout=timeout)
            ended = Ended(process.returncode, out, err)
        RAN.append(ended)
        return ended

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "backfill", *arguments],
            env=self.environment_with(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment_with(self, environment: dict[str, str]) -> dict[str, str]:
        """Return the environment of a command that is given some variables more."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("BACKFILL_") and name not in _NOT_INHERITED
        }
        return inherited | self.environment | environment


@pytest.fixture
def cli(database_url: str) -> Callable[..., Cli]:
    """Return a command line for a simulated provider and the test's database."""

    def make(simulator: Simulator, **environment: str) -> Cli:
        return Cli(
            {
                "DATABASE_URL": database_url,
                "BACKFILL_PROVIDER_URL": simulator.url,
                "MASSIVE_API_KEY": KEY,
                "BACKFILL_PLAN": "free",
                "BACKFILL_QUOTA": "unlimited",
            }
            | environment
        )

    return make


def query(url: str, sql: str, *values: object) -> list[asyncpg.Record]:
    """Return the rows of a query."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
            return rows
        finally:
            await connection.close()

    return blocking(fetch())


def stored_bars(url: str, ticker: str, timeframe: Timeframe) -> list[tuple[Any, ...]]:
    """Return the rows of a series as (ts_ms, open, high, low, close, volume, vwap, count)."""
    rows = query(
        url,
        """
        SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts_ms,
            open, high, low, close, volume, vwap, trade_count
        FROM ohlc_bars AS o
        JOIN symbols AS s ON s.id = o.symbol_id
        WHERE s.ticker = $1 AND o.timeframe = $2::text::timeframe
        ORDER BY ts
        """,
        ticker,
        str(timeframe),
    )
    return [tuple(row) for row in rows]
