"""backfill as a library: the same as the command ``run``, awaited.

>>> import asyncio
>>> from backfill import api
>>> from backfill.settings import Settings
>>> job = api.Job(symbols=("AAPL",))
>>> summary = asyncio.run(api.run(Settings.load(), job))  # doctest: +SKIP
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID, uuid4

import structlog

from backfill.actions import ActionsDesk
from backfill.connect import open_client, open_database
from backfill.core.calendar import ALWAYS_OPEN
from backfill.core.coverage import Spans
from backfill.core.work import Demand, Mode, Rules, Work, calls_saved
from backfill.errors import DatabaseError, LimitReached, UnknownSymbol, UsageError
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.gaps import SeriesGaps, series_gaps
from backfill.grouped import grouping
from backfill.job import EVERYTHING, Job, Scope
from backfill.orchestrator import Orchestrator
from backfill.owners import OwnersDesk
from backfill.reference import ReferenceDesk
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.migrate import ensure_schema
from backfill.store.pool import Connection, Database
from backfill.store.shape import bars_shape
from backfill.store.times import to_ms
from backfill.stream import Context, Stream
from backfill.summary import Outcomes, Plan, Summary
from backfill.tracked import tracked_series
from backfill.universe import Prepared, prepare
from backfill.verify import Verification, Verifier, relatives, samples

__all__ = ["Job", "Mode", "Plan", "Running", "Settings", "Summary", "open_database", "plan", "run"]

_FINISH_S = 3.0

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A run as it goes on, for somebody who watches it: the plan, and the numbers so far."""

    plan: Plan
    tally: Tally
    outcomes: Outcomes


async def plan(settings: Settings, job: Job) -> Plan:
    """Return what `run` would fetch, and what it would cost; nothing is called (R16).

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    check(job)
    async with open_database(settings) as database:
        await ensure_schema(database)
        rules, today = await _rules(database, settings, job)
        prepared = await prepare(database, settings, job, rules, today, register=False)
        return _plan(prepared, rules, settings)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the series found: gaps, and how a sample of stored bars compares, if asked."""

    gaps: list[SeriesGaps]
    verification: Verification | None

    @property
    def exit_code(self) -> int:
        """4 for a gap or a bar that differs; what kept a sample from being taken goes first."""
        code = self.verification.exit_code if self.verification else 0
        return code or (4 if self.gaps else 0)

    @property
    def error(self) -> str | None:
        """What ended the verification before its end, if something did."""
        error = self.verification.error if self.verification else None
        return str(error) if error else None


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair of gaps and differences: those found first, the run for them, the gaps left.

    ``summary`` is None where there was nothing to ask for.
    """

    found: Findings
    summary: Summary | None
    left: list[SeriesGaps]

    @property
    def exit_code(self) -> int:
        """The run's or the verification's, or 4 if a gap is left that could be asked for."""
        if self.summary is not None and self.summary.exit_code:
            return self.summary.exit_code
        if self.found.verification and self.found.verification.exit_code not in {0, 4}:
            return self.found.verification.exit_code
        return 4 if any(one.askable for one in self.left) else 0

    @property
    def error(self) -> str | None:
        """What ended the run or the verification before its end, if something did."""
        return (self.summary.error if self.summary else None) or self.found.error


async def gaps(
    settings: Settings,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
) -> Findings:
    """Return the gaps of the series of a scope, by symbol (R6).

    With ``verify_calls``, a random sample of what is covered is asked for again in at most as many
    calls, and held against what is stored: corrections that came after a bar was final show here.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    now = as_of or datetime.now(UTC)
    if verify_calls is not None:
        settings.api_key()
    async with open_database(settings) as database:
        await ensure_schema(database)
        tracked = await tracked_series(database, settings, now, scope)
        found = await series_gaps(database, settings, now, tracked)
        if verify_calls is None:
            return Findings(found, None)
        chosen, failures = samples(tracked, settings, now, verify_calls)
        result = Verification(Tally(limit=verify_calls), failures=failures)
        symbols = len({sample.tracked.series.symbol.id for sample in chosen})
        async with open_client(
            settings,
            database,
            result.tally,
            stop or StopSignal(),
            now_ms=to_ms(now),
            symbols=symbols,
        ) as client:
            await Verifier(settings, database, client, now, result).verify(chosen)
        return Findings(found, result)


async def repair(
    settings: Settings,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
    watch: Callable[[Running], None] | None = None,
) -> Repair:
    """Ask for the gaps of a scope and for what differs, just those, and see what is left (R7).

    Both are taken out of the coverage first: if this ends early, the next run goes on.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    settings.api_key()
    found = await gaps(settings, as_of, scope, verify_calls=verify_calls, stop=stop)
    asked = {one.series: one.askable for one in found.gaps if one.askable}
    if found.verification is not None:
        for series, spans in found.verification.differing.items():
            asked[series] = asked.get(series, Spans()) | spans
    if not asked:
        return Repair(found, None, found.gaps)
    differing = found.verification.differing if found.verification else {}
    async with open_database(settings) as database:
        kept = Scope(tickers=[series.symbol.ticker for series in asked])
        tracked = await tracked_series(database, settings, as_of or datetime.now(UTC), kept)
        for series, spans in relatives(tracked, differing).items():
            asked[series] = asked.get(series, Spans()) | spans

        async def invalidate(connection: Connection) -> None:
            for series, spans in asked.items():
                await progress.invalidate(connection, series, spans)

        await database.run(invalidate)
    job = Job(
        symbols=tuple(dict.fromkeys(series.symbol.ticker for series in asked)),
        timeframes=tuple(dict.fromkeys(series.timeframe for series in asked)),
        mode=Mode.repair,
        as_of=as_of,
    )
    summary = await run(settings, job, stop=stop, watch=watch)
    left = await gaps(settings, as_of, scope)
    return Repair(found, summary, left.gaps)


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
    check(job)
    stop = stop or StopSignal()
    settings.api_key()  # a run without one calls nothing, also when nothing is due
    set_deadline(job, stop)
    async with open_database(settings) as database:
        await stop.unless_set(ensure_schema(database))
        return await run_in(database, settings, job, stop=stop, watch=watch)


async def run_in(
    database: Database,
    settings: Settings,
    job: Job,
    *,
    stop: StopSignal,
    watch: Callable[[Running], None] | None = None,
) -> Summary:
    """Run a job that is checked in an open database of today's schema; no deadline but ``stop``.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    return await _Run(settings, job, database, stop).execute(watch)


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
        self._tally = Tally(limit=job.max_calls)

    async def execute(self, watch: Callable[[Running], None] | None) -> Summary:
        settings, job = self._settings, self._job
        rules, today = await _rules(self._database, settings, job)
        with structlog.contextvars.bound_contextvars(
            run_id=str(self._id), provider=settings.provider.name
        ):
            log.info("run.started", mode=str(job.mode))
            prepared = await self._stop.unless_set(
                prepare(self._database, settings, job, rules, today, register=True)
            )
            await runs.start_run(self._database, self._id, str(job.mode), settings.provider.name)
            outcomes = Outcomes(prepared.series)
            plan = _plan(prepared, rules, settings)
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
            if work.due:
                due.append((work, demand))
            else:
                outcomes.complete.update(work.series)
        if not due:
            return
        symbols = len({work.symbol.id for work, _ in due})
        async with open_client(
            settings,
            self._database,
            self._tally,
            self._stop,
            now_ms=rules.now_ms,
            symbols=symbols,
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


def check(job: Job) -> None:
    """See that a job makes sense before anything is opened.

    Raises
    ------
    UsageError
        If it doesn't.
    """
    if job.symbols is not None and not job.symbols:
        raise UsageError("no symbol is named")
    if job.first is not None and job.last is not None and job.first.is_after(job.last):
        raise UsageError(f"--from {job.first.at} is after --to {job.last.at}")


def _plan(prepared: Prepared, rules: Rules, settings: Settings) -> Plan:
    work = [work for work, _ in prepared.work]
    grouped = grouping(settings.provider, rules, prepared.work)
    saved = sum(calls_saved(one, rules) for one in work)
    return Plan.of(work, settings.quota, saved, grouped)


async def _rules(database: Database, settings: Settings, job: Job) -> tuple[Rules, date]:
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
        derive=settings.derive,
        precision=(await database.run(bars_shape)).precision,
    )
    return rules, now.date()
