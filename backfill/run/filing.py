"""What a file holds, and which series of the database that goes to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.file_pages import Extent, foreign_days
from backfill.core.filed import Key
from backfill.core.plain import argument
from backfill.core.plan import frontier_ms
from backfill.core.precision import Precision
from backfill.core.series import IMPORT, Progress, Series, Source, unregistered
from backfill.core.target import why_ended
from backfill.core.terms import UNTOLD
from backfill.core.timeframe import Timeframe
from backfill.core.work import Target, Work
from backfill.errors import NoCalendar, NotKept, SeriesError, SourceMismatch
from backfill.files.base import BarFile
from backfill.run.file_job import FileJob, Looked, source_of
from backfill.run.spelled import see_spelled
from backfill.settings import Settings
from backfill.store import progress, universe
from backfill.store.files import FiledSeries
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms, to_time


@dataclass(frozen=True, eq=False, slots=True)
class Filed:
    """One series that a file has bars of, and their source."""

    key: Key
    extent: Extent
    series: Series
    source: Source


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One series that a file goes to; ``covers`` is what the file is all of, in whole final slots.

    Days that end by ``day_final_ms`` are final; ``precision`` is what the table can hold.
    """

    filed: Filed
    calendar: Calendar
    covers: Spans
    day_final_ms: int
    precision: Precision

    @property
    def key(self) -> Key:
        """The series as the file names it."""
        return self.filed.key

    @property
    def series(self) -> Series:
        """The series."""
        return self.filed.series

    @property
    def slots(self) -> Spans:
        """The span of its bars, and of what the file is all of."""
        first_ms, last_ms = self._ends_ms
        hull = (self.covers | Spans.of((first_ms, last_ms + 1))).hull
        return Spans.of(hull) if hull else Spans()

    @property
    def _ends_ms(self) -> tuple[int, int]:
        """The starts of its first bar and its last; a day's stamp may lie in the one before."""
        ends = np.array([self.filed.extent.first_ms, self.filed.extent.last_ms])
        first_ms, last_ms = self.calendar.canonical(self.series.timeframe, ends).tolist()
        return first_ms, last_ms

    @property
    def work(self) -> Work:
        """The series as work to be written."""
        series = self.series
        return Work(
            series.symbol,
            self.calendar,
            series.timeframe,
            (Target(series, self.filed.source, None, Spans()),),
            (),
            self.precision,
            self.day_final_ms,
        )

    @property
    def noted(self) -> FiledSeries:
        """What is noted of the file."""
        return FiledSeries(self.series, self.filed.source.feed, self.filed.extent, self.covers)


@dataclass(frozen=True, slots=True)
class Entries:
    """Where the bars of a file go; and those that go nowhere, with the reason."""

    due: list[Entry]
    refused: list[tuple[Filed, SeriesError]]

    @property
    def series(self) -> list[Series]:
        """Every series that the file has bars of."""
        return [*(one.series for one in self.due), *(one.series for one, _ in self.refused)]


@dataclass(frozen=True, slots=True)
class PlannedFileSeries:
    """What an import would bring to one series, and why it wouldn't."""

    symbol: str
    timeframe: str
    source: str
    bars: int
    first: str
    last: str
    covers: tuple[str, str] | None
    refusal: str | None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What an import would do."""

    file: str
    format: str
    bytes: int
    sha256: str
    bars: int
    series: list[PlannedFileSeries]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self)


async def entries_of(
    database: Database,
    settings: Settings,
    job: FileJob,
    file: BarFile,
    looked: Looked,
    now: datetime,
    precision: Precision,
    *,
    register: bool,
) -> Entries:
    """Return the series that a file has bars of, by symbol and timeframe.

    Symbols that are new are added to the table if ``register`` is set.

    Raises
    ------
    UsageError
        If a ticker surely is none.
    """
    tickers = list(dict.fromkeys(key.ticker for key in looked.extents))

    async def load(connection: Connection) -> tuple[list[Filed], progress.Known]:
        await see_spelled(connection, tickers)
        if register:
            await universe.register(connection, tickers)
        found = await universe.found_by(connection, tickers)
        filed = [
            Filed(
                key,
                extent,
                Series(found.get(key.ticker) or unregistered(key.ticker), key.timeframe),
                source_of(job, file, key),
            )
            for key, extent in looked.extents.items()
        ]
        return filed, await progress.load_progress(connection, [one.series for one in filed])

    filed, known = await database.run(load)
    order = list(Timeframe)
    filed.sort(key=lambda one: (one.key.ticker, order.index(one.key.timeframe)))
    calendars = await _calendars(database, settings, filed, now)
    now_ms = to_ms(now)
    entries = Entries([], [])
    for one in filed:
        symbol, calendar = one.series.symbol, calendars[one.series.symbol.calendar]
        refusal: SeriesError | None = NotKept(symbol.doubt) if symbol.doubt else None
        refusal = refusal or why_ended(symbol)
        refusal = refusal or mismatch(one.series, one.source, known.get(one.series.key))
        if isinstance(calendar, NoCalendar):
            entries.refused.append((one, refusal or calendar))
        elif refusal is not None:
            entries.refused.append((one, refusal))
        elif (foreign := foreign_days(calendar, one.extent)) is not None:
            entries.refused.append((one, foreign))
        else:
            covers = _covers(job, looked, calendar, one.key.timeframe, now_ms)
            day_final_ms = frontier_ms(calendar, Timeframe.d1, UNTOLD, now_ms)
            entries.due.append(Entry(one, calendar, covers, day_final_ms, precision))
    return entries


async def _calendars(
    database: Database, settings: Settings, filed: Sequence[Filed], now: datetime
) -> dict[str, Calendar | NoCalendar]:
    """Return each calendar that is needed, from the oldest bar on, or why there is none."""
    found: dict[str, Calendar | NoCalendar] = {}
    first = min(to_time(min(one.extent.first_ms for one in filed)), now).date()
    for name in sorted({one.series.symbol.calendar for one in filed}):
        try:
            found[name] = await load_calendar(
                database, name, IMPORT, first, now.date(), settings.night
            )
        except NoCalendar as error:
            found[name] = error
    return found


def _covers(
    job: FileJob, looked: Looked, calendar: Calendar, timeframe: Timeframe, now_ms: int
) -> Spans:
    """Return what a file is all of: as the user says, or as it proves itself; nothing else."""
    span = looked.covers
    if job.covers is not None:
        first, last = job.covers
        span = Span(first.start_ms(calendar, timeframe), last.end_ms(calendar, timeframe))
    if span is None:
        return Spans()
    final_ms = frontier_ms(calendar, timeframe, UNTOLD, now_ms)
    whole = calendar.grid(timeframe).narrow((span.start_ms, min(span.end_ms, final_ms)))
    return Spans.of(whole) if whole else Spans()


def mismatch(series: Series, source: Source, known: Progress | None) -> SourceMismatch | None:
    """Return why bars of a source can't go into a series: it holds another's. None if they can."""
    if known is None or known.source in {None, source}:
        return None
    message = f"the series holds {known.source}; the file is {source}"
    ticker = series.symbol.ticker
    if series.symbol.venue is None:
        other = argument(f"{ticker}@{IMPORT}")
        message += f". To keep both, import it as a symbol of its own: --symbol {other}"
    return SourceMismatch(message)


def other_basis(entry: Entry, factor: float) -> SourceMismatch:
    """Return why a file can't go into a series of which it lacks bars: a split lies between."""
    return SourceMismatch(
        f"prices that are stored are {factor:g} times those of the file, as a split makes them "
        f"which {entry.filed.source} was adjusted for since, and bars are stored that the file "
        "lacks: import all of them again, in one file"
    )


def planned(looked: Looked, entries: Entries) -> FilePlan:
    """Return what an import would do."""
    return FilePlan(
        looked.file.name,
        looked.file.form,
        looked.file.size,
        looked.file.sha256,
        sum(one.bars for one in looked.extents.values()),
        [
            *(_planned(one.filed, one.covers.hull, None) for one in entries.due),
            *(_planned(one, None, str(error)) for one, error in entries.refused),
        ],
    )


def _planned(one: Filed, covers: Span | None, refusal: str | None) -> PlannedFileSeries:
    return PlannedFileSeries(
        one.series.symbol.ticker,
        str(one.series.timeframe),
        str(one.source),
        one.extent.bars,
        _iso(one.extent.first_ms),
        _iso(one.extent.last_ms),
        (_iso(covers.start_ms), _iso(covers.end_ms)) if covers else None,
        refusal,
    )


def _iso(ms: int) -> str:
    return to_time(ms).isoformat()
