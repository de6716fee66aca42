"""The queue, changed by whoever keeps it: fetches put in, held jobs put in again, jobs dropped."""

from collections.abc import Sequence
from functools import partial

from backfill.errors import UsageError
from backfill.run.connect import opened
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.store import queue
from backfill.store.queue import in_queue
from backfill.workers.enqueue import Enqueued
from backfill.workers.enqueue import enqueue as enqueue_in


async def enqueue(settings: Settings, job: Job) -> Enqueued:
    """Put what a run of a job would fetch into the queue of the settings' database.

    Raises
    ------
    UsageError, SchemaMismatch, DatabaseError
        As `backfill.workers.enqueue.enqueue` does.
    """
    async with opened(settings) as database:
        return await enqueue_in(settings, database, job)


async def retry(settings: Settings, ids: Sequence[int] | None) -> int:
    """Put held jobs in again, all without ids; return how many are queued for it.

    Raises
    ------
    UsageError
        If one isn't held; the others are put in all the same.
    DatabaseError
        If the database can't be used.
    """
    async with opened(settings) as database:
        added, found = await in_queue(database, partial(queue.retry, ids=ids))
    _see_all(ids, found, "is held", "backfill queue status")
    return added


async def drop(settings: Settings, ids: Sequence[int] | None, statuses: Sequence[str]) -> int:
    """Take jobs out that no worker has, all of some statuses without ids; return how many.

    Raises
    ------
    UsageError
        If one isn't there, or is at work; the others are dropped all the same.
    DatabaseError
        If the database can't be used.
    """
    async with opened(settings) as database:
        found = await in_queue(database, partial(queue.drop, ids=ids, statuses=statuses))
    _see_all(ids, found, "is queued or held", "backfill queue status")
    return len(found)


def _see_all(ids: Sequence[int] | None, found: Sequence[int], what: str, mend: str) -> None:
    if missing := sorted(set(ids or ()) - set(found)):
        listed = ", ".join(map(str, missing))
        others = "; the others are done" if found else ""
        raise UsageError(f"no job {listed} {what}{others}", mend=mend)
