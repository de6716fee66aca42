"""Databases for the tests that run the command: with the calendars, which take a second to fill."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.settings import Settings
from backfill.simulator import Simulator
from tests.conftest import KEY, _fresh, blocking
from tests.faults.proxy import Proxy
from tests.integration.store_kit import emptied

_COMMANDS = (
    *(
        "test_run_",
        "test_jobs_",
        "test_commands_",
        "test_quarantine",
        "test_views",
        "test_validation",
        "test_actions_",
        "test_serve_",
    ),
    "test_first_hour",
    "test_gaps",
    "test_hand_written",
    "test_late_answers",
    "test_late_month",
    "test_symbol_events",
    "test_verify_against",
)


@pytest.fixture(scope="module")
def shared_url(server: str, template: str) -> Iterator[str]:
    """The URL of a database that the tests of a file take turns with."""
    yield from _fresh(server, template)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """The URL of a database with the schema; no rows, but sessions where the command is run.

    The tests of a file that is marked ``one_database`` take turns with one.
    """
    if request.node.get_closest_marker("one_database"):
        yield emptied(request.getfixturevalue("shared_url"))
        return
    if request.module.__name__.rpartition(".")[2].startswith(_COMMANDS):
        template = request.getfixturevalue("with_calendars")
    yield from _fresh(server, template)


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy in front of the tests' Postgres."""
    with Proxy.before(server) as running:
        yield running


@pytest.fixture
def settings_here(
    simulator: Simulator, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """The settings of a run with a simulated provider in the test's database."""

    def load(**environment: str) -> Settings:
        for name, value in {
            "DATABASE_URL": database_url,
            "BACKFILL_PROVIDER_URL": simulator.url,
            "MASSIVE_API_KEY": KEY,
            "BACKFILL_PLAN": "unlimited",
            "BACKFILL_ADJUSTMENT": "raw",
            **environment,
        }.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return load


@pytest.fixture
def run_here(
    simulator: Simulator, settings_here: Callable[..., Settings]
) -> Callable[..., api.Summary]:
    """Run a job in this process as of a day's noon; d1 unless timeframes are named."""

    def one(
        day: str,
        symbol: str,
        first: str,
        *timeframes: Timeframe,
        mode: api.Mode = api.Mode.default,
        **environment: str,
    ) -> api.Summary:
        now = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
        simulator.set_now(now)
        job = api.Job(
            symbols=(symbol,),
            timeframes=timeframes or (Timeframe.d1,),
            first=api.Bound(date.fromisoformat(first)),
            as_of=now,
            mode=mode,
        )
        return blocking(api.run(settings_here(**environment), job))

    return one
