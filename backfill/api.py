"""backfill as a library: the same as the command ``run``, awaited.

>>> import asyncio
>>> from backfill import api
>>> from backfill.settings import Settings
>>> job = api.Job(symbols=("AAPL",))
>>> summary = asyncio.run(api.run(Settings.load(), job))  # doctest: +SKIP
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID, uuid4

import structlog

from backfill.actions import ActionsDesk
from backfill.core.calendar import ALWAYS_OPEN
from backfill.core.work import Demand, Mode, Rules, Work
from backfill.errors import DatabaseError, LimitReached, UnknownSymbol, UsageError
from backfill.fetch.client import Client, Tally
from backfill.fetch.quota import Pacer, spacing_s
from backfill.fetch.stop import StopSignal
from backfill.gaps import SeriesGaps, series_gaps
from backfill.job import Job
from backfill.orchestrator import Orchestrator
from backfill.owners import OwnersDesk
from backfill.reference import ReferenceDesk
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.embedded import embedded_postgres
from backfill.store.migrate import ensure_schema
from backfill.store.pool import Connection, Database
from backfill.store.quota import DatabaseSlots
from backfill.store.times import to_ms
from backfill.stream import Context, Stream
from backfill.summary import Outcomes, Plan, Summary
from backfill.universe import Prepared, prepare

__all__ = ["Job", "Mode", "Plan", "Running", "Settings", "Summary", "open_database", "plan", "run"]

_FINISH_S = 3.0

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A run as it goes on, for somebody who watches it: the plan, and the numbers so far."""

    plan: Plan
    tally: Tally
    outcomes: Outcomes


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Connect to the settings' database, or start the embedded one, and bring no schema.

    Raises
    ------
    UsageError
        If the settings name no database, or something that is none.
    DatabaseError
        If it can't be reached.
    """
    url = settings.database()
    if url is not None:
        async with Database.connect(url) as database:
            yield database
        return
    with embedded_postgres(settings.embedded_dir()) as url:
        async with Database.connect(url) as database:
            yield database


async def plan(settings: Settings, job: Job) -> Plan:
    """Return what `run` would fetch, and what it would cost; nothing is called (R16).

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    _check(job)
    async with open_database(settings) as database:
        await ensure_schema(database)
        rules, today = _rules(settings, job)
        prepared = await prepare(database, settings, job, rules, today, register=False)
        return Plan.of([work for work, _ in prepared.work], settings.quota)


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair of gaps: those found first, the run that asked for them, and those that are left.

    ``summary`` is None where there was nothing to ask for.
    """

    found: list[SeriesGaps]
    summary: Summary | None
    left: list[SeriesGaps]

    @property
    def exit_code(self) -> int:
        """The run's, or 4 if a gap is left that could be asked for."""
        if self.summary is not None and self.summary.exit_code:
            return self.summary.exit_code
        return 4 if any(one.askable for one in self.left) else 0


async def gaps(settings: Settings, as_of: datetime | None = None) -> list[SeriesGaps]:
    """Return the gaps of every series that is kept, by symbol (R6).

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    async with open_database(settings) as database:
        await ensure_schema(database)
        return await series_gaps(database, settings, as_of or datetime.now(UTC))


async def repair(
    settings: Settings,
    as_of: datetime | None = None,
    *,
    stop: StopSignal | None = None,
    watch: Callable[[Running], None] | None = None,
) -> Repair:
    """Ask for the gaps of every series, just those, and see what is left (R7).

    The gaps are taken out of the coverage first: if this ends early, the next run goes on.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    found = await gaps(settings, as_of)
    asked = [one for one in found if one.askable]
    if not asked:
        return Repair(found, None, found)
    async with open_database(settings) as database:

        async def invalidate(connection: Connection) -> None:
            for one in asked:
                await progress.invalidate(connection, one.series, one.askable)

        await database.run(invalidate)
    job = Job(
        symbols=tuple(dict.fromkeys(one.series.symbol.ticker for one in asked)),
        timeframes=tuple(dict.fromkeys(one.series.timeframe for one in asked)),
        mode=Mode.repair,
        as_of=as_of,
    )
    summary = await run(settings, job, stop=stop, watch=watch)
    return Repair(found, summary, await gaps(settings, as_of))


async def run(
    settings: Settings,
    job: Job,
    *,
    stop: StopSignal | None = None,
    watch: Callable[[Running], None] | None = None,
) -> Summary:
    """Fetch what a job asks for into the database and return what was done.

    ``stop`` ends the run early when it is set; ``watch`` is called once, when the plan is ready,
    with numbers that go on changing.

    Raises
    ------
    UsageError
        If the settings or the job are wrong; nothing was called.
    DatabaseError
        If the database can't be used; nothing was called. Whatever goes wrong later is in the
        summary.
    """
    _check(job)
    stop = stop or StopSignal()
    key = settings.api_key()
    if job.deadline_s is not None:
        reason = LimitReached(f"--deadline {job.deadline_s:g} s is over")
        asyncio.get_running_loop().call_later(job.deadline_s, stop.set, reason)
    async with open_database(settings) as database:
        await stop.unless_set(ensure_schema(database))
        return await _Run(settings, job, database, key, stop).execute(watch)


class _Run:
    """One run, from the plan to the ledger."""

    def __init__(
        self, settings: Settings, job: Job, database: Database, key: str, stop: StopSignal
    ) -> None:
        self._settings = settings
        self._job = job
        self._database = database
        self._key = key
        self._stop = stop
        self._id: UUID = uuid4()
        self._tally = Tally(limit=job.max_calls)

    async def execute(self, watch: Callable[[Running], None] | None) -> Summary:
        settings, job = self._settings, self._job
        rules, today = _rules(settings, job)
        with structlog.contextvars.bound_contextvars(
            run_id=str(self._id), provider=settings.provider.name
        ):
            log.info("run.started", mode=str(job.mode))
            prepared = await self._stop.unless_set(
                prepare(self._database, settings, job, rules, today, register=True)
            )
            await runs.start_run(self._database, self._id, str(job.mode), settings.provider.name)
            outcomes = Outcomes(prepared.series)
            plan = Plan.of([work for work, _ in prepared.work], settings.quota)
            log.info("plan.ready", **plan.totals())
            if watch is not None:
                watch(Running(plan, self._tally, outcomes))
            began = time.monotonic()
            await self._fetch(prepared, rules, outcomes)
            return await self._finish(outcomes, time.monotonic() - began)

    async def _fetch(self, prepared: Prepared, rules: Rules, outcomes: Outcomes) -> None:
        settings = self._settings
        due = []
        for work, demand in prepared.work:
            for target in work.targets:
                if target.refusal is not None:
                    outcomes.fail(target.series, target.refusal)
            if work.ranges:
                due.append((work, demand))
            else:
                outcomes.complete.update(work.series)
        if not due:
            return
        quota = settings.quota
        slots = DatabaseSlots(
            self._database,
            settings.provider.name,
            self._key,
            quota,
            spacing_s(quota.pace) if quota.pace else 0.0,
        )
        await slots.open()
        async with Client(
            settings.base_url,
            settings.provider.headers(self._key),
            Pacer(quota, slots),
            self._tally,
            self._stop,
            symbols=len({work.symbol.id for work, _ in due}),
        ) as client:
            reference = ReferenceDesk(self._id, self._database, client, settings.provider, outcomes)
            context = Context(
                self._id,
                self._database,
                client,
                settings.provider,
                rules,
                outcomes,
                reference.look_up,
            )
            streams = [Stream(context, work, demand) for work, demand in due]
            await Orchestrator(context, self._stop).run(streams)
            await self._sync_lists(context, due, reference)

    async def _sync_lists(
        self, context: Context, due: list[tuple[Work, Demand]], reference: ReferenceDesk
    ) -> None:
        """Read the lists of everybody's, behind a run that got all it asked for of some share."""
        calendars = [
            work.calendar
            for work, _ in due
            if work.calendar.name != ALWAYS_OPEN
            and context.outcomes.complete.issuperset(work.series)
        ]
        if not calendars or not self._tally.calls or self._stop.reason is not None:
            return
        try:
            await ActionsDesk(context, calendars[0]).sync()
            if self._stop.reason is None:
                await OwnersDesk(context, calendars[0], reference).sync()
        except DatabaseError as error:
            context.outcomes.fault = context.outcomes.fault or error

    async def _finish(self, outcomes: Outcomes, duration_s: float) -> Summary:
        """Write the ledger, give up every lease, and leave nothing of tickers that don't exist."""

        def summarised() -> Summary:
            return outcomes.summary(
                self._id, str(self._job.mode), self._settings.provider.name, self._tally, duration_s
            )

        unknown = [
            series.symbol.id
            for series, error in outcomes.failed.items()
            if isinstance(error, UnknownSymbol)
        ]
        summary = summarised()
        symbols = len({series.symbol.id for series in outcomes.series})

        async def close(connection: Connection) -> None:
            await progress.release(connection, self._id)
            if unknown:
                await universe.forget(connection, unknown)
            await runs.finish_run(connection, self._id, summary.as_run_end(symbols))

        try:
            async with asyncio.timeout(_FINISH_S):
                await self._database.run(close)
        except (DatabaseError, TimeoutError) as error:
            fault = error if isinstance(error, DatabaseError) else DatabaseError("no answer")
            outcomes.fault = outcomes.fault or fault
            summary = summarised()
        log.info("run.finished", **summary.as_dict(), error=summary.error)
        return summary


def _check(job: Job) -> None:
    """See that a job makes sense before anything is opened."""
    if job.symbols is not None and not job.symbols:
        raise UsageError("no symbol is named")
    if job.first is not None and job.last is not None and job.first.is_after(job.last):
        raise UsageError(f"--from {job.first.at} is after --to {job.last.at}")


def _rules(settings: Settings, job: Job) -> tuple[Rules, date]:
    """Return what holds for the run, and its today, by the clock of the job."""
    now = job.as_of or datetime.now(UTC)
    rules = Rules(
        provider=settings.provider.name,
        feed=settings.provider.feed,
        adjustment=settings.adjustment,
        terms=settings.terms,
        page_size=settings.provider.page_size,
        base_of=settings.provider.base_of,
        now_ms=to_ms(now),
    )
    return rules, now.date()
