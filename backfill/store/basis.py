"""Series that are on an old share basis: asked for again; what can't be read again leaves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.basis import RAW, rebased
from backfill.core.coverage import Span, Spans
from backfill.core.paging import Chunk
from backfill.core.series import Progress, Series
from backfill.store import progress
from backfill.store.keys import key_of
from backfill.store.pool import Connection
from backfill.store.read import bars_of_each
from backfill.store.source import expel, uncover

# All of a series is on the basis of what comes from now on; by the primary key.
_BEGUN: Final = """
    UPDATE backfill_progress
    SET loaded_at = $3
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""


async def noticed(
    connection: Connection, chunks: Sequence[Chunk], known: progress.Known
) -> dict[Series, float]:
    """Return which series were stored on another share basis than their chunks are, by the factor.

    Only bars that come again tell, of what is covered: what is asked for again is the old basis'.
    """
    again = {
        chunk.series: spans
        for chunk in chunks
        if (spans := _covered_again(chunk, known[chunk.series.key]))
    }
    if not again:
        return {}
    stored = await bars_of_each(connection, again)
    factors = {
        chunk.series: rebased(stored[chunk.series], chunk.bars)
        for chunk in chunks
        if chunk.series in again
    }
    return {series: factor for series, factor in factors.items() if factor is not None}


def _covered_again(chunk: Chunk, known: Progress) -> Spans:
    """Return within what the stored bars lie that a chunk of adjusted bars brings again."""
    if chunk.source.adjustment == RAW or known.source != chunk.source:
        return Spans()
    stamps = chunk.bars.ts_ms[known.coverage.holds(chunk.bars.ts_ms)]
    if not len(stamps):
        return Spans()
    return known.coverage & Spans.of((int(stamps[0]), int(stamps[-1]) + 1))


async def load_again(
    connection: Connection,
    run_id: UUID,
    series: Mapping[Series, int],
    known: progress.Known,
    now: datetime,
) -> dict[Series, int]:
    """Take series out of their coverage; return how many bars of each left for quarantine.

    That are those before the instant that a series is given with, which can't be read again.
    """
    expelled = {}
    for one, window_ms in series.items():
        expelled[one] = await outdate(
            connection, run_id, one, known[one.key].coverage, Span(0, window_ms)
        )
        await connection.execute(_BEGUN, *key_of(one), now)
    return expelled


async def outdate(
    connection: Connection, run_id: UUID, series: Series, old: Spans, lost: Span
) -> int:
    """Have what is on an ``old`` basis asked for again; return how many bars are ``lost``.

    Those can't be read again, and leave for quarantine as ``source_changed``.
    """
    await progress.invalidate(connection, series, old - Spans.of(lost))
    expelled = await expel(connection, run_id, series, lost)
    if expelled:
        await uncover(connection, series, lost)
    return expelled
