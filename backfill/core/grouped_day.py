"""The answer to a grouped call: what one session brings to each of the series that miss it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import Bars, IntColumn
from backfill.core.calendar import Calendar
from backfill.core.checks import EARLIEST_MS, LATEST_MS, check_page, sound
from backfill.core.coverage import Span, Spans
from backfill.core.empty import empty_slots
from backfill.core.paging import Chunk
from backfill.core.timeframe import Timeframe
from backfill.core.wire import GroupedDay
from backfill.core.work import Work


def read_day(
    work: Sequence[Work], session: Span, day: GroupedDay, now_ms: int, final_ms: int
) -> list[Chunk]:
    """Return what a session's answer brings to the d1 series that miss it.

    A series gets nothing where its ticker isn't in the answer, or is stamped on another day: what
    that means is for its own request to find out. ``final_ms`` is up to where the answer is final.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, ticker in enumerate(day.tickers):
        rows[ticker].append(row)
    missing = [
        (one, mine)
        for one in work
        if (mine := rows.get(one.symbol.listed_as)) and one.targets[0].missing.covers(*session)
    ]
    unblemished = _sound(missing, session, day, now_ms)
    claims = _claims(session, final_ms)
    held = replace(day.bars, ts_ms=np.full(len(day.bars), session.start_ms))
    chunks = []
    for one, mine in missing:
        if len(mine) == 1 and mine[0] in unblemished:
            target, [row] = one.targets[0], mine
            bars = held.take(slice(row, row + 1))
            chunks.append(Chunk(target.series, target.source, bars, claims, oddities=day.oddities))
            continue
        bars = day.bars.take(np.array(mine))
        if _are_of(one.calendar, session, bars.ts_ms).all():
            chunk = _chunk(one, session, bars, now_ms, claims)
            chunks.append(replace(chunk, oddities=day.oddities))
    return chunks


def _sound(
    missing: Sequence[tuple[Work, list[int]]], session: Span, day: GroupedDay, now_ms: int
) -> set[int]:
    """Return the rows with nothing to say against them: all are looked at at once."""
    if not missing:
        return set()
    calendar, precision = missing[0][0].calendar, missing[0][0].precision
    alone = np.array([mine[0] for one, mine in missing if one.precision == precision])
    alone = alone[_are_of(calendar, session, day.bars.ts_ms[alone])]
    bars = replace(day.bars.take(alone), ts_ms=np.full(len(alone), session.start_ms))
    good = sound(calendar, Timeframe.d1, bars, session, now_ms, precision)
    return set(alone[good].tolist())


def _claims(session: Span, final_ms: int) -> Spans:
    return Spans.of(session) if session.end_ms <= final_ms else Spans()


def _are_of(calendar: Calendar, session: Span, stamps: IntColumn) -> NDArray[np.bool_]:
    """Whether each stamp is one of a session's day."""
    found = (stamps >= EARLIEST_MS) & (stamps <= LATEST_MS)
    found[found] = calendar.canonical(Timeframe.d1, stamps[found]) == session.start_ms
    return found


def _chunk(work: Work, session: Span, bars: Bars, now_ms: int, claims: Spans) -> Chunk:
    target = work.targets[0]
    checked = check_page(work.calendar, Timeframe.d1, bars, session, now_ms, work.precision)
    held = np.array([session.start_ms])
    return Chunk(
        series=target.series,
        source=target.source,
        bars=checked.bars,
        claims=claims,
        empty=[]
        if len(checked.bars)
        else empty_slots(work.calendar, Timeframe.d1, claims, checked.bars.ts_ms, held),
        rejected=checked.rejected,
        reasons=checked.reasons,
    )
