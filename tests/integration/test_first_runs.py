"""First runs that meet on an empty database: one makes the schema, the others wait and go on."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from subprocess import TimeoutExpired
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.run.execution import run
from backfill.run.job import Job
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from tests.conftest import KEY, NOW, Cli
from tests.faults import tables

RUNS = 4
SYMBOLS = ("AAPL", "MSFT", "NVDA")
COMMAND = (
    *("run", "--symbols", ",".join(SYMBOLS), "--timeframe", "d1", "--from", "2024-11-01"),
    *("--as-of", NOW.isoformat()),
)


@pytest.fixture
def first_run(empty_url: str) -> Callable[..., Cli]:
    """Return the command for a provider and a database without any table."""

    def make(simulator: Simulator) -> Cli:
        return Cli(
            {
                "DATABASE_URL": empty_url,
                "BACKFILL_PROVIDER_URL": simulator.url,
                "MASSIVE_API_KEY": KEY,
                "BACKFILL_QUOTA": "unlimited",
            }
        )

    return make


def of_one_run(url: str) -> list[tuple[Any, ...]]:
    """See that a table is that of one run, whose work was done once; return its digest."""
    found = tables.bars(url)
    assert [(ticker, bars) for ticker, _, bars, _ in found] == [(ticker, 7) for ticker in SYMBOLS]
    assert tables.leases(url) == 0
    assert [status for _, status, _ in tables.ledger(url)] == ["ok"] * RUNS
    return found


async def test_four_at_once_make_one_schema_and_the_table_of_one_run(
    simulate: Callable[..., Simulator], empty_url: str
) -> None:
    simulator = simulate()
    settings = Settings(
        database_url=Secret(empty_url),
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        provider_url=simulator.url,
        quota_override="unlimited",
    )
    job = Job(
        symbols=SYMBOLS,
        timeframes=(Timeframe.d1,),
        first=Bound(date(2024, 11, 1)),
        as_of=NOW,
    )
    ended = await asyncio.gather(*(run(settings, job) for _ in range(RUNS)))
    assert [one.exit_code for one in ended] == [0] * RUNS
    assert await asyncio.to_thread(of_one_run, empty_url)
    assert sum(call.kind == "bars" for call in simulator.calls) == len(SYMBOLS)


@pytest.mark.attack(2)
@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(20))
def test_four_commands_at_once_make_one_schema_and_the_table_of_one_run(
    simulate: Callable[..., Simulator],
    first_run: Callable[..., Cli],
    empty_url: str,
    attempt: int,
) -> None:
    simulator = simulate()
    going = [first_run(simulator).start(*COMMAND) for _ in range(RUNS)]
    for one in going:
        _, err = one.communicate(timeout=600)
        assert one.returncode == 0, (attempt, err)
    assert of_one_run(empty_url)


@pytest.mark.attack(2)
@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(20))
def test_a_first_run_that_is_killed_leaves_the_next_one_nothing_to_mend(
    simulate: Callable[..., Simulator], first_run: Callable[..., Cli], attempt: int
) -> None:
    command = first_run(simulate())
    first = command.start(*COMMAND)
    with suppress(TimeoutExpired):
        first.wait(random.Random(attempt).uniform(0, 3))
    first.kill()
    first.communicate()
    ended = command(*COMMAND)
    assert ended.code == 0, ended.err
