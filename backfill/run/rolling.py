"""Rolling up: what stored bars of a base answer for, written without a call."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from backfill.core.bars import Bars
from backfill.core.coverage import Span, Spans
from backfill.core.local import roll_up_stored
from backfill.core.pages import BaseAggregates
from backfill.core.paging import Chunk
from backfill.core.plan import one_page_spans
from backfill.core.series import Series
from backfill.core.work import Mode, Target, Work
from backfill.run.context import Context
from backfill.run.writing import ChunksOf
from backfill.store import progress
from backfill.store.derived import stored_bases
from backfill.store.pool import Connection
from backfill.store.times import to_time

_AT_ONCE: Final = BaseAggregates(50_000)
_DAYS_AT_ONCE: Final = BaseAggregates(50_000 // 1440)
"""How much of a stored base is rolled up in one transaction; days, where it is made of minutes."""


async def roll_up_local(
    context: Context,
    work: Work,
    mode: Mode,
    write: Callable[[ChunksOf], Awaitable[object]],
) -> Spans:
    """Write what stored bars of the base answer for, and return what they leave open after all.

    ``write`` writes the chunks of one transaction; each part is rolled up in the one that writes
    it, from what its base holds then.
    """
    left: dict[tuple[Series, Span], Spans] = {}

    async def roll_up(connection: Connection, target: Target, span: Span) -> list[Chunk]:
        chunk, left[target.series, span] = await _rolled_up(
            connection, context.rules.now_ms, work, mode, target, span
        )
        return [chunk]

    for target in work.fed:
        timeframe = target.series.timeframe
        of_minutes = work.base.is_intraday and not timeframe.is_intraday
        law = _DAYS_AT_ONCE if of_minutes else _AT_ONCE
        for span in one_page_spans(work.calendar, timeframe, target.local, law):
            await write(partial(roll_up, target=target, span=span))
    return Spans.union(span for spans in left.values() for span in spans)


async def _rolled_up(
    connection: Connection, now_ms: int, work: Work, mode: Mode, target: Target, span: Span
) -> tuple[Chunk, Spans]:
    """Roll up a span by what its base holds, and tell what of it that doesn't answer for."""
    base = Series(work.symbol, work.base)
    known = await progress.load_progress(connection, [base])
    if base.key not in known:
        return Chunk(target.series, target.source, Bars.empty(), Spans()), Spans.of(span)
    slots, wanted = Spans.of(span), {target.series: (base, Spans.of(span))}
    now = to_time(now_ms)
    [stored] = (await stored_bases(connection, work.calendar, wanted, known, now)).values()
    chunk, left = roll_up_stored(
        work.calendar,
        target.series,
        target.source,
        slots,
        stored,
        work.day_final_ms,
        target.known_ms,
        every_hour=mode is Mode.repair,
    )
    return replace(chunk, replaces=target.replaces), left
