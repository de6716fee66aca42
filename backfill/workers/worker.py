"""A worker: PgQueuer hands it jobs, and each is a run like any other.

What may go wrong with a worker is told by the queue: a job that was picked and neither ended nor
was handed back has lost its worker. PgQueuer counts no such loss, gives the job to the next worker
for ever, deletes what raises, and runs a job twice whose worker holds the loop for longer than a
heartbeat. So losses are counted here, by the log; what fails is held; and whoever writes does it
under the leases of its run, which a second run of the same job takes over or waits for.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID, uuid4

import structlog
from pgqueuer import Job, RetryRequested
from pgqueuer.core.logconfig import logger as _library
from pgqueuer.domain.types import QueueExecutionMode

from backfill.core.fetches import Fetch, entrypoint_of, provider_of, read
from backfill.core.redact import Redactor
from backfill.errors import (
    BackfillError,
    DatabaseError,
    LoginRefused,
    SchemaMismatch,
    SharedFault,
    Stopped,
)
from backfill.fetch.stop import StopSignal
from backfill.run.connect import database_url
from backfill.run.outcomes import Summary
from backfill.settings import Settings
from backfill.store import queue, queue_log
from backfill.store.migrate import ensure_schema
from backfill.store.pool import Database
from backfill.workers.driver import StoreDriver
from backfill.workers.duties import Duties, Worked
from backfill.workers.fetched import run_fetch
from backfill.workers.manager import Manager
from backfill.workers.schedule import keep_schedule
from backfill.workers.tables import queries
from backfill.workers.verdict import MOST_DEATHS, Again, Done, Held, Verdict, verdict_of

HEARTBEAT: Final = timedelta(seconds=30)
"""A job whose worker wasn't heard of for so long is another's."""
POLL: Final = timedelta(seconds=5)
"""How often to look where no notice comes."""
_PRUNE_S: Final = 3600.0
_SUSPECT_S: Final = 30.0
_AWAY_S: Final = 1.0
_AWAY_MOST_S: Final = 60.0
_LEAVE_S: Final = 8.0
"""From a signal on, how long jobs in hand have to be handed back."""

log = structlog.stdlib.get_logger()


class JobHeld(Exception):
    """Says why a job is held; PgQueuer keeps it in the log."""


async def work(
    settings: Settings,
    duties: Duties,
    *,
    stop: StopSignal,
    tell: Callable[[Summary], None] | None = None,
) -> Worked:
    """Work off the queue until a signal ends it, or, to drain it, until it is empty.

    It outlasts a database and a provider that are away. A signal hands every job back that it has
    in hand. ``tell`` is told how each job's run ended.

    Raises
    ------
    UsageError
        If the settings name no database.
    SchemaMismatch, LoginRefused
        If the database has no queue, or doesn't let it in.
    """
    _library.setLevel(logging.CRITICAL)  # what it tells of jobs is told here, in one line each
    worked = Worked()
    away_s = _AWAY_S
    with database_url(settings) as url:
        while stop.reason is None:
            try:
                async with _opened(url, stop) as (database, queued):
                    away_s = _AWAY_S
                    await _Worker(settings, database, queued, duties, stop, worked, tell).run()
                    break
            except (LoginRefused, SchemaMismatch):
                raise
            except Stopped:
                break
            except DatabaseError as error:
                log.warning("worker.database_away", message=str(error), seconds=away_s)
                with suppress(Stopped):
                    await stop.sleep(away_s)
                away_s = min(2 * away_s, _AWAY_MOST_S)
    if stop.reason is not None and not worked.exit_code:
        worked.exit_code = stop.reason.exit_code
    elif duties.drain and worked.held:
        worked.exit_code = worked.exit_code or 1
    return worked


@asynccontextmanager
async def _opened(url: str, stop: StopSignal) -> AsyncIterator[tuple[Database, Database]]:
    """Open the database twice: heartbeats must not wait for a connection behind bars."""
    async with Database.connect(url) as database, Database.connect(url) as queued:
        await stop.unless_set(ensure_schema(database))
        await queue.in_queue(queued, partial(queue_log.deaths, job_id=0))
        yield database, queued


class _Worker:
    """A worker in an open database: what it has in hand, and whom it lets rest."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        queued: Database,
        duties: Duties,
        stop: StopSignal,
        worked: Worked,
        tell: Callable[[Summary], None] | None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = queued
        self._duties = duties
        self._stop = stop
        self._worked = worked
        self._tell = tell
        self._id: UUID = uuid4()
        self._told = Redactor(settings.secrets()).told
        self._places = asyncio.Semaphore(duties.concurrency)
        self._has_suspect = False
        names = {entrypoint_of(provider) for provider in duties.providers}
        self._driver = StoreDriver(queued, stop)
        self._manager = Manager(queries(self._driver), names)
        for name in names:
            self._manager.entrypoint(name, on_failure="hold")(self._take)

    async def run(self) -> None:
        """Take jobs until the end; what goes on beside that ends with it."""
        duties = self._duties
        log.info("worker.started", worker=str(self._id), providers=list(duties.providers))
        beside = [asyncio.create_task(self._prune())]
        if duties.schedule:
            keeping = keep_schedule(self._settings, self._database, self._queue, self._id)
            beside.append(asyncio.create_task(keeping))
        taking = asyncio.create_task(self._take_jobs())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._manager.shutdown.set()
            await asyncio.wait({taking}, timeout=_LEAVE_S)
            if not taking.done():
                self._driver.leave()
                taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
        finally:
            for task in (*beside, stopping):
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            log.info("worker.ended", worker=str(self._id), done=self._worked.done)

    async def _take_jobs(self) -> None:
        duties = self._duties
        batch = max(duties.concurrency // 2, 1)
        await self._manager.run(
            dequeue_timeout=POLL,
            batch_size=batch,
            mode=QueueExecutionMode.drain if duties.drain else QueueExecutionMode.continuous,
            max_concurrent_tasks=max(duties.concurrency, 2 * batch),
            heartbeat_timeout=HEARTBEAT,
        )

    async def _prune(self) -> None:
        while True:
            try:
                if pruned := await queue_log.prune(self._queue):
                    log.info("queue.pruned", rows=pruned)
            except DatabaseError as error:
                log.warning("queue.not_pruned", message=str(error))
            await asyncio.sleep(_PRUNE_S)

    async def _take(self, job: Job) -> None:
        """Do a job, and tell PgQueuer what becomes of it, by returning or by what it raises."""
        async with self._places:
            with structlog.contextvars.bound_contextvars(job=job.id):
                try:
                    verdict = await self._verdict(job)
                except Exception as error:
                    log.exception("job.failed", message=self._told(str(error)))
                    self._worked.held += 1
                    raise
                self._follow(job, verdict)

    def _follow(self, job: Job, verdict: Verdict) -> None:
        match verdict:
            case Done():
                self._worked.done += 1
                log.info("job.done")
            case Again(wait_s, why):
                self._worked.handed_back += 1
                log.info("job.handed_back", message=self._told(why), seconds=wait_s)
                self._let_rest(job.entrypoint, verdict)
                raise RetryRequested(timedelta(seconds=wait_s), self._told(why))
            case Held(why):
                self._worked.held += 1
                log.error("job.held", message=self._told(why))
                raise JobHeld(self._told(why))

    def _let_rest(self, entrypoint: str, verdict: Again) -> None:
        """Take nothing more of a provider that every other job would wait for, too."""
        resting = self._manager.resting
        if verdict.rests:
            until_s = asyncio.get_running_loop().time() + verdict.wait_s
            resting[entrypoint] = max(resting.get(entrypoint, 0.0), until_s)
        if verdict.refused and resting.pop(entrypoint, None) is not None:
            log.error("worker.refused", provider=provider_of(entrypoint), message=verdict.why)
            if not resting or self._duties.drain:
                self._end(verdict.why)

    def _end(self, why: str) -> None:
        """End the worker by what no other job of its would be spared."""
        self._worked.exit_code = SharedFault.exit_code
        self._worked.error = self._told(why)
        self._manager.shutdown.set()

    async def _verdict(self, job: Job) -> Verdict:
        """Do a job; what keeps it from being done is told as what becomes of it."""
        try:
            return await self._judged(job)
        except Stopped as error:
            return Again(0, str(error))
        except (LoginRefused, SchemaMismatch) as error:
            self._end(str(error))
            return Again(_AWAY_S, str(error))
        except DatabaseError as error:
            return Again(_AWAY_S, str(error))
        except BackfillError as error:
            return Held(str(error))

    async def _judged(self, job: Job) -> Verdict:
        """Do a job, unless workers died at it too often, or must not die at it beside others."""
        if self._stop.reason is not None:
            raise self._stop.reason
        fetch = read(job.payload or b"")
        died = await self._queue.run(partial(queue_log.deaths, job_id=job.id))
        if died >= MOST_DEATHS:
            await self._queue.run(partial(queue.park, job_id=job.id))
            return Held(f"{fetch.name}: parked, since {died} workers died at it")
        if died < MOST_DEATHS - 1:
            return await self._fetched(job, fetch)
        # The next death parks it: so none that merely died beside another is here beside it.
        if self._has_suspect:
            return Again(_SUSPECT_S, "another job is on trial here, at which workers died")
        self._has_suspect = True
        try:
            return await self._fetched(job, fetch)
        finally:
            self._has_suspect = False

    async def _fetched(self, job: Job, fetch: Fetch) -> Verdict:
        """Run what a fetch asks for."""
        log.info("job.started", fetch=fetch.name, provider=fetch.source.provider)
        summary = await run_fetch(self._database, self._settings, fetch, self._stop.branch())
        if self._tell is not None:
            self._tell(summary)
        return verdict_of(summary, job.attempts)
