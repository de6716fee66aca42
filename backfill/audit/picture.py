"""One series as it is drawn: bars, and beside them what is missing, rejected, split and paid."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Final

from backfill.audit.gaps import series_gaps
from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.calendar import Calendar, trade_date
from backfill.core.coverage import Span, Spans
from backfill.core.gaps import Gap
from backfill.core.series import IMPORT, Series, Source, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.when import EARLIEST_DAY, Bound
from backfill.errors import NotKnown
from backfill.run.job import Scope
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.beside import Beside, beside
from backfill.store.history import StoredBar, Stretch, blocks
from backfill.store.pool import Connection, Database
from backfill.store.retry import origins
from backfill.store.sessions import load_calendar
from backfill.store.source import EVER
from backfill.store.standing import Standing, standing
from backfill.store.times import to_ms, to_time

MOST_BARS: Final = 50_000
_MOST_EMPTY: Final = 10_000
"""So many slots without a bar are told one by one; of longer gaps only where they begin."""
_MOST_REJECTED: Final = 1_000
_LOOKS_BACK: Final = timedelta(days=366)
"""How far back what is missing is told where no bar is stored."""
_EARLIEST: Final = datetime.combine(EARLIEST_DAY, time(), UTC)


@dataclass(frozen=True, slots=True)
class View:
    """What somebody wants to see: the newest so many bars of a series, before an instant if any.

    Without a timeframe it is d1, or the finest that there is.
    """

    ticker: str
    timeframe: Timeframe | None = None
    bars: int = 500
    until: datetime | None = None
    adjusted: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap, and the starts of its slots in epoch ms: the first alone where they are too many."""

    gap: Gap
    starts_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to see of a series, oldest first.

    ``timeframes`` are those that any run has fetched, finest first. ``is_regular`` tells of each
    bar whether it touches the regular session; it is None where nobody asked. ``source`` is None
    for a series that nobody keeps: then nobody knows what it lacks. Of ``left_out`` no bar is
    shown: they are to be loaded again, and may be on the share basis before a split.
    """

    symbol: Symbol
    timeframes: tuple[Timeframe, ...]
    timeframe: Timeframe
    adjusted: bool
    bars: tuple[StoredBar, ...]
    has_older: bool
    is_regular: tuple[bool, ...]
    missing: tuple[Missing, ...]
    beside: Beside
    source: Source | None
    left_out: Span | None


async def picture(database: Database, settings: Settings, view: View, now: datetime) -> Picture:
    """Return what there is to see of a series.

    Raises
    ------
    NotKnown
        If there is no such symbol.
    DatabaseError
        If the database can't be used.
    """
    series, timeframes, known = await database.run(partial(_known, view=view))
    symbol = series.symbol
    bars = await _bars(database, series, view)
    has_older = len(bars) > view.bars
    bars, left_out = _without(bars[-view.bars :], known.doubtful)
    ends = view.until or now
    begins = max(bars[0].ts if bars else ends - _LOOKS_BACK, _EARLIEST)
    tracked = await _tracked(database, settings, series, now, view.until)
    if tracked is not None:
        if bars and not has_older:
            begins = _answered_from(tracked, now, begins)
        tracked = replace(
            tracked,
            calendar=await _calendar(database, settings, tracked, begins, now),
            scope=replace(tracked.scope, first=Bound(begins)),
        )
    span = Span(to_ms(begins), max(to_ms(begins), to_ms(ends)))
    days = trade_date(symbol.calendar, span.start_ms), trade_date(symbol.calendar, span.end_ms)
    around = await database.run(
        partial(beside, series=series, span=span, days=days, most=_MOST_REJECTED)
    )
    return Picture(
        symbol=symbol,
        timeframes=timeframes,
        timeframe=series.timeframe,
        adjusted=view.adjusted,
        bars=tuple(bars),
        has_older=has_older and bool(bars),
        is_regular=_regular(tracked, bars),
        missing=await _missing(database, now, tracked) if tracked else (),
        beside=around,
        source=tracked.known.source if tracked else None,
        left_out=left_out,
    )


async def _known(
    connection: Connection, view: View
) -> tuple[Series, tuple[Timeframe, ...], Standing]:
    """Return the series that somebody wants to see, the timeframes there are, and how it stands."""
    symbol = await universe.known(connection, view.ticker)
    fetched = await origins(connection, Series(symbol, Timeframe.d1))
    timeframes = tuple(one for one in Timeframe if one in fetched)
    series = Series(symbol, view.timeframe or _usual(timeframes))
    return series, timeframes, await standing(connection, series, adjusted=False)


def _usual(timeframes: tuple[Timeframe, ...]) -> Timeframe:
    if not timeframes or Timeframe.d1 in timeframes:
        return Timeframe.d1
    return timeframes[0]


async def _bars(database: Database, series: Series, view: View) -> list[StoredBar]:
    """Return the bars to draw, and one before them if there is one."""
    end = view.until or to_time(EVER.end_ms)
    stretch = Stretch(series, to_time(EVER.start_ms), end, view.bars + 1, view.adjusted)
    most = min(view.bars, MOST_BARS) + 1
    return [bar async for block in blocks(database, stretch, most + 1) for bar in block]


def _without(bars: list[StoredBar], doubtful: Spans) -> tuple[list[StoredBar], Span | None]:
    """Return the bars that begin outside of spans, and from where to where others begin."""
    import numpy as np

    starts_ms = np.array([to_ms(bar.ts) for bar in bars], np.int64)
    inside = doubtful.holds(starts_ms)
    if not inside.any():
        return bars, None
    gone = starts_ms[inside].tolist()
    return [bars[at] for at in np.flatnonzero(~inside)], Span(gone[0], gone[-1])


async def _tracked(
    database: Database,
    settings: Settings,
    series: Series,
    now: datetime,
    until: datetime | None,
) -> Tracked | None:
    """Return what is known of a series before an instant; None of one that nobody keeps."""
    last = Bound(until) if until else None
    scope = Scope((series.symbol.ticker,), (series.timeframe,), None, last)
    try:
        found = await tracked_series(database, settings, now, scope)
    except NotKnown:
        return None
    return found[0] if found else None


def _answered_from(tracked: Tracked, now: datetime, oldest: datetime) -> datetime:
    """Return from when on a series is due and was answered for, if that is before its oldest bar.

    What lacks there has no page of its own.
    """
    due, covered = tracked.due(now), tracked.known.coverage.hull
    if due is None or covered is None:
        return oldest
    return min(oldest, to_time(max(due.start_ms, covered.start_ms)))


async def _calendar(
    database: Database, settings: Settings, tracked: Tracked, begins: datetime, now: datetime
) -> Calendar:
    """Return the calendar of a series as far back as it is looked at, and not as it is kept."""
    feed = IMPORT if tracked.is_imported else tracked.account.provider.can.feed
    name = tracked.series.symbol.calendar
    return await load_calendar(database, name, feed, begins.date(), now.date(), settings.night)


async def _missing(database: Database, now: datetime, tracked: Tracked) -> tuple[Missing, ...]:
    found = await series_gaps(database, now, [tracked])
    grid = tracked.calendar.regular_grid(tracked.series.timeframe)
    told, left = [], _MOST_EMPTY
    for gap in found[0].gaps if found else []:
        starts = tuple(grid.slots(gap.span).tolist()) if gap.slots <= left else (gap.span.start_ms,)
        left -= len(starts)
        told.append(Missing(gap, starts))
    return tuple(told)


def _regular(tracked: Tracked | None, bars: list[StoredBar]) -> tuple[bool, ...]:
    if tracked is None or not tracked.series.timeframe.is_intraday or not bars:
        return (True,) * len(bars)
    import numpy as np

    grid = tracked.calendar.regular_grid(tracked.series.timeframe)
    starts_ms = np.array([to_ms(bar.ts) for bar in bars], np.int64)
    return tuple(grid.floor(starts_ms)[1].tolist())
