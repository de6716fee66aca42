"""Grouped days: one call for a session of all series, where that is cheaper than a call each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from backfill.core.bars import Bars
from backfill.core.checks import EARLIEST_MS, LATEST_MS, check_page
from backfill.core.coverage import Span, Spans
from backfill.core.empty import empty_slots
from backfill.core.paging import Chunk
from backfill.core.timeframe import Timeframe
from backfill.core.wire import GroupedDay
from backfill.core.work import Work

_MARKET: Final = ("stock", "XNYS")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Sessions that are worth a call each, newest first, and the work that needs no other call.

    A call is about ``most`` pieces of work; None for any number.
    """

    sessions: tuple[Span, ...] = ()
    work: tuple[Work, ...] = ()
    most: int | None = None

    @property
    def batches(self) -> tuple[tuple[Work, ...], ...]:
        """The work, as it is asked for in each session, a call a batch."""
        step = self.most or max(len(self.work), 1)
        return tuple(self.work[at : at + step] for at in range(0, len(self.work), step))

    @property
    def calls(self) -> int:
        """How many calls it takes."""
        return len(self.sessions) * len(self.batches)


def group(work: Iterable[Work], most: int | None = None) -> Grouping:
    """Return the sessions to ask for grouped, so that all the work takes the fewest calls.

    A call is about ``most`` pieces of work; None for any number.

    A session serves every piece of work that misses it, but a piece saves its own calls only when
    all that it misses is among the sessions. So pieces join by how far back they reach, those that
    miss the least first, up to where the most calls are saved.
    """
    pieces = [one for one in work if _may_join(one)]
    apart = sum(_calls(one) for one in pieces)
    missed = {one: _missed(one) for one in pieces if _sessions(one) < apart}
    ordered = sorted(missed, key=lambda one: (-missed[one][0].start_ms, len(missed[one])))
    sessions: set[Span] = set()
    saved = best = 0
    joined: list[Work] = []
    for count, one in enumerate(ordered, 1):
        sessions.update(missed[one])
        saved += _calls(one)
        paid = len(sessions) * (-(-count // most) if most else 1)
        if saved - paid > best:
            best, joined = saved - paid, ordered[:count]
    needed = {session for one in joined for session in missed[one]}
    return Grouping(tuple(sorted(needed, reverse=True)), tuple(joined), most)


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
    chunks = []
    for one in work:
        mine = rows.get(one.symbol.listed_as)
        if mine and one.targets[0].missing.covers(*session):
            bars = day.bars.take(np.array(mine))
            if _is_of(one, session, bars):
                chunk = _chunk(one, session, bars, now_ms, final_ms)
                chunks.append(replace(chunk, oddities=day.oddities))
    return chunks


def is_closed(work: Work, answered: Spans) -> bool:
    """Whether nothing is left to do of a piece once what it misses of ``answered`` is stored."""
    days, *others = work.targets
    return not days.missing - answered and not any(target.missing for target in others)


def _may_join(work: Work) -> bool:
    """Whether a piece of work may take its days from grouped answers.

    Not before its first own answer, which leads to the reference where it has to; nor for days on
    which the symbol had another name.
    """
    days, *others = work.targets
    symbol, hull = work.symbol, days.missing.hull
    if (
        days.series.timeframe is not Timeframe.d1
        or (symbol.asset_type, symbol.calendar) != _MARKET
        or not (symbol.confirmed and days.is_loaded)
        or hull is None
        or days.wanted is None
        or any(target.refusal or target.replaces for target in work.targets)
    ):
        return False
    if symbol.on(work.calendar.day_of(hull.start_ms)).ticker != symbol.ticker:
        return False
    # Weeks and months are rolled up once their days are stored, if those are all theirs.
    grid = work.calendar.grid(Timeframe.d1)
    coarser = Spans.union(span for one in others for span in one.missing - one.local)
    return not any(grid.count(span) for span in coarser - Spans.of(days.wanted))


def _missed(work: Work) -> list[Span]:
    """The sessions that a piece of work misses, oldest first."""
    grid = work.calendar.grid(Timeframe.d1)
    return [
        Span(grid.start_of(index), grid.end_of(index))
        for span in work.targets[0].missing
        for index in range(grid.index_from(span.start_ms), grid.index_from(span.end_ms))
    ]


def _sessions(work: Work) -> int:
    grid = work.calendar.grid(Timeframe.d1)
    return sum(grid.count(span) for span in work.targets[0].missing)


def _calls(work: Work) -> int:
    return sum(planned.calls for planned in work.ranges)


def _is_of(work: Work, session: Span, bars: Bars) -> bool:
    stamps = bars.ts_ms
    if stamps.min() < EARLIEST_MS or stamps.max() > LATEST_MS:
        return False
    return bool((work.calendar.canonical(Timeframe.d1, stamps) == session.start_ms).all())


def _chunk(work: Work, session: Span, bars: Bars, now_ms: int, final_ms: int) -> Chunk:
    target = work.targets[0]
    checked = check_page(work.calendar, Timeframe.d1, bars, session, now_ms, work.precision)
    claims = Spans.of(session) if session.end_ms <= final_ms else Spans()
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
