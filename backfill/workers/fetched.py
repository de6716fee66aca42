"""A fetch of the queue, run: by the function that a run of the command is."""

from dataclasses import replace

from backfill.core.fetches import Fetch
from backfill.fetch.stop import StopSignal
from backfill.providers import provider_named
from backfill.run.execution import run_in
from backfill.run.job import Job
from backfill.run.outcomes import Summary
from backfill.settings import Settings
from backfill.store.pool import Database


async def run_fetch(
    database: Database, settings: Settings, fetch: Fetch, stop: StopSignal
) -> Summary:
    """Run what a fetch asks for, until it is done or ``stop`` is set.

    Raises
    ------
    UsageError, DatabaseError, Stopped
        As a run does, before its first call.
    """
    job = Job(
        series=fetch.series,
        mode=fetch.mode,
        first=fetch.first,
        last=fetch.last,
        as_of=fetch.as_of,
        archive=fetch.archive,
    )
    return await run_in(database, settings_for(settings, fetch), job, stop=stop)


def settings_for(settings: Settings, fetch: Fetch) -> Settings:
    """Return the settings under which a fetch is what it was when it was put in.

    Raises
    ------
    UsageError
        If they can't be.
    """
    offered = provider_named(fetch.source.provider).can.common_adjustments
    wanted = fetch.source.adjustment
    return replace(
        settings,
        provider_asked=fetch.source.provider,
        adjustment_override=wanted if wanted in offered else None,
    )
