"""Every test here runs with a key of its own, and none of them may let it out (R26)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from backfill.simulator import Market, Simulator, run_in_thread
from tests.conftest import NOW, query
from tests.faults.command import KEY, Command, Kept
from tests.faults.proxy import Proxy
from tests.faults.servers import OwnServer

_TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture
def provider(market: Market) -> Iterator[Callable[..., Simulator]]:
    """Start simulated providers that accept the key of these tests."""
    with ExitStack() as stack:

        def start(**options: Any) -> Simulator:
            given: dict[str, Any] = {"market": market, "key": KEY, "now": NOW, **options}
            return stack.enter_context(run_in_thread(Simulator(**given)))

        yield start


@pytest.fixture
def kept() -> Kept:
    """The commands of a test."""
    return Kept()


@pytest.fixture
def command(database_url: str, kept: Kept) -> Iterator[Callable[..., Command]]:
    """Return the command for a provider; what it says and stores must not hold the key."""

    def make(simulator: Simulator, **environment: str) -> Command:
        return Command(
            {
                "DATABASE_URL": database_url,
                "BACKFILL_PROVIDER_URL": simulator.url,
                "MASSIVE_API_KEY": KEY,
                "BACKFILL_PLAN": "free",
                "BACKFILL_QUOTA": "unlimited",
            }
            | environment,
            kept,
        )

    yield make
    for going in tuple(kept.going):  # of a test that failed
        going.kill()
    assert kept.ended, "a test of the command that runs no command"
    for ended in kept.ended:
        assert KEY not in ended.out + ended.err
        assert "Traceback" not in ended.err
        assert "never retrieved" not in ended.err
    tables = [name for [name] in query(database_url, _TABLES)]
    each = (
        f"SELECT '{name}' FROM {name} AS t WHERE t::text LIKE '%' || $1::text || '%'"
        for name in tables
    )
    assert query(database_url, " UNION ALL ".join(each), KEY) == [], "a table holds the key"


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy in front of the tests' Postgres."""
    with Proxy.before(server) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A Postgres server that a test may restart, or fill up."""
    with OwnServer.started() as running:
        yield running
