"""No sliding window exceeds the quota however late calls are, and the quota is used (R13).

The provider counts by arrival, and shows no mercy. A test of time asserts what must hold on any
machine; how much of the quota is used is measured by the slots' own stamps, which the database
keeps, so that a busy machine makes a call long and not the measure wrong.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from backfill.core.terms import Quota
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Kind, Request
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.store.pool import Database
from backfill.store.quota import DatabaseSlots
from tests.conftest import KEY, NOW, Cli, blocking
from tests.faults import slots, tables
from tests.faults.command import eventually
from tests.faults.proxy import Proxy
from tests.kit import client

if TYPE_CHECKING:
    from subprocess import Popen

LIMIT, WINDOW_S = 20, 3.0
QUOTA: Final = "20/3s"


@pytest.fixture
def quota() -> str:
    """The quota that the provider enforces."""
    return QUOTA


@pytest.fixture
def strict(simulate: Callable[..., Simulator], market: Market, quota: str) -> Simulator:
    """A provider with the quota that has drawn its market: a first call must not hold up others."""
    for number in range(300):
        assert len(market.bars(f"SIM{number:03}", Timeframe.d1, 0, round(NOW.timestamp() * 1000)))
    return simulate(quota=quota)


def run_of(run: Cli, first: int, count: int, *arguments: str, **settings: str) -> "Popen[str]":
    """Start a run of one call for each of some symbols."""
    tickers = ",".join(f"SIM{number:03}" for number in range(first, first + count))
    return run.start(
        *("run", "--symbols", tickers, "--timeframe", "d1", "--from", "2024-11-01"),
        *("--as-of", NOW.isoformat(), *arguments),
        **settings,
    )


def assert_ended_well(process: "Popen[str]", timeout: float = 240) -> None:
    _, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err


def assert_strict(simulator: Simulator, limit: int, window_s: float) -> None:
    """See that the provider refused nobody, and that no closed window of its own held too much."""
    assert [call for call in simulator.calls if call.over_quota] == []
    times = sorted(call.at_s for call in simulator.calls if call.counted)
    assert min(later - at for at, later in zip(times, times[limit:], strict=False)) > window_s


def trouble(simulator: Simulator, way_in_s: float) -> None:
    """Let every call be late, some be cut before or after they count, some be a gateway's."""
    simulator.inject(Fault(action=Action.LATE, in_s=(0.0, way_in_s)))
    for number, fault in enumerate(
        [
            Fault(action=Action.RESET, counted="never", times=1),
            Fault(action=Action.RESET, counted="after", times=1),
            Fault(action=Action.STATUS, status=504, counted="after", times=2),
        ]
    ):
        simulator.inject(replace(fault, skip=9 * number + 5))


@pytest.mark.parametrize("quota", ["20/1s"])
def test_two_runs_and_one_that_is_killed_never_exceed_the_quota_however_late_their_calls_are(
    strict: Simulator, cli: Callable[..., Cli], database_url: str
) -> None:
    trouble(strict, 0.5)
    run = cli(strict, BACKFILL_QUOTA="20/1s")

    killed, *others = [run_of(run, 0, 40) for _ in range(3)]
    eventually(lambda: len(strict.calls) >= 15)
    killed.kill()
    killed.communicate(timeout=10)
    for process in others:
        assert_ended_well(process)

    assert_strict(strict, limit=20, window_s=1.0)
    assert len({call.path for call in strict.calls if call.kind == "bars"}) == 40
    # What the killed run had just renewed when it died is left to it: those who met it skip that.
    assert tables.leases_of_ended(database_url) == 0


@pytest.mark.parametrize("quota", ["5/60s"])
def test_five_series_of_the_free_plan_are_complete_before_anything_waits_for_the_quota(
    strict: Simulator, cli: Callable[..., Cli]
) -> None:
    """What follows would wait: it ends with the last of the calls."""
    process = run_of(cli(strict, BACKFILL_QUOTA="5/60s"), 0, 5, "--max-calls", "5", "--json")
    assert_ended_well(process)
    assert [call.kind for call in strict.calls] == ["bars"] * 5


@pytest.mark.soak
@pytest.mark.timing
@pytest.mark.parametrize("runs", [2, 4])
def test_late_calls_of_several_runs_never_exceed_the_quota(
    runs: int,
    strict: Simulator,
    cli: Callable[..., Cli],
    database_url: str,
    proxy: Proxy,
) -> None:
    """One of the runs has its database 60 ms away; of four, one is killed."""
    trouble(strict, 1.5)
    slots.record(database_url)
    proxy.slow(0.03)
    run = cli(strict, BACKFILL_QUOTA=QUOTA)
    far = {"DATABASE_URL": proxy.url(database_url)}
    hours = ("--timeframe", "h1")  # a second call for each symbol
    going = [run_of(run, 280, 18, *hours, **far), run_of(run, 0, 190, *hours)]
    going += [run_of(run, 190 + 45 * number, 45, *hours) for number in range(runs - 2)]
    if runs == 4:
        eventually(lambda: len(strict.calls) >= 60)
        going[-1].kill()
        going.pop().communicate(timeout=10)
    for process in going:
        assert_ended_well(process)

    assert_strict(strict, LIMIT, WINDOW_S)
    assert tables.leases(database_url) == 0
    assert slots.used(database_url, LIMIT, WINDOW_S) >= 0.97


@pytest.mark.soak
@pytest.mark.timing
def test_late_calls_of_two_clients_use_what_the_quota_promises(
    simulate: Callable[..., Simulator], database_url: str, proxy: Proxy
) -> None:
    """Their calls are all they do, and one of them has its database 60 ms away."""
    strict = simulate(quota=QUOTA)
    strict.inject(Fault(action=Action.LATE, in_s=(0.0, 1.5)))
    slots.record(database_url)
    proxy.slow(0.03)

    async def calls(url: str, count: int) -> None:
        async with Database.connect(url) as database:
            ledger = DatabaseSlots(database, "massive", KEY, Quota.parse(QUOTA))
            async with client(ledger, base_url=strict.url, quota=Quota.parse(QUOTA)) as asking:
                request = Request("/v3/reference/tickers/AAPL", kind=Kind.lookup)
                left = iter(range(count))

                async def worker() -> None:
                    for number in left:
                        await asking.fetch(request, lambda answer: answer.status, f"A{number} d1")

                await asyncio.gather(*(worker() for _ in range(12)))

    async def both() -> None:
        await asyncio.gather(calls(database_url, 190), calls(proxy.url(database_url), 190))

    blocking(both())
    assert_strict(strict, LIMIT, WINDOW_S)
    assert slots.used(database_url, LIMIT, WINDOW_S) >= 0.97


@pytest.mark.soak
@pytest.mark.timing
def test_a_run_straight_after_another_keeps_within_the_windows_that_the_first_has_filled(
    strict: Simulator, cli: Callable[..., Cli]
) -> None:
    run = cli(strict, BACKFILL_QUOTA=QUOTA)
    for first in (0, 50, 100):
        assert_ended_well(run_of(run, first, 50))
    assert_strict(strict, LIMIT, WINDOW_S)


@pytest.mark.soak
@pytest.mark.timing
def test_three_calls_beside_a_bulk_reload_from_afar_are_done_within_two_windows(
    strict: Simulator, cli: Callable[..., Cli], database_url: str, proxy: Proxy
) -> None:
    proxy.slow(0.03)
    run = cli(strict, BACKFILL_QUOTA=QUOTA)
    bulk = run_of(run, 0, 250, "--reload")
    eventually(lambda: len(strict.calls) >= 60)
    few = run_of(run, 290, 3, "--json", DATABASE_URL=proxy.url(database_url))
    _, err = few.communicate(timeout=60)
    assert few.returncode == 0, err
    bulk.terminate()
    bulk.communicate(timeout=20)

    bars = [call for call in strict.calls if call.kind == "bars"]
    mine = [call for call in bars if call.path.split("/")[4] >= "SIM290"]
    others = [call for call in strict.calls if mine[0].received_s < call.at_s < mine[-1].at_s]
    assert len(mine) == 3
    # Of two windows' worth of calls that went meanwhile, three were these.
    assert len(others) <= 2 * LIMIT
    assert_strict(strict, LIMIT, WINDOW_S)
