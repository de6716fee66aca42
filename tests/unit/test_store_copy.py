"""Rows on their way to the database leave the event loop to others."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

from backfill.core.series import Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.store.copy import copy_bars
from backfill.store.shape import Shape
from tests.integration.store_kit import minutes

if TYPE_CHECKING:
    from backfill.store.pool import Connection

SERIES = Series(Symbol(1, "AAPL", "stock", "XNYS"), Timeframe.m1)
OWN = Shape(("double precision",) * 6, 4, None, partitioned=False, triggered=False)


class Kept:
    """A connection that keeps what is to be copied over it."""

    rows: AsyncIterator[bytes]

    async def copy_later(self, statement: str, rows: AsyncIterator[bytes]) -> None:
        del statement
        self.rows = rows


async def test_whoever_waits_for_the_event_loop_has_a_turn_after_every_piece_of_a_page() -> None:
    kept, turns = Kept(), 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    taking = asyncio.create_task(take_turns())
    await copy_bars(cast("Connection", kept), [(SERIES, minutes(50_000))], OWN)
    seen = [turns async for _ in kept.rows]
    taking.cancel()
    _, *pieces, _ = seen
    assert len(pieces) > 10
    assert len(set(pieces)) == len(pieces)
