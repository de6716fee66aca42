"""The queue and its workers, as people, scripts and Prometheus read of them."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backfill.present.prometheus import Metric, Sample, text_of
from backfill.present.tables import amount, console, duration_text, table_of, time_text

if TYPE_CHECKING:
    from backfill.audit.queue import QueueState
    from backfill.workers.enqueue import Enqueued


def enqueued(done: "Enqueued") -> None:
    """Print what became of a job that was enqueued."""
    out = console()
    told = f"{amount(done.added, 'job')} queued"
    if done.there:
        told += f", {done.there:,} already there"
    if done.parked:
        told += f", {done.parked:,} parked: backfill queue status"
    out.print(told)
    for one in done.refused:
        out.print(f"{one.symbol} {one.timeframe}: {one.message}")


def state(found: "QueueState") -> None:
    """Print how the queue stands."""
    out = console()
    if not found.providers:
        out.print("The queue is empty.")
        return
    counts = table_of(
        "provider", "queued", "later", "at work", "held", "oldest", "done in 24 h", "left"
    )
    for provider in found.providers:
        counts.add_row(
            provider.provider,
            f"{provider.queued:,}",
            f"{provider.deferred:,}",
            f"{provider.working:,}",
            f"{provider.held:,}",
            duration_text(provider.oldest_s) if provider.oldest_s is not None else "",
            f"{provider.done_24h:,}",
            duration_text(provider.left_s) if provider.left_s is not None else "",
        )
    out.print(counts)
    if found.working:
        working = table_of("job", "fetch", "provider", "worker", "for", "heard")
        for job in found.working:
            heard = f"{duration_text(job.heard_s)} ago"
            since = duration_text(job.since_s)
            working.add_row(str(job.id), job.name, job.provider, job.worker[:8], since, heard)
        out.print(working)
    if found.held:
        held = table_of("job", "fetch", "provider", "held since", "why")
        for one in found.held:
            held.add_row(str(one.id), one.name, one.provider, time_text(one.since), one.why or "")
        out.print(held)
        out.print("To have them done: backfill queue retry; to forget them: backfill queue drop")
    if found.schedule:
        next_ = table_of("timeframe", "enqueued", "next")
        for tick in found.schedule:
            next_.add_row(tick.timeframe, time_text(tick.enqueued_at), time_text(tick.next_at))
        out.print(next_)
        out.print(
            f"Worker {found.leader[:8]} keeps the schedule."
            if found.leader
            else "No worker keeps the schedule: backfill worker --schedule"
        )


def state_as_dict(found: "QueueState") -> dict[str, Any]:
    """Return how the queue stands, as JSON's own types."""
    return {
        "queued": found.queued,
        "working": len(found.working),
        "held": len(found.held),
        "providers": {
            one.provider: {
                "queued": one.queued,
                "deferred": one.deferred,
                "working": one.working,
                "held": one.held,
                "oldest_s": one.oldest_s,
                "ended_24h": one.ended,
                "done_1h": one.done_1h,
                "left_s": one.left_s,
            }
            for one in found.providers
        },
        "workers": [
            {"worker": worker, "jobs": [job.id for job in found.working if job.worker == worker]}
            for worker in found.workers
        ],
        "jobs_working": [
            {
                "id": one.id,
                "name": one.name,
                "provider": one.provider,
                "worker": one.worker,
                "since_s": one.since_s,
                "heard_s": one.heard_s,
            }
            for one in found.working
        ],
        "jobs_held": [
            {
                "id": one.id,
                "name": one.name,
                "provider": one.provider,
                "since": one.since.isoformat(),
                "parked": one.parked,
                "why": one.why,
            }
            for one in found.held
        ],
        "schedule": {
            "leader": found.leader,
            "timeframes": {
                one.timeframe: {
                    "enqueued_at": _iso(one.enqueued_at),
                    "next_at": _iso(one.next_at),
                }
                for one in found.schedule
            },
        },
    }


def metrics(found: "QueueState") -> str:
    """Return how the queue stands, in the text format of Prometheus."""
    return text_of(metrics_of(found))


def metrics_of(found: "QueueState") -> Iterator[Metric]:
    """Yield what is told of the queue."""
    jobs: list[Sample] = []
    ended: list[Sample] = []
    for one in found.providers:
        states = {"queued": one.queued, "working": one.working, "held": one.held}
        jobs += [({"provider": one.provider, "state": state}, n) for state, n in states.items()]
        ended += [
            ({"provider": one.provider, "status": status}, n) for status, n in one.ended.items()
        ]
    yield "queue_jobs", "Jobs in the queue.", jobs
    yield (
        "queue_oldest_seconds",
        "For how long the oldest job waits.",
        [({"provider": one.provider}, one.oldest_s) for one in found.providers],
    )
    yield "queue_ended_jobs", "Jobs that ended in the last day.", ended
    yield "queue_workers", "Workers that have a job.", [({}, len(found.workers))]
    yield (
        "queue_heartbeat_seconds",
        "How long ago the worker of a job was heard of, at most.",
        [({}, max((one.heard_s for one in found.working), default=None))],
    )
    yield (
        "schedule_next_timestamp_seconds",
        "When a timeframe is enqueued next.",
        [
            ({"timeframe": one.timeframe}, one.next_at.timestamp() if one.next_at else None)
            for one in found.schedule
        ],
    )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
