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
