"""The quota's slots: no sliding window is exceeded, whoever asks (R13), and pauses hold (R14)."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest

from backfill.core.terms import Quota
from backfill.store.pool import Database
from backfill.store.quota import DatabaseSlots, key_id
from tests.conftest import _fresh
from tests.integration.store_kit import emptied, rows, value

SECRET = "sk-live-12345678"


@pytest.fixture(scope="module")
def shared_url(server: str, template: str) -> Iterator[str]:
    """The URL of a database that the tests of this file take turns with."""
    yield from _fresh(server, template)


@pytest.fixture
def database_url(shared_url: str) -> str:
    """The URL of a database with the schema and no rows."""
    return emptied(shared_url)


async def _slots(
    database: Database, quota: str, spacing_s: float, key: str = SECRET
) -> DatabaseSlots:
    slots = DatabaseSlots(database, "massive", key, Quota.parse(quota), spacing_s)
    await slots.open()
    return slots


async def _take(database: Database, slots: DatabaseSlots, spacing_s: float, cost: int = 1) -> float:
    """Take a slot and return when it is, in epoch seconds by the database's clock."""
    await slots.take(cost)
    return await _next_at(database) - spacing_s * cost


async def _next_at(database: Database) -> float:
    return float(await value(database, "SELECT extract(epoch FROM next_at) FROM provider_quota"))


async def _remembered(database: Database) -> list[float]:
    found = await rows(
        database, "SELECT extract(epoch FROM unnest(recent))::float8 FROM provider_quota"
    )
    return [row[0] for row in found]


def _most_in_any(period_s: float, calls: list[float]) -> int:
    """Return the most calls that any sliding window of a period holds."""
    return max(sum(at <= other < at + period_s for other in calls) for at in calls)


async def test_takers_at_the_same_time_get_slots_that_are_spaced_apart(
    database: Database, database_url: str
) -> None:
    spacing_s = 0.05
    # The second window never binds; it is there so that the row remembers every slot.
    quota = "20/1s,1000/1d"
    async with Database.connect(database_url) as second:
        takers = [await _slots(one, quota, spacing_s) for one in (database, second)]

        async def sends_at(slots: DatabaseSlots) -> float:
            wait_s = await slots.take(1)
            return time.time() + wait_s

        sends = sorted(await asyncio.gather(*(sends_at(takers[n % 2]) for n in range(50))))
    slots = await _remembered(database)
    assert len(slots) == 50
    gaps = [later - earlier for earlier, later in pairwise(slots)]
    assert min(gaps) >= spacing_s - 1e-6
    # Who sleeps as long as told never sends before the slot.
    assert all(sent >= slot - 1e-3 for sent, slot in zip(sends, slots, strict=True))


async def test_slots_in_a_row_waste_none_of_the_pace(database: Database) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    taken = [await _take(database, slots, 0.1) for _ in range(20)]
    assert taken[-1] - taken[0] == pytest.approx(19 * 0.1, abs=1e-3)


async def test_a_slot_is_never_in_the_past(database: Database) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    await slots.take(1)
    await rows(database, "UPDATE provider_quota SET next_at = next_at - interval '1 hour'")
    before = time.time()
    assert await _take(database, slots, 0.1) >= before - 1e-3
    assert await slots.take(1) > 0


@pytest.mark.parametrize(
    ("quota", "spacing_s"),
    [
        ("3/1s,5/10s", 0.36),
        ("5/10s,3/1s", 0.36),
        ("4/1s,10/5s,30/1m", 0.26),
        ("2/1s,2/10s", 0.51),
        ("3/1s,1/5s", 0.36),
    ],
)
async def test_no_sliding_window_of_several_is_exceeded_and_the_tightest_is_used(
    database: Database, quota: str, spacing_s: float
) -> None:
    slots = await _slots(database, quota, spacing_s)
    taken = [await _take(database, slots, spacing_s) for _ in range(61)]
    windows = Quota.parse(quota).windows
    for window in windows:
        assert _most_in_any(window.period_s, taken) <= window.limit, window
    tightest = max(windows, key=lambda window: window.period_s / window.limit)
    fewest_s = 60 / tightest.limit * tightest.period_s
    assert taken[-1] - taken[0] <= 1.05 * fewest_s


@pytest.mark.parametrize("costs", [[2] * 20, [1, 3, 2, 1, 5, 1, 1, 4] * 3], ids=str)
async def test_a_call_that_costs_more_takes_that_much_of_every_window(
    database: Database, costs: list[int]
) -> None:
    spacing_s = 0.36
    slots = await _slots(database, "3/1s,5/10s", spacing_s)
    taken: list[float] = []
    for cost in costs:
        taken += [await _take(database, slots, spacing_s, cost)] * cost
    assert _most_in_any(10, taken) <= 5
    starts = sorted(set(taken))
    weights = [taken.count(at) for at in starts]
    for at, weight, later in zip(starts, weights, starts[1:], strict=False):
        assert later - at >= weight * spacing_s - 1e-3


async def test_a_run_after_a_run_and_another_connection_go_on_where_the_last_call_was(
    database_url: str,
) -> None:
    quota, spacing_s = "3/1s,5/10s", 0.36
    async with Database.connect(database_url) as database:
        slots = await _slots(database, quota, spacing_s)
        taken = [await _take(database, slots, spacing_s) for _ in range(5)]
    async with Database.connect(database_url) as database:
        slots = await _slots(database, quota, spacing_s)
        taken += [await _take(database, slots, spacing_s) for _ in range(6)]
    assert _most_in_any(1, taken) <= 3
    assert _most_in_any(10, taken) <= 5


async def test_only_as_many_slots_are_remembered_as_the_largest_longer_window_holds(
    database: Database,
) -> None:
    slots = await _slots(database, "10/1s,7/2s,12/10s", 0.1)
    for cost in (1, 2, 3) * 8:
        await slots.take(cost)
        assert len(await _remembered(database)) <= 12
    assert len(await _remembered(database)) == 12


async def test_one_window_alone_remembers_no_slot(database: Database) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    for _ in range(5):
        await slots.take(1)
    assert await _remembered(database) == []


async def test_a_pause_holds_back_those_who_take_and_those_who_are_about_to_send(
    database: Database, database_url: str
) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    assert await slots.confirm(0.0) == 0
    async with Database.connect(database_url) as other_process:
        await (await _slots(other_process, "10/1s", 0.1)).pause(30)
    assert 29 < await slots.confirm(0.0) <= 30
    assert 29 < await slots.confirm(0.01) <= 30
    assert 29 < await slots.take(1) <= 30
    paused_until = await value(
        database, "SELECT extract(epoch FROM paused_until)::float8 FROM provider_quota"
    )
    assert await _next_at(database) - 0.1 == pytest.approx(paused_until, abs=1e-5)


async def test_a_shorter_pause_does_not_end_a_longer_one(database: Database) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    await slots.pause(30)
    await slots.pause(1)
    assert await slots.confirm(0.0) > 29
    await slots.pause(60)
    assert await slots.confirm(0.0) > 59


async def test_a_pause_is_honoured_where_calls_are_unlimited(database: Database) -> None:
    slots = await _slots(database, "unlimited", 0.0)
    await slots.pause(30)
    assert 29 < await slots.confirm(0.0) <= 30


async def test_a_pause_or_a_slot_of_one_key_or_provider_is_no_matter_of_another(
    database: Database,
) -> None:
    first = await _slots(database, "10/1s", 0.1)
    second = await _slots(database, "10/1s", 0.1, key="another")
    third = DatabaseSlots(database, "other", SECRET, Quota.parse("10/1s"), 0.1)
    await third.open()
    await first.pause(30)
    for _ in range(50):
        await first.take(1)
    for slots in (second, third):
        assert await slots.confirm(0.0) == 0
        assert await slots.take(1) <= 0


async def test_a_call_that_is_sent_late_moves_the_slots_after_it(database: Database) -> None:
    slots = await _slots(database, "10/1s", 0.1)
    await slots.take(1)
    before = await _next_at(database)
    await slots.confirm(0.0)
    assert await _next_at(database) == before
    await slots.confirm(0.75)
    assert await _next_at(database) == pytest.approx(before + 0.75, abs=1e-6)


async def test_a_call_that_is_sent_late_counts_from_then_on_in_the_longer_windows_too(
    database: Database,
) -> None:
    slots = await _slots(database, "100/1s,5/10s", 0.0102)
    for _ in range(5):
        await slots.take(1)
    # Three seconds pass: the process that holds the slots stood still, and sends only now.
    await rows(
        database,
        """
        UPDATE provider_quota
        SET next_at = next_at - $1::interval,
            recent = ARRAY(SELECT at - $1::interval FROM unnest(recent) AS at ORDER BY at)
        """,
        timedelta(seconds=3),
    )
    sent = time.time()
    await slots.confirm(3.0)
    assert await _take(database, slots, 0.0102) >= sent + 10


async def test_calls_sent_in_time_are_not_counted_later_for_one_that_is_late(
    database: Database,
) -> None:
    slots = await _slots(database, "100/1s,5/10s", 0.0102)
    for _ in range(5):
        await slots.take(1)
    before = await _remembered(database)
    await rows(
        database,
        """
        UPDATE provider_quota
        SET recent = ARRAY(
            SELECT at - interval '6 s' FROM unnest(recent[:4]) AS at ORDER BY at
        ) || recent[5:]
        """,
    )
    await slots.confirm(0.5)
    after = await _remembered(database)
    assert after[:4] == pytest.approx([at - 6 for at in before[:4]], abs=1e-5)
    assert len(after) == 5


async def test_opening_a_second_time_keeps_what_the_row_holds(database: Database) -> None:
    slots = await _slots(database, "10/1s,100/1d", 0.1)
    await slots.take(1)
    await slots.pause(30)
    before = await rows(database, "SELECT * FROM provider_quota")
    await slots.open()
    assert await rows(database, "SELECT * FROM provider_quota") == before


async def test_the_row_of_a_key_does_not_give_the_key_away(database: Database) -> None:
    await _slots(database, "10/1s", 0.1)
    row = await value(database, "SELECT q::text FROM provider_quota AS q")
    assert SECRET not in row
    assert not any(SECRET[n : n + 5] in row for n in range(len(SECRET) - 4))
    assert key_id("massive", SECRET) in row
    assert len({key_id(*pair) for pair in (("a", "k"), ("b", "k"), ("a", "l"))}) == 3
