"""What a run fetches: its lanes side by side, in each the streams of what is due, then lists."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog

from backfill.core.archive import Use
from backfill.core.calendar import Calendar
from backfill.core.work import Demand, Mode, Work
from backfill.errors import DatabaseError, Stopped, Unauthorised, UsageError
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.run.actions import ActionsDesk
from backfill.run.allowance import Allowance
from backfill.run.connect import open_archive, open_client, open_objects
from backfill.run.context import Context
from backfill.run.heartbeat import heartbeat
from backfill.run.lane import Lane
from backfill.run.orchestrator import Orchestrator
from backfill.run.outcomes import Outcomes
from backfill.run.owners import OwnersDesk
from backfill.run.reference import ReferenceDesk
from backfill.run.room import ROOM, Room
from backfill.run.stream import Stream
from backfill.run.writers import Writers
from backfill.store.pool import Database

_LISTS: Final = 2
"""The calls that lists take, where they are due: one of splits, one of dividends."""

Due = Sequence[tuple[Work, Demand]]


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the lanes of a run share: the thread that reads, the room for pages, the writers.

    Whether they have to judge all splits, since a run died that may have left that.
    """

    run_id: UUID
    database: Database
    outcomes: Outcomes
    stop: StopSignal
    reader: Reader
    writers: Writers
    judges_all: bool
    oldest_first: bool
    room: Room = field(default_factory=lambda: Room(ROOM))


async def fetch(
    lanes: Sequence[Lane],
    database: Database,
    due: Due,
    owed: Mapping[str, Calendar],
    *,
    run_id: UUID,
    outcomes: Outcomes,
    stop: StopSignal,
    judges_all: bool,
    oldest_first: bool,
) -> None:
    """Fetch and store what is due; what happens to each series goes to ``outcomes``.

    A lane that can't go on ends alone, and its series fail; what ends the run ends every lane. What
    runs before this one have ``owed``, the lists of these providers, for sessions of a calendar, is
    read also where nothing else is asked for; of those that died over them all splits are judged.
    What comes first is the newest. Files may come ``oldest_first`` in a run that nothing cuts
    short, into a table that is our own: those of a single series do. They take seconds, and
    Postgres a fifth less for a row behind all others of the table.
    """
    parts = [(lane, part) for lane in lanes if (part := lane.part(due)) or lane.name in owed]
    with Reader() as reader:
        shared = _Shared(
            run_id,
            database,
            outcomes,
            stop,
            reader,
            Writers(database),
            judges_all,
            oldest_first=oldest_first and len(due) == 1,
        )
        async with heartbeat(database, run_id), asyncio.TaskGroup() as group:
            for lane, part in parts:
                group.create_task(_run(shared, lane, part, owed.get(lane.name)))
    for lane, part in parts:
        fault = outcomes.faults.get(lane.name)
        if fault is not None and (len(lanes) > 1 or fault.exit_code == 1):
            for series in outcomes.unfinished(one for work, _ in part for one in work.series):
                outcomes.fail(series, fault)


async def _run(shared: _Shared, lane: Lane, due: Due, owed: Calendar | None) -> None:
    """Run one lane to its end, or to what ends it."""
    outcomes = shared.outcomes
    with structlog.contextvars.bound_contextvars(provider=lane.name):
        try:
            await _fetch(shared, lane, due, owed, shared.stop.branch())
        except UsageError as error:
            outcomes.faults[lane.name] = Unauthorised(str(error))
        except DatabaseError as error:
            outcomes.fault = outcomes.fault or error
            shared.stop.set(Stopped(str(error)))


async def _fetch(
    shared: _Shared, lane: Lane, due: Due, owed: Calendar | None, stop: StopSignal
) -> None:
    provider = lane.account.provider
    shares = lane.account, shared.database, lane.tally, stop, shared.reader
    rules, symbols = lane.rules, len({work.symbol.id for work, _ in due})
    async with (
        open_client(*shares, now_ms=rules.now_ms, symbols=symbols) as client,
        open_archive(*shares, choice=rules.files(Mode.default), symbols=symbols) as archive,
    ):
        reference = ReferenceDesk(shared.run_id, shared.database, client, provider, shared.outcomes)
        context = Context(
            run_id=shared.run_id,
            database=shared.database,
            client=client,
            provider=provider,
            rules=rules,
            outcomes=shared.outcomes,
            look_up=reference.look_up,
            stop=stop,
            reader=shared.reader,
            room=shared.room,
            writers=shared.writers,
            lists=Allowance.of(lane.account.quota),
            tally=lane.tally,
            archive=archive,
            objects=open_objects(lane.account, lane.tally, stop, shared.reader)
            if rules.archive is not Use.never
            else None,
            judges_all=shared.judges_all,
            oldest_first=shared.oldest_first,
        )
        streams = [Stream(context, work, demand) for work, demand in due]
        is_listed = any(work.is_of_shares for work, _ in due)
        lane.tally.gauge.lists = _LISTS if owed or is_listed else 0
        await Orchestrator(context, shared.stop).run(streams)
        lane.tally.gauge.is_listing = True
        calendar = (_of_what_came(context, due) if lane.tally.calls else None) or owed
        if calendar is not None and stop.reason is None:
            await _sync_lists(context, calendar, reference)
        lane.tally.gauge.lists = 0


def _of_what_came(context: Context, due: Due) -> Calendar | None:
    """Return the calendar of a share that a lane got all of that it asked for, if there is one."""
    for work, _ in due:
        if work.is_of_shares and context.outcomes.complete.issuperset(work.series):
            return work.calendar
    return None


async def _sync_lists(context: Context, calendar: Calendar, reference: ReferenceDesk) -> None:
    """Read the lists of everybody's; what a stop leaves of them the run owes from then on."""
    left = await ActionsDesk(context, calendar).sync()
    if context.stop.reason is None:
        left |= await OwnersDesk(context, calendar, reference, context.lists).sync()
        if not left:
            context.outcomes.listed.add(context.provider.name)
