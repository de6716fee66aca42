"""Bars of a derived series from the stored bars of its base, without a call."""

import numpy as np

from backfill.core.bars import Bars, IntColumn, is_among
from backfill.core.coverage import Span, Spans
from backfill.core.gaps import find_gaps
from backfill.core.paging import Chunk, with_empty
from backfill.core.rollup import roll_up
from backfill.core.work import Target, Work


def roll_up_stored(
    work: Work,
    target: Target,
    span: Span,
    stored: Bars,
    settled: Spans,
    unconfirmed: Spans,
    rejected_ms: IntColumn,
) -> tuple[Chunk, Spans]:
    """Return what stored bars of the base say of a target within a span, and what they leave open.

    ``span`` is of whole slots of the target; ``stored`` are the bars of every day that it touches,
    ``settled`` the slots of the base that are rightly empty, ``unconfirmed`` those that the
    provider may be late with, ``rejected_ms`` the stamps of its bars that failed a check. What is
    rolled up from unconfirmed slots is unconfirmed itself. A slot of the target stays open, to be
    fetched, where a slot of the base should hold a bar and holds none: at night only a rejected one
    tells of that.
    """
    calendar, timeframe = work.calendar, target.series.timeframe
    grid = calendar.grid(timeframe)
    regular = calendar.regular_grid(work.base)
    lacking = find_gaps(regular, Spans.of(span), stored.ts_ms, settled | unconfirmed, {})
    rejected, inside = calendar.grid(work.base).floor(calendar.canonical(work.base, rejected_ms))
    rejected = rejected[inside & ~is_among(rejected, stored.ts_ms)]
    holes = (*(gap.span for gap in lacking), *(Span(ms, ms + 1) for ms in rejected.tolist()))
    left = Spans.union(map(grid.widen, holes)) & Spans.of(span)
    claims = (Spans.of(span) - left) & target.missing
    bars = roll_up(stored.take(claims.holds(stored.ts_ms)), grid)
    traded, _ = grid.floor(stored.ts_ms)
    present = np.concatenate((traded, target.stored_ms))
    nothing = np.empty(0, np.int64)
    chunk = Chunk(
        series=target.series,
        source=target.source,
        bars=bars,
        claims=claims,
        replaces=target.replaces,
    )
    return with_empty(chunk, work, present, nothing, unconfirmed), left
