"""Turns at a connection: few where work comes in drops, as many as help where it waits."""

import asyncio

from backfill.store.turns import Turns
from tests.kit import leaping


async def _hold(turns: Turns, seconds: float, held: list[int]) -> None:
    async with turns.taken():
        held[0] += 1
        held[1] = max(held[0], held[1])
        await asyncio.sleep(seconds)
        held[0] -= 1


async def _most_at_once(turns: Turns, pieces: int, seconds: float) -> int:
    held = [0, 0]
    await asyncio.gather(*(_hold(turns, seconds, held) for _ in range(pieces)))
    return held[1]


@leaping
async def test_short_pieces_of_work_share_a_turn() -> None:
    assert await _most_at_once(Turns(6), pieces=10, seconds=0.004) == 1


@leaping
async def test_who_would_wait_long_brings_a_turn_but_for_the_most() -> None:
    assert await _most_at_once(Turns(6), pieces=4, seconds=0.5) == 4
    assert await _most_at_once(Turns(6), pieces=40, seconds=0.5) == 6


@leaping
async def test_a_turn_that_was_given_up_does_not_come_back_and_the_last_one_is_kept() -> None:
    turns = Turns(6)
    assert await _most_at_once(turns, pieces=3, seconds=0.5) == 3
    async with turns.taken():
        turns.give_one_up()
    assert await _most_at_once(turns, pieces=9, seconds=0.5) == 2
    for _ in range(3):
        async with turns.taken():
            turns.give_one_up()
    assert await _most_at_once(turns, pieces=9, seconds=0.5) == 1


@leaping
async def test_a_turn_is_passed_on_when_its_work_fails_or_is_given_up() -> None:
    turns = Turns(1)
    held = [0, 0]
    given_up = [asyncio.create_task(_hold(turns, 9.0, held)) for _ in range(3)]
    await asyncio.sleep(1)
    for task in given_up:
        task.cancel()
    assert await _most_at_once(turns, pieces=1, seconds=0.1) == 1
