"""What a run reads before anything else: in one round trip, whatever it is about."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple

from backfill.core.series import Series, Symbol
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.empty import asking_again_of, read_again
from backfill.store.migrate import ask_today
from backfill.store.pool import Database
from backfill.store.sessions import Kept, keeping, read_kept
from backfill.store.shape import COLUMNS, Shape, read_shape


class Read(NamedTuple):
    """What the tables say of a job, all at one instant.

    ``shape`` is that of the table of bars, ``owed`` what runs have left to be listed; ``watchlist``
    is all that is watched, or what is of the tickers that are named. ``named`` holds the symbols
    that there are of these, by ticker, ``known`` what the ledger has of their series, or of those
    that are watched, and ``calendars`` the sessions as far back as that reaches.
    """

    shape: Shape
    watchlist: list[universe.WatchEntry]
    owed: runs.Owed
    named: dict[str, Symbol]
    calendars: Kept
    known: progress.Known

    def known_of(self, series: Iterable[Series]) -> progress.Known:
        """Return what is known of some of the series."""
        return {one.key: self.known[one.key] for one in series if one.key in self.known}


async def read(
    database: Database, settings: Settings, job: Job, today: date, reopen_at: datetime | None
) -> Read:
    """Return what the tables say of a job: of its symbols, their series and calendars.

    ``reopen_at`` is as `progress.load_progress` takes it.
    """
    tickers = job.tickers or ()
    ids = universe.ids_of(job.tickers)
    columns, watched, owed, named, calendars, series, *again = await ask_today(
        database,
        COLUMNS,
        universe.watching(job.tickers),
        runs.OWED,
        universe.finding(tickers),
        keeping(ids, _first_day(settings, job, today), today),
        progress.loading_of(ids),
        *([asking_again_of(ids, reopen_at)] if reopen_at else []),
    )
    reopened = read_again(again[0], reopen_at) if reopen_at else {}
    return Read(
        read_shape(columns),
        universe.read_watched(watched),
        runs.read_owed(owed[0]),
        universe.read_found(named, tickers),
        read_kept(calendars),
        progress.read_progress(series, reopened),
    )


def _first_day(settings: Settings, job: Job, today: date) -> date | None:
    """Return the first day that is asked for by default, unless only the ledger's depth counts."""
    if not job.mode.deepens:
        return None
    since = settings.since_day(today)
    return min(since, job.first.day) if job.first else since
