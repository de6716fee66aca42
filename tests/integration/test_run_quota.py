"""No sliding window exceeds the quota, and the quota is used, by the provider's clock (R13)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from backfill.core.timeframe import Timeframe
from backfill.run.orchestrator import WORKERS
from backfill.simulator import Market, Simulator
from tests.conftest import NOW, Cli
from tests.faults import tables
from tests.faults.command import eventually

if TYPE_CHECKING:
    from subprocess import Popen

pytestmark = pytest.mark.timing

LIMIT, WINDOW_S = 20, 3.0
QUOTA = "20/3s"


@pytest.fixture
def quota() -> str:
    """The quota that the provider enforces."""
    return QUOTA


@pytest.fixture
def strict(simulate: Callable[..., Simulator], market: Market, quota: str) -> Simulator:
    """A provider with the quota that has drawn its market: a first call must not hold up others.

    It stamps a call when it gets to it, and the first one would keep it busy for a while.
    """
    for number in range(200):
        assert len(market.bars(f"SIM{number:03}", Timeframe.d1, 0, round(NOW.timestamp() * 1000)))
    return simulate(quota=quota)


ACTIONS = 2
"""The calls that list splits and dividends, once, after the first run's bars."""


def run_of(run: Cli, first: int, count: int) -> "Popen[str]":
    """Start a run of one call for each of some symbols."""
    tickers = ",".join(f"SIM{number:03}" for number in range(first, first + count))
    return run.start(
        *("run", "--symbols", tickers, "--timeframe", "d1", "--from", "2024-11-01"),
        *("--as-of", NOW.isoformat()),
    )


def assert_ended_well(process: "Popen[str]") -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def assert_strict(
    simulator: Simulator, calls: int, limit: int = LIMIT, window_s: float = WINDOW_S
) -> None:
    """See that every call was answered, and that none was one too many for its window."""
    assert [call.status for call in simulator.calls] == [200] * calls
    times = sorted(call.at_s for call in simulator.calls)
    assert min(later - at for at, later in zip(times, times[limit:], strict=False)) >= window_s


def utilisation(
    simulator: Simulator, calls: Sequence[int], limit: int = LIMIT, window_s: float = WINDOW_S
) -> float:
    """Return how much of the quota some of the calls used, by R13's formula."""
    times = [simulator.calls[index].at_s for index in calls]
    return (len(times) - 1) * window_s / (limit * (max(times) - min(times)))


def test_two_hundred_calls_use_the_quota_and_never_exceed_it(
    strict: Simulator, cli: Callable[..., Cli]
) -> None:

    assert_ended_well(run_of(cli(strict, BACKFILL_QUOTA=QUOTA), 0, 200))

    assert_strict(strict, 200 + ACTIONS)
    assert 0.95 <= utilisation(strict, range(200)) <= 1.0


@pytest.mark.soak
def test_a_run_straight_after_another_keeps_within_the_windows_that_the_first_has_filled(
    strict: Simulator, cli: Callable[..., Cli]
) -> None:
    run = cli(strict, BACKFILL_QUOTA=QUOTA)

    assert_ended_well(run_of(run, 0, 100))
    assert_ended_well(run_of(run, 100, 100))

    assert_strict(strict, 200 + ACTIONS)
    for calls in (range(100), range(100 + ACTIONS, 200 + ACTIONS)):
        assert 0.95 <= utilisation(strict, calls) <= 1.0


@pytest.mark.soak
def test_two_runs_at_once_share_the_quota_and_use_it_together(
    strict: Simulator, cli: Callable[..., Cli]
) -> None:
    run = cli(strict, BACKFILL_QUOTA=QUOTA)

    at_once = [run_of(run, 0, 100), run_of(run, 100, 100)]
    for process in at_once:
        assert_ended_well(process)

    assert_strict(strict, 200 + ACTIONS)
    assert 0.95 <= utilisation(strict, range(200)) <= 1.0
    # They took turns: each had its share of the first half.
    early = [call.path.split("/")[4] for call in strict.calls[:100]]
    assert 25 <= sum(ticker < "SIM100" for ticker in early) <= 75


@pytest.mark.soak
@pytest.mark.parametrize("quota", ["5/6s"])
def test_a_long_run_in_a_window_like_the_free_plans_loses_three_calls_of_a_hundred_at_most(
    strict: Simulator, cli: Callable[..., Cli], quota: str
) -> None:
    """Five calls in six seconds are a tenth of the free plan's window."""
    assert_ended_well(run_of(cli(strict, BACKFILL_QUOTA=quota), 0, 60))

    assert_strict(strict, 60 + ACTIONS, limit=5, window_s=6.0)
    used = utilisation(strict, range(60), limit=5, window_s=6.0)
    assert 0.97 <= used <= 1.0


@pytest.mark.soak
def test_four_runs_use_the_quota_and_three_of_them_do_the_work_of_one_that_is_killed(
    strict: Simulator,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
    empty_url: str,
) -> None:
    assert_ended_well(run_of(cli(simulate(), DATABASE_URL=empty_url), 0, 300))
    run = cli(strict, BACKFILL_QUOTA=QUOTA)

    killed, *others = [run_of(run, 0, 300) for _ in range(4)]
    eventually(lambda: len(strict.calls) >= 60)
    killed.kill()
    killed.communicate(timeout=10)
    for process in others:
        assert_ended_well(process)

    # What the dead run had asked for and not stored is asked for again, once its leases are over.
    again = len(strict.calls) - 300 - ACTIONS
    assert 0 <= again <= WORKERS
    assert_strict(strict, 300 + ACTIONS + again)
    # The slots that the dead run had taken are lost, and no others.
    assert utilisation(strict, range(60)) >= 0.95
    lost = WORKERS / len(range(60, 290))
    assert 0.95 - lost <= utilisation(strict, range(60, 290)) <= 1.0
    assert tables.bars(database_url) == tables.bars(empty_url)
    assert tables.leases(database_url) == 0
    assert sorted(status for _, status, _ in tables.ledger(database_url)) == [
        "interrupted", "ok", "ok", "ok",
    ]  # fmt: skip
