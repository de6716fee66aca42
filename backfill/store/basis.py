"""Series that are on an old share basis: asked for again; what can't be read again leaves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.bars import Bars
from backfill.core.basis import RAW, Rebase, rebased
from backfill.core.coverage import Span, Spans
from backfill.core.paging import Chunk
from backfill.core.series import Progress, Series
from backfill.store import progress
from backfill.store.keys import key_of, keys_of
from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.read import bars_of_each
from backfill.store.source import expel, uncover
from backfill.store.times import to_time

# At what the last bar before a stamp closed, of each series that has one; by the primary key.
_CLOSED_BEFORE: Final = """
    SELECT k.number, b.close
    FROM unnest($1::symbol_id[], $2::text[]::timeframe[], $3::timestamptz[])
        WITH ORDINALITY AS k (symbol_id, timeframe, ts, number)
    CROSS JOIN LATERAL (
        SELECT close::double precision
        FROM ohlc_bars
        WHERE symbol_id = k.symbol_id AND timeframe = k.timeframe AND ts < k.ts AND close > 0
        ORDER BY ts DESC
        LIMIT 1
    ) AS b
"""
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
    came = {
        chunk.series: (spans, chunk.bars)
        for chunk in chunks
        if (spans := _covered_again(chunk, known[chunk.series.key]))
    }
    return await on_other_bases(connection, came)


async def on_other_bases(
    connection: Connection, came: Mapping[Series, tuple[Spans, Bars]]
) -> dict[Series, float]:
    """Return of which series the bars stored within spans are on another basis than those given.

    Where these alone don't make that clear, the bar that is stored before them tells.
    """
    if not came:
        return {}
    stored = await bars_of_each(connection, {series: spans for series, (spans, _) in came.items()})
    found = {
        series: rebase
        for series, (_, bars) in came.items()
        if (rebase := rebased(stored[series], bars)) is not None
    }
    vague = {series: rebase for series, rebase in found.items() if not rebase.is_clear}
    for series, close in (await _closed_before(connection, vague)).items():
        if not found[series].fits(close):
            del found[series]
    return {series: rebase.factor for series, rebase in found.items()}


async def _closed_before(
    connection: Connection, found: Mapping[Series, Rebase]
) -> dict[Series, float]:
    if not found:
        return {}
    series, stamps = list(found), [to_time(one.ts_ms) for one in found.values()]
    (rows,) = await connection.ask(bound(_CLOSED_BEFORE, *keys_of(found), stamps))
    return {series[row["number"] - 1]: row["close"] for row in rows}


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
        old, lost = known[one.key].coverage, Span(0, window_ms)
        expelled[one] = await outdate(connection, run_id, one, old, lost, now)
    return expelled


async def outdate(
    connection: Connection, run_id: UUID, series: Series, old: Spans, lost: Span, now: datetime
) -> int:
    """Have what is on an ``old`` basis asked for again; return how many bars are ``lost``.

    Those can't be read again, and leave for quarantine as ``source_changed``.
    """
    await progress.invalidate(connection, series, old - Spans.of(lost))
    expelled = await expel(connection, run_id, series, lost)
    if expelled:
        await uncover(connection, series, lost)
    await connection.execute(_BEGUN, *key_of(series), now)
    return expelled
