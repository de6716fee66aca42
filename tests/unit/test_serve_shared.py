"""What is dear to look up: how often it is looked up, and for whom."""

import asyncio

import pytest

from backfill.serve.shared import Shared


async def test_all_who_ask_at_once_are_told_what_was_looked_up_once() -> None:
    looked: list[int] = []

    async def look() -> int:
        looked.append(len(looked))
        await asyncio.sleep(0)
        return looked[-1]

    shared = Shared(look, lambda _: 3_600)
    assert await asyncio.gather(*(shared.get() for _ in range(100))) == [0] * 100
    assert await shared.get() == 0
    assert looked == [0]


async def test_what_took_long_serves_for_four_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0

    async def look() -> float:
        nonlocal now_s
        now_s += 10
        return now_s

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    shared = Shared(look)
    assert await shared.get() == 10
    now_s = 49
    assert await shared.get() == 10
    now_s = 50
    assert await shared.get() == 60


async def test_a_look_that_failed_is_tried_again_by_who_asks_next() -> None:
    faults = [OSError("away")]

    async def look() -> str:
        if faults:
            raise faults.pop()
        return "seen"

    shared = Shared(look)
    with pytest.raises(OSError, match="away"):
        await shared.get()
    assert await shared.get() == "seen"


async def test_a_look_goes_on_for_the_others_where_who_asked_first_gives_up() -> None:
    goes_on, looked = asyncio.Event(), 0

    async def look() -> int:
        nonlocal looked
        looked += 1
        await goes_on.wait()
        return looked

    shared = Shared(look, lambda _: 3_600)
    first, second = (asyncio.create_task(shared.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    goes_on.set()
    assert await second == 1
    assert await shared.get() == 1


async def test_a_look_that_failed_is_told_to_all_who_wait_for_it() -> None:
    looked = 0

    async def look() -> str:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)
        raise OSError("away")

    shared = Shared(look)
    told = await asyncio.gather(*(shared.get() for _ in range(100)), return_exceptions=True)
    assert [str(one) for one in told] == ["away"] * 100
    assert looked == 1


async def test_a_look_that_nobody_waits_for_any_more_ends_with_the_server() -> None:
    ended = asyncio.Event()

    async def look() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    shared = Shared(look)
    await shared.close()  # nothing is looked up yet
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shared.get(), 0.01)
    assert not ended.is_set()
    await shared.close()
    assert ended.is_set()
