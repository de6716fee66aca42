"""What there is of each series, and whether it is fresh by its calendar (R24)."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from backfill.core.calendar import Calendar
from backfill.core.plan import frontier_ms
from backfill.core.series import Progress, Series, Symbol
from backfill.core.work import life_of
from backfill.settings import Settings
from backfill.store import progress, status, universe
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms, to_time


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """One series: what is stored, what is covered, and how far it is behind.

    ``due_until`` is the end of the last bar that was due; ``behind`` counts the due bars after the
    coverage. A series without bars is never fresh.
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

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        values = asdict(self)
        for name in ("oldest", "newest", "due_until"):
            values[name] = _iso(values[name])
        values["coverage"] = [[_iso(start), _iso(end)] for start, end in self.coverage]
        return values


async def series_status(
    database: Database, settings: Settings, as_of: datetime | None
) -> list[SeriesStatus]:
    """Return the status of every series that is watched or was ever fetched, by symbol.

    Paused entries of the watchlist are left out.
    """
    now = as_of or datetime.now(UTC)

    async def load(
        connection: Connection,
    ) -> tuple[list[Series], progress.Known, status.Holdings, status.Counts]:
        series = await _series(connection)
        return (
            series,
            await progress.load_progress(connection, series),
            await status.holdings(connection),
            await status.quarantined(connection),
        )

    series, known, held, quarantined = await database.run(load)
    calendars: dict[str, Calendar] = {}
    for name in {one.symbol.calendar for one in series}:
        first = settings.terms.window_start(now.date())
        calendars[name] = await load_calendar(database, name, first, now.date())
    return [
        _status(
            one,
            calendars[one.symbol.calendar],
            settings,
            to_ms(now),
            known.get(one.key, Progress()),
            held.get(one.key),
            quarantined.get(one.key, 0),
        )
        for one in series
    ]


async def _series(connection: Connection) -> list[Series]:
    symbols = {symbol.id: symbol for symbol in await universe.known_symbols(connection)}
    watchlist = await universe.watched(connection)
    paused = {entry.symbol.id for entry in watchlist if entry.paused}
    keys = {
        (entry.symbol.id, timeframe) for entry in watchlist for timeframe in entry.timeframes
    } | set(await status.tracked_series(connection))
    found = [
        Series(symbols[symbol_id], timeframe)
        for symbol_id, timeframe in keys
        if symbol_id in symbols and symbol_id not in paused
    ]
    order = list(type(found[0].timeframe)) if found else []
    return sorted(found, key=lambda one: (one.symbol.ticker, order.index(one.timeframe)))


def _status(
    series: Series,
    calendar: Calendar,
    settings: Settings,
    now_ms: int,
    known: Progress,
    held: status.Holding | None,
    quarantined: int,
) -> SeriesStatus:
    due_ms, behind = _due(series.symbol, series, calendar, settings, now_ms, known)
    return SeriesStatus(
        symbol=series.symbol.ticker,
        timeframe=str(series.timeframe),
        bars=held.bars if held else 0,
        oldest=held.oldest if held else None,
        newest=held.newest if held else None,
        coverage=[(to_time(span.start_ms), to_time(span.end_ms)) for span in known.coverage],
        due_until=to_time(due_ms) if due_ms is not None else None,
        behind=behind,
        fresh=held is not None and behind == 0,
        quarantined=quarantined,
        source=str(known.source) if known.source else None,
    )


def _due(
    symbol: Symbol,
    series: Series,
    calendar: Calendar,
    settings: Settings,
    now_ms: int,
    known: Progress,
) -> tuple[int | None, int]:
    """Return the end of the last due slot, and how many due slots the coverage lacks after it."""
    grid = calendar.grid(series.timeframe)
    frontier = frontier_ms(calendar, series.timeframe, settings.terms.settling, now_ms)
    delisted_ms = life_of(symbol, calendar, settings.terms, now_ms).delisted_ms
    end = frontier if delisted_ms is None else min(frontier, delisted_ms)
    due = grid.narrow((calendar.midnight_ms[0], end))
    if due is None:
        return None, 0
    covered = known.coverage.hull
    start = covered.end_ms if covered else due.start_ms
    return due.end_ms, grid.count((start, due.end_ms))


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
