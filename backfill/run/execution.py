"""One run, from the plan to the ledger; and the plan alone.

What fetches is imported once something is due: most runs of a cron job find nothing.
"""

# Over 300 lines: a run is read from the plan to the ledger on one page, its ends included.

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

from backfill.core.dataclass import dataclass
from backfill.core.planning import calls_saved
from backfill.core.redact import Redactor
from backfill.core.series import Series
from backfill.core.when import checked_clock
from backfill.core.work import Mode
from backfill.errors import (
    LimitReached,
    UnknownSymbol,
    UsageError,
)
from backfill.fetch.busy import Writes
from backfill.fetch.flight import Flight
from backfill.fetch.gauge import Gauge
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally
from backfill.run import debts
from backfill.run.connect import open_database, open_database_until
from backfill.run.ending import close_row, note_end
from backfill.run.job import Job
from backfill.run.lane import Lane, by_account
from backfill.run.outcomes import Outcomes, Summary
from backfill.run.parted import parted
from backfill.run.planned import NO_ARCHIVE, ArchivePlan, Plan
from backfill.run.prepare import Prepared, prepare
from backfill.run.symbol_events import RunSymbols
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.partitions import see_partitions
from backfill.store.pool import Connection, Database
from backfill.store.size import TableSize, table_size

if TYPE_CHECKING:
    from backfill.run.pace import Progress

_LONGEST_S = 1e8  # three years; a timer can't be set to much more

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A run as it goes on, for somebody who watches it: the plan, and the numbers so far."""

    plan: Plan
    lanes: Sequence[Lane]
    outcomes: Outcomes
    table: TableSize

    @property
    def tally(self) -> Tally:
        """What all providers were sent so far."""
        return Tally.of(lane.tally for lane in self.lanes)

    def progress(self) -> "Progress":
        """Return how far the run is by now, and how long it still takes by what it measured."""
        from backfill.run.pace import progress_of

        return progress_of(self.lanes, self.outcomes, self.table.bytes_per_bar)


async def plan(settings: Settings, job: Job) -> Plan:
    """Return what `run` would fetch, and what it would cost; nothing is called (R16).

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    check(job)
    async with open_database(settings) as database:
        return await plan_in(database, settings, job)


async def plan_in(database: Database, settings: Settings, job: Job) -> Plan:
    """Return what a run would fetch, as `plan` does, in an open database.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    from backfill.run.pace import expected

    prepared = await prepare(database, settings, job, _now(job), register=False)
    await _see_room(database, prepared)
    lanes = _lanes(settings, prepared, Budget())
    parts = _parts(prepared, lanes)
    planned = _joined(prepared, lanes, parts)
    return replace(planned, expected=await expected(database, lanes, parts))


async def run(
    settings: Settings,
    job: Job,
    *,
    stop: StopSignal | None = None,
    on_plan: Callable[[Running], None] | None = None,
) -> Summary:
    """Fetch what a job asks for into the database and return what was done.

    ``stop`` ends the run early when it is set; ``on_plan`` is called once, when the plan is ready,
    with numbers that go on changing.

    Raises
    ------
    UsageError
        If the settings or the job are wrong; nothing was called.
    DatabaseError
        If the database can't be used; nothing was called. Whatever goes wrong later is in the
        summary.
    """
    check(job)
    stop = stop or StopSignal()
    set_deadline(job, stop)
    async with open_database_until(settings, stop) as database:
        return await run_in(database, settings, job, stop=stop, on_plan=on_plan)


async def run_in(
    database: Database,
    settings: Settings,
    job: Job,
    *,
    stop: StopSignal,
    on_plan: Callable[[Running], None] | None = None,
) -> Summary:
    """Run a job that is checked in an open database; no deadline but ``stop``.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    return await _Run(settings, job, database, stop).execute(on_plan)


def set_deadline(job: Job, stop: StopSignal) -> None:
    """Have a job's ``--deadline``, if it has one, set a signal."""
    if job.deadline_s is not None:
        reason = LimitReached(f"--deadline {job.deadline_s:g} s is over")
        asyncio.get_running_loop().call_later(job.deadline_s, stop.set, reason)


class _Run:
    """One run, from the plan to the ledger."""

    def __init__(self, settings: Settings, job: Job, database: Database, stop: StopSignal) -> None:
        self._settings = settings
        self._job = job
        self._database = database
        self._stop = stop
        self._id: UUID = uuid4()
        self._lanes: list[Lane] = []
        self._owed = runs.NOTHING_OWED
        self._is_entered = False

    async def execute(self, on_plan: Callable[[Running], None] | None) -> Summary:
        settings, job = self._settings, self._job
        now = _now(job)
        with structlog.contextvars.bound_contextvars(
            run_id=str(self._id), provider=settings.provider.name
        ):
            prepared = await self._stop.unless_set(
                prepare(self._database, settings, job, now, register=True)
            )
            await _see_room(self._database, prepared)
            self._lanes = _lanes(settings, prepared, Budget(job.max_calls))
            if len(self._lanes) == 1:
                self._lanes[0].account.api_keys()
            log.info("run.started", mode=str(job.mode))
            if self._has_use_for_calls(prepared):
                lists = debts.to_be_listed(self._lanes, prepared)
                self._owed = await runs.start_run(
                    self._database, self._id, str(job.mode), self._asked, lists
                )
                self._is_entered = True
            outcomes = Outcomes(
                prepared.series,
                self._provider_of(prepared),
                job.last is None and job.mode is not Mode.repair,
                RunSymbols(prepared.watchlist, prepared.left_out(job)),
            )
            began = time.monotonic()
            try:
                plan = _joined(prepared, self._lanes, _parts(prepared, self._lanes))
                log.info("plan.ready", **plan.totals())
                if on_plan is not None:
                    table = await self._database.run(table_size)
                    on_plan(Running(plan, self._lanes, outcomes, table))
                await self._fetch(prepared, outcomes)
            except BaseException as error:
                # Whatever it is, the ledger's row gets its end and no lease is left.
                note_end(outcomes, error)
                await self._finish(outcomes, time.monotonic() - began)
                raise
            return await self._finish(outcomes, time.monotonic() - began)

    def _has_use_for_calls(self, prepared: Prepared) -> bool:
        """Whether something is due, or others owe lists; else the ledger hears of the end only."""
        lanes = {lane.name for lane in self._lanes}
        return any(work.due for work, _ in prepared.work) or bool(lanes & prepared.owed.providers)

    @property
    def _asked(self) -> str:
        """Who is asked, in a word."""
        return self._lanes[0].name if len(self._lanes) == 1 else "mixed"

    def _provider_of(self, prepared: Prepared) -> dict[Series, str]:
        default = self._settings.provider.name
        named = dict.fromkeys(prepared.refused, default)
        return named | {one: work.provider for work, _ in prepared.work for one in work.series}

    async def _fetch(self, prepared: Prepared, outcomes: Outcomes) -> None:
        due = []
        for series, error in prepared.refused.items():
            outcomes.fail(series, error)
        for work, demand in prepared.work:
            for target in work.targets:
                if target.refusal is not None:
                    outcomes.fail(target.series, target.refusal)
            if work.due:
                due.append((work, demand))
            else:
                outcomes.complete.update(work.series)
        owed = await debts.left_by_others(
            self._database, self._settings, self._lanes, prepared, self._owed
        )
        if not due and not owed:
            return
        from backfill.run.fetching import fetch

        shape = prepared.shape
        await fetch(
            self._lanes,
            self._database,
            due,
            owed,
            run_id=self._id,
            outcomes=outcomes,
            stop=self._stop,
            judges_all=bool(self._owed.debtors),
            oldest_first=not self._job.is_bounded and shape.is_own and shape.keeps_all,
        )

    async def _finish(self, outcomes: Outcomes, duration_s: float) -> Summary:
        """Write the ledger, give up every lease, and leave nothing of tickers that don't exist."""
        redactor = Redactor(self._settings.secrets())

        def summarised() -> Summary:
            return outcomes.summary(
                self._id,
                str(self._job.mode),
                {lane.name: lane.tally for lane in self._lanes},
                duration_s,
                told=redactor.told,
            )

        unknown = {
            series.symbol.id: series.symbol
            for series, error in outcomes.failed.items()
            if isinstance(error, UnknownSymbol) and not series.symbol.confirmed
        }
        outcomes.symbols.found |= {
            key: replace(one, unknown_runs=one.unknown_runs + 1) for key, one in unknown.items()
        }
        summary = summarised()
        symbols = len({series.symbol.id for series in outcomes.series})
        owes = debts.left_unlisted(self._lanes, outcomes)
        paid = replace(self._owed, providers=self._owed.providers & outcomes.listed)

        async def close(connection: Connection) -> None:
            end = summary.as_run_end(symbols)
            if not self._is_entered:
                mode = str(self._job.mode)
                await runs.enter_run(connection, self._id, mode, self._asked, end)
                return
            await progress.release(connection, self._id)
            if unknown:
                await universe.forget(connection, list(unknown))
            await runs.finish_run(connection, self._id, end, owes, paid)

        if not await close_row(self._database, self._id, outcomes, close):
            summary = summarised()
        log.info("run.finished", **summary.as_dict(), error=summary.error)
        return summary


def check(job: Job) -> None:
    """See that a job makes sense before anything is opened.

    Raises
    ------
    UsageError
        If it doesn't.
    """
    if job.tickers is not None and not job.tickers:
        raise UsageError("no symbol is named")
    if job.as_of is not None:
        checked_clock(job.as_of)
    if job.deadline_s is not None and not 0 <= job.deadline_s <= _LONGEST_S:
        raise UsageError(f"--deadline {job.deadline_s:g} is not a time from 0 to {_LONGEST_S:g} s")
    if job.first is not None and job.last is not None and job.first.is_after(job.last):
        raise UsageError(f"--from {job.first.at} is after --to {job.last.at}")


def _now(job: Job) -> datetime:
    return job.as_of or datetime.now(UTC)


def _lanes(settings: Settings, prepared: Prepared, budget: Budget) -> list[Lane]:
    """Return a lane for every provider that is asked; they share the writers."""
    writes = Writes()
    return [
        Lane(settings.account(name), rules, Tally(budget, Gauge(writes), Flight(rules.can.at_once)))
        for name, rules in prepared.rules.items()
    ]


def _parts(prepared: Prepared, lanes: Sequence[Lane]) -> list[Plan]:
    """Return what is asked of each lane's provider."""
    parts = []
    for lane in lanes:
        mine = lane.part(prepared.work)
        saved = sum(calls_saved(one, lane.rules, demand.mode) for one, demand in mine)
        work = [one for one, _ in mine]
        rules, can = lane.rules, lane.rules.can
        read = ((one, rules.files(demand.mode)) for one, demand in mine)
        archive = sum(
            (ArchivePlan.of(one, used, can.pages) for one, used in read if used is not None),
            NO_ARCHIVE,
        )
        grouped, batched, files, _ = parted(lane.account.provider, rules, mine)
        of_many = grouped, archive, files, batched
        parts.append(Plan.of(work, lane.account.quota, can.cost, saved, *of_many))
    return parts


def _joined(prepared: Prepared, lanes: Sequence[Lane], parts: Sequence[Plan]) -> Plan:
    """Return the plan of all lanes: they go side by side, but for those that share a quota."""
    seconds = max((one.seconds for one in by_account(lanes, parts)), default=0.0)
    return Plan.joined(parts, prepared.refused, seconds)


async def _see_room(database: Database, prepared: Prepared) -> None:
    """See that the table can take what is due, before any call is paid for."""
    due = [
        (target.series, work.calendar.grid(target.series.timeframe), target.missing)
        for work, _ in prepared.work
        for target in work.targets
        if prepared.shape.partitioned and target.refusal is None and target.missing
    ]
    if due:
        await database.run(lambda connection: see_partitions(connection, due))
