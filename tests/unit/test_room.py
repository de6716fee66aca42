"""Room for answers: bounded, first come first served, and never lost."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.run.room import PER_BAR, PER_PAGE, Room, Share

SIZE = 10 * (PER_PAGE + 100 * PER_BAR)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4000), st.booleans(), st.integers(0, 5)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_no_more_is_lent_than_there_is_and_all_of_it_comes_back(
    askers: list[tuple[int, bool, int]], rng: random.Random
) -> None:
    room, served = Room(SIZE), list[int]()

    async def ask(number: int, bars: int, steps: int) -> None:
        share = await room.take(bars)
        served.append(number)
        try:
            for step in range(steps):
                assert room.taken <= SIZE
                await asyncio.sleep(0)
                share.shrink((PER_PAGE + bars * PER_BAR) // (step + 1))
        finally:
            share.release()
            share.release()

    async def all_of_them() -> None:
        tasks = [
            asyncio.create_task(ask(number, bars, steps))
            for number, (bars, _, steps) in enumerate(askers)
        ]
        for task, (_, given_up, _) in zip(tasks, askers, strict=True):
            if given_up:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    assert room.taken == 0
    assert served == sorted(served)


async def test_an_answer_that_exceeds_all_there_is_comes_alone() -> None:
    room = Room(SIZE)
    first = await room.take(10**9)
    later = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not later.done()
    first.release()
    await later
    assert room.taken == PER_PAGE + PER_BAR


async def test_what_a_task_keeps_comes_back_when_it_ends_however_it_ends() -> None:
    room = Room(SIZE)
    shares: list[Share] = []
    for ending in (asyncio.sleep(0), asyncio.sleep(9)):
        shares.append(await room.take(10))
        task = asyncio.create_task(ending)
        shares[-1].until_done(task)
        shares[-1].release()
        assert room.taken > 0
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert room.taken == 0
