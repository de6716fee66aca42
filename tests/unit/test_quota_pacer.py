"""What the quota holds goes out at once, the rest in order, and nobody is left out (R13)."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from aiolimiter import AsyncLimiter

from backfill.core.terms import Quota, Taken
from backfill.core.wire import Kind
from backfill.errors import DatabaseError, LimitReached, UsageError
from backfill.fetch import quota as fetch_quota
from backfill.fetch.quota import GLANCE_S, Clocks, Pacer, Slot
from tests.kit import WrittenLedger, leaping, now
from tests.ledger import Ledger

ROUNDING = 1e-5


def pacer_of(ledger: WrittenLedger, quota: Quota) -> Pacer:
    return Pacer(quota, ledger, asyncio.get_running_loop().time)


def beside(quota: Quota, count: int, **delays: object) -> list[WrittenLedger]:
    """As many processes as that, with one ledger."""
    shared = Ledger()
    return [WrittenLedger(quota, shared, process=number + 1) for number in range(count)]


async def call(pacer: Pacer, sent: list[float], cost: int = 1, answer_s: float = 0.1) -> Slot:
    """Send a call that is answered after a while, and note when it was sent."""
    slot = await pacer.slot(cost)
    sent.append(now())
    await asyncio.sleep(answer_s)
    pacer.answered(slot)
    return slot


@leaping
async def test_what_a_rested_key_holds_goes_out_at_once_and_the_rest_when_it_has_passed() -> None:
    quota = Quota.parse("5/60s")
    ledger, sent = WrittenLedger(quota), []  # type: tuple[WrittenLedger, list[float]]
    pacer, began = pacer_of(ledger, quota), now()
    await asyncio.gather(*(call(pacer, sent) for _ in range(12)))
    assert [round(at - began) for at in sent] == [0] * 5 + [60] * 5 + [120] * 2
    assert sent[5] - sent[4] > 60.1


@leaping
async def test_where_nobody_waits_a_call_costs_two_trips_at_most_and_a_wait_one_more() -> None:
    quota = Quota.parse("20/3s")
    ledger, sent = WrittenLedger(quota), []  # type: tuple[WrittenLedger, list[float]]
    pacer = pacer_of(ledger, quota)
    await asyncio.gather(*(call(pacer, sent, answer_s=0.1 * number) for number in range(20)))
    await asyncio.sleep(0)
    assert ledger.trips <= 2 * 20
    alone = WrittenLedger(quota)
    pacer = pacer_of(alone, quota)
    for number in range(1, 21):
        await call(pacer, sent)
        await asyncio.sleep(0.1)
        assert alone.trips == 2 * number
    before = alone.trips
    await call(pacer, sent)
    await asyncio.sleep(0.1)
    assert alone.trips - before <= 3


@leaping
async def test_answers_that_meet_are_noted_in_one_statement() -> None:
    quota = Quota.parse("20/3s")
    ledger, sent = WrittenLedger(quota), []  # type: tuple[WrittenLedger, list[float]]
    pacer = pacer_of(ledger, quota)
    await asyncio.gather(*(call(pacer, sent) for _ in range(20)))
    await asyncio.sleep(0.1)
    assert ledger.trips <= 1 + 2


@leaping
async def test_calls_leave_in_the_order_in_which_they_asked_those_for_bars_first() -> None:
    quota = Quota.parse("3/1s")
    pacer = pacer_of(WrittenLedger(quota), quota)
    left: list[str] = []

    async def go(name: str, kind: Kind) -> None:
        slot = await pacer.slot(1, kind)
        left.append(name)
        pacer.answered(slot)

    names = [(f"l{n}", Kind.lookup) for n in range(5)] + [(f"b{n}", Kind.bars) for n in range(8)]
    await asyncio.gather(*(go(*one) for one in names))
    assert left == [f"b{n}" for n in range(8)] + [f"l{n}" for n in range(5)]


@leaping
async def test_a_dear_call_is_not_overtaken_and_takes_its_cost_of_every_window() -> None:
    quota = Quota.parse("10/60s,15/300s")
    ledger, sent = WrittenLedger(quota), []  # type: tuple[WrittenLedger, list[float]]
    pacer, began = pacer_of(ledger, quota), now()
    costs = [6, 8, 1, 2]
    await asyncio.gather(*(call(pacer, sent, cost) for cost in costs))
    assert ledger.taken == costs
    assert [round(at - began) for at in sent] == [0, 60, 60, 300]


@leaping
async def test_a_request_dearer_than_a_window_is_a_usage_error_before_any_call() -> None:
    quota = Quota.parse("10/60s,5/1d")
    ledger = WrittenLedger(quota)
    with pytest.raises(UsageError, match=r"costs 6.*5/86400s"):
        await pacer_of(ledger, quota).slot(6)
    assert ledger.trips == 0


@leaping
async def test_a_wait_of_more_than_a_quarter_of_an_hour_is_not_waited_for_but_named() -> None:
    quota = Quota.parse("8/60s,20/1d")
    ledger, sent = WrittenLedger(quota), []  # type: tuple[WrittenLedger, list[float]]
    pacer, began = pacer_of(ledger, quota), now()
    async with pacer:
        waiting = [asyncio.ensure_future(call(pacer, sent)) for _ in range(22)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert len(sent) == 20
    for error in ended[20:]:
        assert isinstance(error, LimitReached)
        assert "the next call may be sent at " in str(error)
    assert now() - began < 200
    assert ledger.shared.tickets == []


@leaping
async def test_the_bucket_takes_its_tokens_once_a_call_and_is_sized_as_the_user_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[AsyncLimiter] = []
    tokens: list[float] = []

    class Seen(AsyncLimiter):
        def __init__(self, max_rate: float, time_period: float) -> None:
            super().__init__(max_rate, time_period)
            made.append(self)

        async def acquire(self, amount: float = 1) -> None:
            tokens.append(amount)
            await super().acquire(amount)

    monkeypatch.setattr(fetch_quota, "AsyncLimiter", Seen)
    quota = Quota.parse("3/1s,30/1m")
    first, second = beside(quota, 2)
    sent: list[float] = []
    pacers = [pacer_of(first, quota), pacer_of(second, quota)]
    await asyncio.gather(*(call(pacer, sent) for pacer in pacers for _ in range(9)))
    sizes = [(one.max_rate, one.time_period) for one in made]
    assert sizes == [(3, 1.0), (30, 60.0)] * 2
    assert len(tokens) == 18 * 2


@pytest.mark.parametrize("processes", [2, 4])
@leaping
async def test_processes_share_the_quota_and_none_is_left_out(processes: int) -> None:
    quota = Quota.parse("20/3s")
    sent: list[list[float]] = [[] for _ in range(processes)]

    async def series(pacer: Pacer, mine: list[float]) -> None:
        for _ in range(12):
            await call(pacer, mine, answer_s=0.4)

    pacers = [pacer_of(ledger, quota) for ledger in beside(quota, processes)]
    began = now()
    await asyncio.gather(
        *(series(pacer, mine) for pacer, mine in zip(pacers, sent, strict=True) for _ in range(8))
    )
    half = began + (now() - began) / 2
    shares = [sum(at <= half for at in mine) for mine in sent]
    assert min(shares) >= 0.7 * max(shares)


@leaping
async def test_three_calls_beside_a_bulk_load_from_afar_are_done_within_two_windows() -> None:
    quota = Quota.parse("5/60s")
    shared = Ledger()
    bulk = WrittenLedger(quota, shared)
    far = WrittenLedger(quota, shared, itertools.repeat(0.06), itertools.repeat(0.06), process=2)
    loading: list[float] = []
    calls = [
        asyncio.ensure_future(call(pacer, loading))
        for pacer in [pacer_of(bulk, quota)]
        for _ in range(200)
    ]
    await asyncio.sleep(200)
    began, sent = now(), list[float]()
    pacer = pacer_of(far, quota)
    await asyncio.gather(*(call(pacer, sent) for _ in range(3)))
    assert now() - began <= 2 * 60.5
    for one in calls:
        one.cancel()


@leaping
async def test_a_process_that_never_comes_back_holds_its_turn_for_two_seconds() -> None:
    quota = Quota.parse("2/10s")
    gone, other = beside(quota, 2)
    sent: list[float] = []
    waiting = pacer_of(gone, quota)
    await asyncio.gather(*(call(waiting, sent) for _ in range(2)))
    dead = asyncio.ensure_future(waiting.slot(1))
    await asyncio.sleep(1)
    assert [ticket.process for ticket in gone.shared.tickets] == [1]
    told_us = gone.shared.tickets[0].told
    assert waiting._taking is not None
    waiting._taking.cancel()
    dead.cancel()
    pacer = pacer_of(other, quota)
    calls = [asyncio.ensure_future(call(pacer, sent)) for _ in range(3)]
    await asyncio.wait(calls, return_when=asyncio.ALL_COMPLETED)
    assert told_us / 1e6 - ROUNDING <= sent[2] <= told_us / 1e6 + ROUNDING
    assert sent[3] <= told_us / 1e6 + 10.2


@leaping
async def test_a_killed_process_frees_its_open_calls_a_window_after_their_heads_were_due() -> None:
    quota = Quota.parse("2/10s")
    killed, other = beside(quota, 2)
    began = now()
    for _ in range(2):
        await pacer_of(killed, quota).slot(1)
    sent: list[float] = []
    await call(pacer_of(other, quota), sent)
    assert 40 <= sent[0] - began <= 40.1


@leaping
async def test_a_process_that_ends_in_order_leaves_nothing_open() -> None:
    quota = Quota.parse("3/10s")
    ledger = WrittenLedger(quota, there=itertools.repeat(0.2))
    async with pacer_of(ledger, quota) as pacer:
        slots = await asyncio.gather(*(pacer.slot(1) for _ in range(3)))
        waiting = asyncio.ensure_future(pacer.slot(1))
        await asyncio.sleep(0.5)
        assert len(ledger.shared.tickets) == 1
        pacer.answered(slots[0])
        pacer.unwritten(slots[1])
        pacer.answered(slots[2])
        waiting.cancel()
    assert [call.open for call in ledger.shared.calls] == [False, False]
    assert ledger.shared.tickets == []


@leaping
async def test_a_slot_that_comes_to_a_call_which_waits_no_more_is_given_back() -> None:
    quota = Quota.parse("3/10s")
    ledger = WrittenLedger(quota, back=itertools.repeat(0.5))
    async with pacer_of(ledger, quota) as pacer:
        waiting = [asyncio.ensure_future(pacer.slot(1)) for _ in range(2)]
        await asyncio.sleep(0.2)
        waiting[0].cancel()
        await waiting[1]
    assert [call.cost for call in ledger.shared.calls] == [1]


@leaping
async def test_slots_that_were_given_back_cost_the_calls_after_them_no_wait() -> None:
    quota = Quota.parse("5/60s")
    pacer, began = pacer_of(WrittenLedger(quota), quota), now()
    for _ in range(12):  # no connection comes about
        slot = await pacer.slot(1)
        assert not pacer.late(slot)
        pacer.unwritten(slot)
        await asyncio.sleep(0)
    assert now() - began < 1


@leaping
async def test_a_call_that_comes_while_the_ledger_is_told_that_nobody_waits_is_served() -> None:
    quota = Quota.parse("1/10s")
    ledger = WrittenLedger(quota, there=itertools.repeat(0.2), back=itertools.repeat(0.2))
    pacer, sent = pacer_of(ledger, quota), list[float]()
    await call(pacer, sent)
    given_up = asyncio.ensure_future(pacer.slot(1))
    await asyncio.sleep(2)
    given_up.cancel()
    told = ledger.shared.tickets[0].told / 1e6
    await asyncio.sleep(told + 0.3 - now())  # it woke 0.2 s late, and its word takes 0.4 s
    async with asyncio.timeout(60):
        await call(pacer, sent)


@leaping
async def test_a_call_that_is_cancelled_as_the_ledger_fails_ends_cancelled() -> None:
    quota = Quota.parse("5/60s")
    pacer = pacer_of(WrittenLedger(quota), quota)
    waiting = asyncio.ensure_future(pacer.slot(1))
    await asyncio.sleep(0)
    [queued] = pacer._waiting[Kind.bars]
    queued.slot.set_exception(DatabaseError("gone"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@leaping
async def test_a_pause_holds_back_everybody_and_ends_for_everybody() -> None:
    quota = Quota.parse("5/60s")
    first, second = (pacer_of(ledger, quota) for ledger in beside(quota, 2))
    began = now()
    await first.slot(1)
    await first.pause(100)
    await asyncio.gather(first.slot(1), second.slot(1))
    assert 100 <= now() - began <= 100.1


@leaping
async def test_unlimited_takes_no_slot_and_honours_pauses() -> None:
    ledger = WrittenLedger()
    pacer, began = pacer_of(ledger, Quota()), now()
    slots = await asyncio.gather(*(pacer.slot(1) for _ in range(500)))
    assert now() - began < ROUNDING
    assert {slot.call for slot in slots} == {None}
    assert ledger.shared.calls == []
    await pacer.pause(30)
    await pacer.slot(1)
    assert now() - began >= 30


@leaping
async def test_without_a_quota_the_pauses_of_others_are_looked_for_twice_a_second() -> None:
    ledger, other = beside(Quota(), 2)
    pacer, began = pacer_of(ledger, Quota()), now()
    while now() - began < 5:
        await pacer.slot(1)
        await asyncio.sleep(0.01)
    assert 9 <= ledger.trips <= 11
    await other.pause(30)
    paused = now()
    while now() - paused < 30:
        late = now() - paused
        await pacer.slot(1)
        await asyncio.sleep(0.01)
    assert late <= GLANCE_S


@leaping
async def test_a_look_that_was_under_way_when_a_pause_began_frees_no_call_of_it() -> None:
    class Slow(WrittenLedger):
        async def take(self, costs: Sequence[int]) -> Taken:
            found = await super().take(costs)
            await asyncio.sleep(0.2)
            return found

    pacer = pacer_of(Slow(), Quota())
    looking = asyncio.create_task(pacer.slot(1))
    await asyncio.sleep(0.1)
    await pacer.pause(30)
    began = now()
    await looking
    await pacer.slot(1)
    assert now() - began >= 29


@leaping
async def test_a_ledger_that_fails_is_told_to_all_who_wait_and_asked_again_by_the_next() -> None:
    quota = Quota.parse("5/60s")

    class Broken(WrittenLedger):
        async def take(self, costs: Sequence[int]) -> object:  # type: ignore[override]
            if self.trips < 1:
                self.trips += 1
                raise DatabaseError("gone")
            return await super().take(costs)

    pacer = pacer_of(Broken(quota), quota)
    ended = await asyncio.gather(*(pacer.slot(1) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in ended] == [DatabaseError] * 3
    await pacer.slot(1)


@leaping
async def test_a_ledger_whose_clock_was_set_has_every_call_count_anew_and_the_key_paused() -> None:
    quota = Quota.parse("3/10s")

    class Set(WrittenLedger):
        ahead_us = 0

        def clock_us(self) -> int:
            return super().clock_us() + self.ahead_us

    ledger, sent = Set(quota), []  # type: tuple[Set, list[float]]
    pacer, began = pacer_of(ledger, quota), now()
    await asyncio.gather(*(call(pacer, sent) for _ in range(3)))
    ledger.ahead_us = 3_600_000_000
    await call(pacer, sent)
    assert 40 <= sent[-1] - began <= 41
    ledger.ahead_us = -3_600_000_000
    before = now()
    await call(pacer, sent)
    assert 40 <= sent[-1] - before <= 41


@pytest.mark.parametrize("step_s", [0.5, -0.5])
def test_clocks_that_part_are_noticed_and_uneven_ways_are_no_parting(step_s: float) -> None:
    clocks = Clocks()
    ways = itertools.cycle([(0.001, 0.2), (0.2, 0.001), (0.05, 0.05), (0.0, 1.0)])
    at = 0.0
    for there, back in itertools.islice(ways, 200):
        at += 3.0
        rate = 1.0005 * at + 1e9
        assert not clocks.parted(at, at + there + back, rate + there)
    at += 3.0
    assert clocks.parted(at, at + 0.002, 1.0005 * at + 1e9 + step_s)
    at += 3.0
    assert not clocks.parted(at, at + 0.002, 1.0005 * at + 1e9 + step_s)
