"""No sliding window exceeds the quota, and the quota is used, by the provider's clock (R13)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli

if TYPE_CHECKING:
    from subprocess import Popen

LIMIT, WINDOW_S = 20, 3.0
QUOTA = "20/3s"


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


def assert_strict(simulator: Simulator, calls: int) -> None:
    """See that every call was answered, and that none was one too many for its window."""
    assert [call.status for call in simulator.calls] == [200] * calls
    times = sorted(call.at_s for call in simulator.calls)
    assert min(later - at for at, later in zip(times, times[LIMIT:], strict=False)) >= WINDOW_S


def utilisation(simulator: Simulator, calls: Sequence[int]) -> float:
    """Return how much of the quota some of the calls used, by R13's formula."""
    times = [simulator.calls[index].at_s for index in calls]
    return (len(times) - 1) * WINDOW_S / (LIMIT * (max(times) - min(times)))


def test_two_hundred_calls_use_the_quota_and_never_exceed_it(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate(quota=QUOTA)

    assert_ended_well(run_of(cli(simulator, BACKFILL_QUOTA=QUOTA), 0, 200))

    assert_strict(simulator, 200)
    assert 0.95 <= utilisation(simulator, range(200)) <= 1.0


def test_a_run_straight_after_another_keeps_within_the_windows_that_the_first_has_filled(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate(quota=QUOTA)
    run = cli(simulator, BACKFILL_QUOTA=QUOTA)

    assert_ended_well(run_of(run, 0, 100))
    assert_ended_well(run_of(run, 100, 100))

    assert_strict(simulator, 200)
    for calls in (range(100), range(100, 200)):
        assert 0.95 <= utilisation(simulator, calls) <= 1.0


def test_two_runs_at_once_share_the_quota_and_use_it_together(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate(quota=QUOTA)
    run = cli(simulator, BACKFILL_QUOTA=QUOTA)

    at_once = [run_of(run, 0, 100), run_of(run, 100, 100)]
    for process in at_once:
        assert_ended_well(process)

    assert_strict(simulator, 200)
    assert 0.95 <= utilisation(simulator, range(200)) <= 1.0
    # They took turns: each had its share of the first half.
    early = [call.path.split("/")[4] for call in simulator.calls[:100]]
    assert 25 <= sum(ticker < "SIM100" for ticker in early) <= 75
