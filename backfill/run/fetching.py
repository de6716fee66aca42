"""What a run fetches: the streams of all that is due, then the lists of everybody's."""

from collections.abc import Sequence
from uuid import UUID

from backfill.core.calendar import ALWAYS_OPEN
from backfill.core.work import Demand, Rules, Work
from backfill.errors import DatabaseError
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.run.actions import ActionsDesk
from backfill.run.connect import open_client
from backfill.run.listings import Pages
from backfill.run.orchestrator import Orchestrator
from backfill.run.outcomes import Outcomes
from backfill.run.owners import OwnersDesk
from backfill.run.reference import ReferenceDesk
from backfill.run.stream import Context, Stream
from backfill.settings import Settings
from backfill.store.pool import Database


async def fetch(
    settings: Settings,
    database: Database,
    due: Sequence[tuple[Work, Demand]],
    *,
    run_id: UUID,
    rules: Rules,
    outcomes: Outcomes,
    tally: Tally,
    stop: StopSignal,
) -> None:
    """Fetch and store what is due; what happens to each series goes to ``outcomes``.

    Raises
    ------
    UsageError
        If the settings hold no key.
    DatabaseError
        If the database can't be used.
    """
    async with open_client(
        settings,
        database,
        tally,
        stop,
        now_ms=rules.now_ms,
        symbols=len({work.symbol.id for work, _ in due}),
    ) as client:
        reference = ReferenceDesk(run_id, database, client, settings.provider, outcomes)
        context = Context(
            run_id,
            database,
            client,
            settings.provider,
            rules,
            outcomes,
            reference.look_up,
            Pages.of(settings.quota),
        )
        streams = [Stream(context, work, demand) for work, demand in due]
        await Orchestrator(context, stop).run(streams)
        if tally.calls and stop.reason is None:
            await _sync_lists(context, due, reference, stop)


async def _sync_lists(
    context: Context,
    due: Sequence[tuple[Work, Demand]],
    reference: ReferenceDesk,
    stop: StopSignal,
) -> None:
    """Read the lists of everybody's, behind a run that got all it asked for of some share."""
    calendars = [
        work.calendar
        for work, _ in due
        if work.calendar.name != ALWAYS_OPEN and context.outcomes.complete.issuperset(work.series)
    ]
    if not calendars:
        return
    try:
        await ActionsDesk(context, calendars[0]).sync()
        if stop.reason is None:
            await OwnersDesk(context, calendars[0], reference, context.lists).sync()
    except DatabaseError as error:
        context.outcomes.fault = context.outcomes.fault or error
