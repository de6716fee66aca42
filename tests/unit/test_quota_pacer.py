"""No sliding window holds more calls than the quota, and little of it is wasted (R13)."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.terms import Quota, Window
from backfill.fetch.quota import Pacer, margin_s, spacing_s
from tests.kit import WrittenLedger, leaping, now

WINDOWS: Final = st.builds(
    Window, st.integers(1, 2000), st.floats(0.1, 86_400, allow_nan=False, allow_infinity=False)
)
ROUNDING: Final = 1e-6


@given(WINDOWS)
def test_one_call_more_than_the_quota_spans_more_than_its_window(window: Window) -> None:
    span_s = window.limit * spacing_s(window)
    assert span_s >= window.period_s + 0.1 - ROUNDING
    assert span_s >= window.period_s * 1.02 - ROUNDING
    assert span_s == pytest.approx(window.period_s + margin_s(window))


@given(WINDOWS, st.integers(10, 40))
def test_calls_at_this_pace_use_the_quota_to_95_per_cent_where_windows_last_3_s(
    window: Window, rounds: int
) -> None:
    calls = rounds * window.limit
    lasts_s = (calls - 1) * spacing_s(window)
    utilisation = (calls - 1) * window.period_s / (window.limit * lasts_s) if lasts_s else 1.0
    assert utilisation >= 0.95 or window.period_s < 3
    assert utilisation <= 1.0


def fullest(stamps: list[float], period_s: float) -> int:
    """The most calls that any window of this length holds, its ends included."""
    ordered = sorted(stamps)
    return max(
        sum(1 for stamp in ordered[first:] if stamp <= ordered[first] + period_s)
        for first in range(len(ordered))
    )


def utilisation(stamps: list[float], window: Window) -> float:
    """R13's own measure, on the provider's clock."""
    return ((len(stamps) - 1) * window.period_s) / (window.limit * (max(stamps) - min(stamps)))


def uneven(delays: list[float]) -> Iterator[float]:
    return itertools.cycle(delays)


async def spend(
    pacers: list[Pacer], calls: int, arrive_s: Iterator[float] | None = None
) -> list[float]:
    """Let each pacer's process make so many calls, all wanted at once; when each arrives."""
    arrived: list[float] = []

    async def call(pacer: Pacer) -> None:
        await pacer.sent(await pacer.slot(1))
        arrived.append(now() + (next(arrive_s) if arrive_s else 0.0))

    await asyncio.gather(*(call(pacer) for pacer in pacers for _ in range(calls)))
    return arrived


@pytest.mark.parametrize("window", [Window(20, 3.0), Window(5, 60.0), Window(100, 5.0)])
@pytest.mark.parametrize("processes", [1, 3])
@leaping
async def test_calls_are_spread_over_all_processes_that_share_the_ledger(
    window: Window, processes: int
) -> None:
    ledger = WrittenLedger(spacing_s(window))
    pacers = [Pacer(Quota((window,)), ledger) for _ in range(processes)]
    arrived = await spend(pacers, 12 * window.limit)
    assert len(arrived) == processes * 12 * window.limit
    assert fullest(arrived, window.period_s) <= window.limit
    assert utilisation(arrived, window) >= 0.95


@leaping
async def test_the_next_run_goes_on_where_the_last_one_ended() -> None:
    window = Window(20, 3.0)
    ledger = WrittenLedger(spacing_s(window))
    arrived = []
    for _ in range(15):
        arrived += await spend([Pacer(Quota((window,)), ledger)], window.limit - 3)
    assert fullest(arrived, window.period_s) <= window.limit
    assert utilisation(arrived, window) >= 0.95


@settings(deadline=None, max_examples=25)
@given(
    window=st.sampled_from([Window(20, 3.0), Window(5, 3.0), Window(50, 4.0)]),
    there_s=st.lists(st.floats(0.0, 0.02), min_size=1, max_size=7),
    back_s=st.lists(st.floats(0.0, 0.02), min_size=1, max_size=5),
    way_s=st.lists(st.floats(0.0, 0.05), min_size=1, max_size=11),
    processes=st.integers(1, 3),
)
@leaping
async def test_no_window_overflows_where_the_ledger_and_the_way_are_uneven(
    window: Window,
    there_s: list[float],
    back_s: list[float],
    way_s: list[float],
    processes: int,
) -> None:
    ledger = WrittenLedger(spacing_s(window), uneven(there_s), uneven(back_s))
    pacers = [Pacer(Quota((window,)), ledger) for _ in range(processes)]
    arrived = await spend(pacers, 10 * window.limit // processes + 1, uneven(way_s))
    assert fullest(arrived, window.period_s) <= window.limit


@pytest.mark.parametrize("way", ["there", "back"])
@pytest.mark.parametrize("stalled", range(60, 72))
@leaping
async def test_a_ledger_that_stalls_under_one_call_lets_none_too_many_leave(
    way: str, stalled: int
) -> None:
    window = Window(20, 3.0)
    delays = itertools.chain([0.01] * stalled, [2.0], itertools.repeat(0.01))
    ledger = WrittenLedger(spacing_s(window), **{way: delays})
    arrived = await spend([Pacer(Quota((window,)), ledger) for _ in range(2)], 6 * window.limit)
    assert fullest(arrived, window.period_s) <= window.limit


@leaping
async def test_a_ledger_that_is_far_away_costs_none_of_the_quota() -> None:
    window = Window(20, 3.0)
    ledger = WrittenLedger(spacing_s(window), itertools.repeat(0.11))
    arrived = await spend([Pacer(Quota((window,)), ledger)], 12 * window.limit)
    assert fullest(arrived, window.period_s) <= window.limit
    assert utilisation(arrived, window) >= 0.95


@pytest.mark.parametrize("late", [0, 7, 25])
@leaping
async def test_a_call_that_leaves_late_moves_the_slots_after_it(late: int) -> None:
    window = Window(20, 3.0)
    pacer = Pacer(Quota((window,)), WrittenLedger(spacing_s(window)))
    left: list[float] = []

    async def call(number: int) -> None:
        slot = await pacer.slot(1)
        if number == late:
            await asyncio.sleep(0.4)
        left.append(now())
        await pacer.sent(slot)

    await asyncio.gather(*(call(number) for number in range(100)))
    assert fullest(left, window.period_s) <= window.limit


@leaping
async def test_a_pause_taken_before_a_call_leaves_holds_it_back() -> None:
    window = Window(5, 60.0)
    ledger = WrittenLedger(spacing_s(window))
    pacer = Pacer(Quota((window,)), ledger)
    await pacer.slot(1)
    began = now()
    waiting = asyncio.ensure_future(pacer.slot(1))
    await asyncio.sleep(1)
    await pacer.pause(100)
    await waiting
    assert now() - began >= 101


@leaping
async def test_unlimited_takes_no_slot_and_honours_pauses() -> None:
    ledger = WrittenLedger(spacing_s=1000.0)
    pacer = Pacer(Quota(), ledger)
    began = now()
    assert max(await spend([pacer], 500)) == began
    assert ledger.taken == []
    await pacer.pause(30)
    assert min(await spend([pacer], 10)) == began + 30


@leaping
async def test_a_call_that_costs_more_takes_as_much_of_the_quota() -> None:
    window = Window(10, 60.0)
    ledger = WrittenLedger(spacing_s(window))
    pacer = Pacer(Quota((window,)), ledger)
    left: list[tuple[float, int]] = []
    for cost in [1, 5, 1, 5, 3, 3, 3, 10, 1, 1] * 3:
        await pacer.slot(cost)
        left.append((now(), cost))
    assert ledger.taken == [cost for _, cost in left]
    for start, _ in left:
        held = sum(cost for at, cost in left if start < at <= start + window.period_s)
        assert held <= window.limit


@leaping
async def test_calls_leave_in_the_order_in_which_they_asked() -> None:
    window = Window(20, 3.0)
    pacer = Pacer(Quota((window,)), WrittenLedger(spacing_s(window)))
    left: list[int] = []

    async def call(number: int) -> None:
        await pacer.slot(1)
        left.append(number)

    await asyncio.gather(*(call(number) for number in range(50)))
    assert left == list(range(50))


@leaping
async def test_a_process_that_dies_takes_few_slots_with_it() -> None:
    window = Window(20, 3.0)
    ledger = WrittenLedger(spacing_s(window))
    pacer = Pacer(Quota((window,)), ledger)
    calls = [asyncio.ensure_future(pacer.slot(1)) for _ in range(200)]
    await asyncio.sleep(3)
    done = sum(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(ledger.taken) - done <= 3
