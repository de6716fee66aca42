"""How it stands with all that is kept, in one look: for whoever watches over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from backfill.audit.gaps import series_gaps
from backfill.audit.status import SeriesStatus, tracked_status
from backfill.audit.tracked import tracked_series
from backfill.run.connect import opened
from backfill.run.job import EVERYTHING, Scope
from backfill.settings import Settings
from backfill.store.pool import Database
from backfill.store.runs import LastRun, last_run


@dataclass(frozen=True, slots=True)
class Health:
    """What there is to say: every series, its missing slots by (symbol, timeframe), the last run.

    ``gaps`` has no entry for a series without any.
    """

    series: list[SeriesStatus]
    gaps: Mapping[tuple[str, str], int]
    run: LastRun | None


async def health(
    settings: Settings, as_of: datetime | None = None, scope: Scope = EVERYTHING
) -> Health:
    """Return the status of the series, how many of their bars are missing, and the last run.

    Raises
    ------
    UsageError, DatabaseError
        If the database can't be used.
    """
    async with opened(settings) as database:
        return await health_of(database, settings, as_of or datetime.now(UTC), scope)


async def health_of(
    database: Database, settings: Settings, now: datetime, scope: Scope = EVERYTHING
) -> Health:
    """Return what `health` does, of a database that is open."""
    tracked = await tracked_series(database, settings, now, scope)
    series = await tracked_status(database, now, tracked)
    missing = {
        (one.series.symbol.ticker, str(one.series.timeframe)): sum(
            gap.slots for gap in one.gaps if gap.alarms
        )
        for one in await series_gaps(database, now, tracked)
    }
    return Health(series, missing, await database.run(last_run))
