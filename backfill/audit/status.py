"""What there is of each series, and whether it is fresh by its calendar (R24)."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.calendar import trade_date
from backfill.core.series import Series, SymbolId
from backfill.core.splits import Ratio, looks_like
from backfill.core.timeframe import Timeframe
from backfill.run.connect import opened
from backfill.run.symbol_events import SymbolEvent, watched_events
from backfill.settings import Settings
from backfill.store import status as store
from backfill.store.holdings import Holdings, holdings
from backfill.store.orphans import orphans
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms, to_time


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """One series: what is stored, what is covered, and how far it is behind.

    ``due_until`` is the end of the last bar that was due; ``behind`` counts the due bars after the
    coverage. A series without bars is never fresh. ``unlisted_splits`` are the days on which raw
    closes of a d1 jump as with a split that nobody lists, with the ratio that it would have.
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

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        values = asdict(self)
        for name in ("oldest", "newest", "due_until"):
            values[name] = _iso(values[name])
        values["unlisted_splits"] = [
            {"date": day.isoformat(), "ratio": str(ratio)} for day, ratio in self.unlisted_splits
        ]
        values["coverage"] = [[_iso(start), _iso(end)] for start, end in self.coverage]
        return values


async def status(settings: Settings, as_of: datetime | None = None) -> list[SeriesStatus]:
    """Return the status of every series that is kept, by symbol, finest timeframe first.

    Raises
    ------
    UsageError, DatabaseError
        If the database can't be used.
    """
    async with opened(settings) as database:
        return await series_status(database, settings, as_of)


async def status_with_orphans(
    settings: Settings, as_of: datetime | None = None
) -> tuple[list[SeriesStatus], list[SymbolId], list[SymbolEvent]]:
    """Return the status of every series as `status` does, and what else is to be told.

    That is the ids that only bars name, and what became of the symbols that are watched.
    """
    async with opened(settings) as database:
        found = await series_status(database, settings, as_of)
        return found, *await database.run(_beside)


async def _beside(connection: Connection) -> tuple[list[SymbolId], list[SymbolEvent]]:
    return await orphans(connection), await watched_events(connection)


async def series_status(
    database: Database, settings: Settings, as_of: datetime | None
) -> list[SeriesStatus]:
    """Return the status of every series that is kept, by symbol, finest timeframe first."""
    now = as_of or datetime.now(UTC)
    tracked = await tracked_series(database, settings, now)

    async def load(connection: Connection) -> _Held:
        return _Held(
            await holdings(connection, [one.series for one in tracked]),
            await store.quarantined(connection),
            await store.jumps(connection),
        )

    held = await database.run(load)
    return [_status(one, now, held) for one in tracked]


@dataclass(frozen=True, slots=True)
class _Held:
    """What the tables hold of all series."""

    bars: Holdings
    quarantined: store.Counts
    jumps: dict[SymbolId, list[store.Jump]]

    def unlisted_splits(self, series: Series) -> list[tuple[date, Ratio]]:
        if series.timeframe is not Timeframe.d1:
            return []
        return [
            (trade_date(series.symbol.calendar, to_ms(jump.ts)), ratio)
            for jump in self.jumps.get(series.symbol.id, [])
            if (ratio := looks_like(jump.before, jump.close)) is not None
        ]


def _status(
    tracked: Tracked,
    now: datetime,
    every: _Held,
) -> SeriesStatus:
    known = tracked.known
    held = every.bars.get(tracked.series.key)
    due = tracked.due(now)
    behind = 0
    if due is not None:
        grid = tracked.calendar.grid(tracked.series.timeframe)
        covered = known.coverage.hull
        behind = grid.count((covered.end_ms if covered else due.start_ms, due.end_ms))
    return SeriesStatus(
        symbol=tracked.series.symbol.ticker,
        timeframe=str(tracked.series.timeframe),
        bars=held.bars if held else 0,
        oldest=held.oldest if held else None,
        newest=held.newest if held else None,
        coverage=[(to_time(span.start_ms), to_time(span.end_ms)) for span in known.coverage],
        due_until=to_time(due.end_ms) if due else None,
        behind=behind,
        fresh=held is not None and behind == 0,
        quarantined=every.quarantined.get(tracked.series.key, 0),
        source=str(known.source) if known.source else None,
        unlisted_splits=every.unlisted_splits(tracked.series),
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
