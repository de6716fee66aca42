"""The queue as it stands: looked at, and its held jobs put in again or dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from backfill.core.fetches import provider_of, read
from backfill.errors import UnreadableJob, UsageError
from backfill.run.connect import opened
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.store import queue
from backfill.store.queue import in_queue
from backfill.store.schedule import SCHEDULED
from backfill.store.times import to_time
from backfill.workers.enqueue import Enqueued
from backfill.workers.enqueue import enqueue as enqueue_in


@dataclass(frozen=True, slots=True)
class ProviderJobs:
    """The jobs of one provider: those that wait, for how long, are at work, held, and ended.

    ``deferred`` are those of the queued that wait for their time; ``ended`` tells of the last day,
    by how they ended.
    """

    provider: str
    queued: int
    deferred: int
    working: int
    held: int
    oldest_s: float | None
    ended: dict[str, int]


@dataclass(frozen=True, slots=True)
class WorkingJob:
    """A job at work: by which worker, since when, and when that was last heard of."""

    id: int
    name: str
    provider: str
    worker: str
    since_s: float
    heard_s: float


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that is held, and why; one that is ``parked`` no schedule puts in again."""

    id: int
    name: str
    provider: str
    since: datetime
    parked: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A timeframe of the schedule: when it was enqueued last, and when it is next."""

    timeframe: str
    enqueued_at: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue as it stands; ``leader`` is the worker that keeps the schedule, if one does."""

    providers: list[ProviderJobs]
    working: list[WorkingJob]
    held: list[HeldJob]
    schedule: list[Scheduled]
    leader: str | None

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return sum(one.queued for one in self.providers)

    @property
    def workers(self) -> list[str]:
        """The workers that have a job."""
        return list(dict.fromkeys(one.worker for one in self.working))


async def enqueue(settings: Settings, job: Job) -> Enqueued:
    """Put what a run of a job would fetch into the queue of the settings' database.

    Raises
    ------
    UsageError, SchemaMismatch, DatabaseError
        As `backfill.workers.enqueue.enqueue` does.
    """
    async with opened(settings) as database:
        return await enqueue_in(settings, database, job)


async def state(settings: Settings) -> QueueState:
    """Return how the queue stands.

    Raises
    ------
    SchemaMismatch
        If the database has no queue.
    DatabaseError
        If it can't be used.
    """
    async with opened(settings) as database:
        found = await queue.look(database, SCHEDULED)
    return QueueState(
        _providers(found),
        [_working(row) for row in found.picked],
        [_held(row) for row in found.held],
        [
            Scheduled(row["timeframe"], _time(row["enqueued_ms"]), _time(row["next_ms"]))
            for row in found.schedule
        ],
        found.schedule[0]["leader"] if found.schedule else None,
    )


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


def _providers(found: queue.Looked) -> list[ProviderJobs]:
    counts = {row["entrypoint"]: row for row in found.counts}
    ended: dict[str, dict[str, int]] = {}
    for row in found.ended:
        ended.setdefault(row["entrypoint"], {})[row["status"]] = row["jobs"]
    return [
        ProviderJobs(
            provider=provider_of(name),
            queued=row.get("queued", 0),
            deferred=row.get("deferred", 0),
            working=row.get("picked", 0),
            held=row.get("failed", 0),
            oldest_s=row.get("oldest_s"),
            ended=ended.get(name, {}),
        )
        for name in sorted({*counts, *ended})
        for row in [counts.get(name, {})]
    ]


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a job's text says of it, also if this version can't read it."""
    try:
        fetch = read(bytes.fromhex(row["payload"] or ""))
    except UnreadableJob:
        return {"id": row["id"], "name": "?", "provider": "?"}
    return {"id": row["id"], "name": fetch.name, "provider": fetch.source.provider}


def _working(row: dict[str, Any]) -> WorkingJob:
    return WorkingJob(
        **_named(row), worker=row["worker"], since_s=row["since_s"], heard_s=row["heard_s"]
    )


def _held(row: dict[str, Any]) -> HeldJob:
    return HeldJob(
        **_named(row), since=to_time(row["since_ms"]), parked=row["is_parked"], why=row["why"]
    )


def _time(ms: int | None) -> datetime | None:
    return to_time(ms) if ms is not None else None
