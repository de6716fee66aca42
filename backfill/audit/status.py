"""What there is of each series, and whether it is fresh by its calendar (R24)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.basis import RAW, doubtful
from backfill.core.calendar import trade_date
from backfill.core.coverage import Span
from backfill.core.dataclass import dataclass
from backfill.core.freshness import Silence, State, looked_back_from, share_of, state_of
from backfill.core.series import Progress, Series, SymbolId
from backfill.core.splits import Ratio, looks_like
from backfill.core.timeframe import Timeframe
from backfill.run.connect import opened
from backfill.run.job import EVERYTHING, Scope
from backfill.run.symbol_events import SymbolEvent, watched_events
from backfill.settings import Settings
from backfill.store import status as store
from backfill.store.holdings import Holdings, holdings
from backfill.store.orphans import orphans
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms, to_time

if TYPE_CHECKING:
    from backfill.core.grid import Grid


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """One series: what is stored, what is covered, and how far it is behind.

    ``due_until`` is the end of the last bar that was due; ``behind`` counts the due bars after the
    coverage, ``silent`` those of the regular session after the newest one that is stored, of which
    there may be ``usual_silence``: `backfill.core.freshness` says when it is fresh. A series
    without bars never is. What runs make of it by themselves begins at ``wanted_since``; of its
    slots ``missing`` are not answered for yet, and ``share`` is the part that is: None where
    nothing is wanted. One that is not ``judged`` nobody keeps up to date, so nobody is told that it
    is stale. Of adjusted bars those ``reloading`` are to be loaded again: until then they may be on
    the share basis before a split, and the others after it. ``unlisted_splits`` are the days on
    which raw closes of a d1 jump as with a split that nobody lists, with the ratio that it would
    have.
    """

    symbol: str
    timeframe: str
    bars: int
    oldest: datetime | None
    newest: datetime | None
    coverage: list[tuple[datetime, datetime]]
    due_until: datetime | None
    behind: int
    fresh: bool
    quarantined: int
    source: str | None
    unlisted_splits: list[tuple[date, Ratio]]
    state: State
    silent: int
    usual_silence: int
    wanted_since: datetime | None
    missing: int
    share: float | None
    watched: bool
    judged: bool
    reloading: tuple[datetime, datetime] | None = None

    @property
    def is_stale(self) -> bool:
        """Whether it should be fresh, and isn't."""
        return self.judged and not self.fresh

    @property
    def is_incomplete(self) -> bool:
        """Whether somebody wants more of it than was answered for."""
        return self.judged and self.missing > 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        values = asdict(self)
        for name in ("oldest", "newest", "due_until", "wanted_since"):
            values[name] = _iso(values[name])
        values["unlisted_splits"] = [
            {"date": day.isoformat(), "ratio": str(ratio)} for day, ratio in self.unlisted_splits
        ]
        values["coverage"] = [[_iso(start), _iso(end)] for start, end in self.coverage]
        values["reloading"] = [_iso(at) for at in self.reloading] if self.reloading else None
        return values


async def status(
    settings: Settings, as_of: datetime | None = None, scope: Scope = EVERYTHING
) -> list[SeriesStatus]:
    """Return the status of the series that are kept, by symbol, finest timeframe first.

    Raises
    ------
    UsageError, DatabaseError
        If the database can't be used, or the scope names a symbol that isn't kept.
    """
    async with opened(settings) as database:
        return await series_status(database, settings, as_of, scope)


async def status_with_orphans(
    settings: Settings, as_of: datetime | None = None, scope: Scope = EVERYTHING
) -> tuple[list[SeriesStatus], list[SymbolId], list[SymbolEvent]]:
    """Return the status of series as `status` does, and what else is to be told.

    That is the ids that only bars name, where no scope is given, and what became of the symbols
    that are watched.
    """
    async with opened(settings) as database:
        found = await series_status(database, settings, as_of, scope)
        ids, events = await database.run(orphans_and_events)
    if scope == EVERYTHING:
        return found, ids, events
    named = {one.symbol for one in found}
    return found, [], [event for event in events if event.symbol in named]


async def orphans_and_events(
    connection: Connection,
) -> tuple[list[SymbolId], list[SymbolEvent]]:
    """Return the ids that only bars name, and what became of the symbols that are watched."""
    return await orphans(connection), await watched_events(connection)


async def series_status(
    database: Database, settings: Settings, as_of: datetime | None, scope: Scope = EVERYTHING
) -> list[SeriesStatus]:
    """Return the status of the series that are kept, by symbol, finest timeframe first."""
    now = as_of or datetime.now(UTC)
    return await tracked_status(database, now, await tracked_series(database, settings, now, scope))


async def tracked_status(
    database: Database, now: datetime, tracked: Sequence[Tracked]
) -> list[SeriesStatus]:
    """Return the status of series whose progress is loaded, in their order."""
    due = [(one, one.due(now)) for one in tracked]

    async def load(connection: Connection) -> _Held:
        held = await holdings(connection, [one.series for one in tracked])
        return _Held(
            held,
            await store.quarantined(connection),
            await store.jumps(connection),
            await store.silences(
                connection, list(silent((one, span, _newest_ms(one, held)) for one, span in due))
            ),
        )

    held = await database.run(load)
    return [_status(one, span, one.wanted(now), held) for one, span in due]


def chosen(series: Sequence[SeriesStatus], *, stale: bool, missing: bool) -> list[SeriesStatus]:
    """Return those that are stale, or lack some of what is wanted, as asked; all if neither is."""
    return [
        one
        for one in series
        if not (stale or missing) or (stale and one.is_stale) or (missing and one.is_incomplete)
    ]


def exit_code(series: Iterable[SeriesStatus], *, missing: bool = False) -> int:
    """Return 4 if a series is stale, or, where that is asked, lacks some of what is wanted."""
    return 4 if any(one.is_stale or (missing and one.is_incomplete) for one in series) else 0


@dataclass(frozen=True, slots=True)
class _Held:
    """What the tables hold of all series."""

    bars: Holdings
    quarantined: store.Counts
    jumps: dict[SymbolId, list[store.Jump]]
    quiet: dict[Series, store.Quiet]

    def unlisted_splits(self, series: Series) -> list[tuple[date, Ratio]]:
        if series.timeframe is not Timeframe.d1:
            return []
        return [
            (trade_date(series.symbol.calendar, to_ms(jump.ts)), ratio)
            for jump in self.jumps.get(series.symbol.id, [])
            if (ratio := looks_like(jump.before, jump.close)) is not None
        ]


def _newest_ms(tracked: Tracked, held: Holdings) -> int | None:
    holding = held.get(tracked.series.key)
    return None if holding is None else to_ms(holding.newest)


def silent(
    every: Iterable[tuple[Tracked, Span | None, int | None]],
) -> Iterator[tuple[Series, date, int, int]]:
    """Yield the series that have due slots after their newest bar, with where to look back to.

    With each comes what is due of it, and where its newest bar begins, if it has any.
    """
    for one, due, newest_ms in every:
        if newest_ms is not None and (asked := silence_of(one, due, newest_ms)):
            yield asked


def silence_of(
    tracked: Tracked, due: Span | None, newest_ms: int
) -> tuple[Series, date, int, int] | None:
    """Return what to ask the store about a silence after a newest bar, if slots are due there."""
    grid, series = _regular(tracked), tracked.series
    if due is None or not grid.count((newest_ms + 1, due.end_ms)):
        return None
    since_ms = looked_back_from(grid, series.timeframe, newest_ms)
    return series, tracked.calendar.day_of(since_ms).replace(day=1), since_ms, newest_ms


def _regular(tracked: Tracked) -> "Grid":
    return tracked.calendar.regular_grid(tracked.series.timeframe)


def judged(
    tracked: Tracked, due: Span | None, newest_ms: int | None, quiet: store.Quiet
) -> tuple[State, int, Silence]:
    """Return the state of a series, how many bars it is behind, and its silence.

    Its newest bar begins at ``newest_ms``, if it has any.
    """
    behind, silence = 0, Silence(0, 0, 0)
    if due is not None:
        covered = tracked.known.coverage.hull
        grid = tracked.calendar.grid(tracked.series.timeframe)
        behind = grid.count((covered.end_ms if covered else due.start_ms, due.end_ms))
        begins = due.start_ms if newest_ms is None else max(due.start_ms, newest_ms + 1)
        since = Span(begins, max(begins, due.end_ms))
        timeframe = tracked.series.timeframe
        silence = Silence.of(_regular(tracked), timeframe, since, quiet.after, quiet.before)
    bars = 0 if newest_ms is None else 1
    return state_of(bars=bars, behind=behind, silence=silence), behind, silence


def _status(tracked: Tracked, due: Span | None, wanted: Span | None, every: _Held) -> SeriesStatus:
    known, timeframe = tracked.known, tracked.series.timeframe
    held = every.bars.get(tracked.series.key)
    bars = held.bars if held else 0
    grid = tracked.calendar.grid(timeframe)
    quiet = every.quiet.get(tracked.series, store.Quiet())
    newest_ms = to_ms(held.newest) if held and held.bars else None
    state, behind, silence = judged(tracked, due, newest_ms, quiet)
    answered, slots = share_of(grid, wanted, known.coverage)
    reloading = _reloading(known, newest_ms)
    return SeriesStatus(
        symbol=tracked.series.symbol.ticker,
        timeframe=str(timeframe),
        bars=bars,
        oldest=held.oldest if held else None,
        newest=held.newest if held else None,
        coverage=[(to_time(span.start_ms), to_time(span.end_ms)) for span in known.coverage],
        due_until=to_time(due.end_ms) if due else None,
        behind=behind,
        fresh=state is State.fresh,
        quarantined=every.quarantined.get(tracked.series.key, 0),
        source=str(known.source) if known.source else None,
        unlisted_splits=every.unlisted_splits(tracked.series),
        state=state,
        silent=silence.slots,
        usual_silence=silence.usual,
        wanted_since=to_time(wanted.start_ms) if wanted else None,
        missing=slots - answered,
        share=answered / slots if slots else None,
        watched=tracked.watched,
        judged=tracked.judged,
        reloading=(to_time(reloading.start_ms), to_time(reloading.end_ms)) if reloading else None,
    )


def _reloading(known: Progress, newest_ms: int | None) -> Span | None:
    """Return from when to when bars of a series may be on another share basis than its others."""
    if known.source is None or known.source.adjustment == RAW:
        return None
    return doubtful(known.invalidated, known.coverage, newest_ms).hull


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
