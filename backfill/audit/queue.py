"""The queue as it stands: what waits, who is at what, what is held and why, and its pace."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backfill.core.fetches import provider_of, read
from backfill.errors import LoginRefused, SchemaMismatch, UnreadableJob
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store.pool import Database
from backfill.store.queue_look import Looked, look
from backfill.store.times import to_time

_DONE: Final = "successful"
_PACE_OF: Final = 10
"""From how many jobs that were done within the hour a pace is told."""


@dataclass(frozen=True, slots=True)
class ProviderJobs:
    """The jobs of one provider: those that wait, for how long, are at work, held, and ended.

    ``deferred`` are those of the queued that wait for their time; ``ended`` tells of the last day,
    by how they ended. ``done_1h`` were done within the last hour, the first ``done_s`` ago.
    """

    provider: str
    queued: int
    deferred: int
    working: int
    held: int
    oldest_s: float | None
    ended: dict[str, int]
    done_1h: int = 0
    done_s: float | None = None

    @property
    def done_24h(self) -> int:
        """How many were done in the last day."""
        return self.ended.get(_DONE, 0)

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at the pace of the last hour; None where that says too little.

        >>> ProviderJobs("massive", 90, 0, 10, 0, 5.0, {}, done_1h=50, done_s=600.0).left_s
        1200.0
        """
        rest = self.queued + self.working
        if not rest or self.done_1h < _PACE_OF or not self.done_s:
            return None
        return rest * self.done_s / self.done_1h


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
    def due(self) -> int:
        """How many of those could be begun now."""
        return sum(one.queued - one.deferred for one in self.providers)

    @property
    def workers(self) -> list[str]:
        """The workers that have a job."""
        return list(dict.fromkeys(one.worker for one in self.working))

    @property
    def is_used(self) -> bool:
        """Whether anything was queued in the last day, or is there, or is scheduled."""
        return bool(self.providers or self.schedule)


async def queue_state(settings: Settings) -> QueueState:
    """Return how the queue of the settings' database stands.

    Raises
    ------
    SchemaMismatch, LoginRefused
        If the database has no queue, or the login doesn't see it.
    DatabaseError
        If it can't be used.
    """
    async with opened(settings) as database:
        return await queue_in(database)


async def queue_in(database: Database) -> QueueState:
    """Return how the queue of an open database stands, as `queue_state` does."""
    found = await look(database)
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


async def queue_if_seen(database: Database) -> QueueState | str | None:
    """Return how the queue stands, or why the login doesn't see it; None where there is none.

    Raises
    ------
    DatabaseError
        If the database can't be used.
    """
    try:
        return await queue_in(database)
    except LoginRefused as error:
        return str(error)
    except SchemaMismatch:
        return None


def _providers(found: Looked) -> list[ProviderJobs]:
    counts = {row["entrypoint"]: row for row in found.counts}
    ended: dict[str, dict[str, dict[str, Any]]] = {}
    for row in found.ended:
        ended.setdefault(row["entrypoint"], {})[row["status"]] = row
    return [
        _provider(name, counts.get(name, {}), ended.get(name, {}))
        for name in sorted({*counts, *ended})
    ]


def _provider(name: str, counted: dict[str, Any], ended: dict[str, dict[str, Any]]) -> ProviderJobs:
    done = ended.get(_DONE, {})
    return ProviderJobs(
        provider=provider_of(name),
        queued=counted.get("queued", 0),
        deferred=counted.get("deferred", 0),
        working=counted.get("picked", 0),
        held=counted.get("failed", 0),
        oldest_s=counted.get("oldest_s"),
        ended={status: row["jobs"] for status, row in ended.items()},
        done_1h=done.get("lately", 0),
        done_s=done.get("lately_s"),
    )


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
