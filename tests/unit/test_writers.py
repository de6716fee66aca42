"""How many pages are written at once: by what a page's time is made of, and by nothing else."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.run import writing
from backfill.run.behind import Place
from backfill.run.writers import Writers, useful
from backfill.store.pool import CONNECTIONS
from tests.kit import leaping

TIMES = st.floats(0.0001, 10)


@given(page_s=TIMES, trip_s=TIMES, more_s=TIMES)
def test_no_fewer_than_two_write_nor_more_than_connect_and_more_the_farther_the_database(
    page_s: float, trip_s: float, more_s: float
) -> None:
    found = useful(page_s, trip_s)
    assert 2 <= found <= CONNECTIONS
    assert useful(page_s, trip_s + more_s) >= found
    assert useful(page_s, 0.001) == 2


@pytest.mark.parametrize(("trip_s", "at_once"), [(0.001, 2), (0.06, CONNECTIONS)])
def test_pages_go_side_by_side_as_far_as_the_link_asks_for_it(trip_s: float, at_once: int) -> None:
    under_way: set[int] = set()
    most: list[int] = []

    @leaping
    async def write_pages() -> None:
        database: Any = SimpleNamespace(trip_s=trip_s)
        writers = Writers(database)

        async def write(number: int) -> None:
            async with writers.turn():
                under_way.add(number)
                most.append(len(under_way))
                await asyncio.sleep(2 * trip_s + 0.01)
                under_way.discard(number)

        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(write(number))

    write_pages()
    assert max(most) == at_once


def test_they_are_two_again_once_pages_take_work() -> None:
    counts: list[int] = []

    @leaping
    async def write_pages() -> None:
        database: Any = SimpleNamespace(trip_s=0.06)
        writers = Writers(database)
        under_way = 0

        async def write(page_s: float) -> None:
            nonlocal under_way
            async with writers.turn():
                under_way += 1
                counts.append(under_way)
                await asyncio.sleep(page_s)
                under_way -= 1

        for page_s in (0.13, 5.0):
            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(write(page_s))

    write_pages()
    assert max(counts[:40]) == CONNECTIONS
    assert counts[-10] <= 2


async def test_what_follows_a_page_that_waits_for_its_turn_takes_no_turn_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def write_in_turn(*_: Any, places: list[Place], **__: Any) -> None:
        assert places[0].before is not None
        await places[0].before.ended_well()

    monkeypatch.setattr(writing, "write_in_turn", write_in_turn)
    database: Any = SimpleNamespace(trip_s=0.001)
    writer: Any = SimpleNamespace(writers=Writers(database))

    async def waits(_: Place) -> bool:
        await asyncio.Event().wait()
        return True

    async def follows(place: Place) -> bool:
        await writing.write(writer, [], [], [], place=place)
        return True

    places = [Place(follows, Place(waits, None)) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    async with asyncio.timeout(10), writer.writers.turn():
        pass
    for place in places:
        assert place.before is not None
        place.task.cancel()
        place.before.task.cancel()
