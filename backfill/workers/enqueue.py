"""From a job to fetches in the queue: what a run would do, a job of the queue for each part."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from backfill.core.fetches import Fetch, Kind
from backfill.core.redact import Redactor
from backfill.core.work import Demand, Work
from backfill.errors import UsageError
from backfill.run.execution import check
from backfill.run.job import Job
from backfill.run.outcomes import Failure
from backfill.run.parted import parted
from backfill.run.prepare import Prepared, prepare
from backfill.settings import Settings
from backfill.store import queue
from backfill.store.pool import Database


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a job that was enqueued.

    ``added`` fetches were put in, ``there`` were queued or at work already, ``parked`` are held
    until somebody puts them in again; ``refused`` are the series that nobody can be asked for.
    """

    added: int
    there: int
    parked: int
    kinds: dict[str, int]
    refused: list[Failure]

    @property
    def exit_code(self) -> int:
        """1 if a series can't be fetched for a reason of its own, or is parked."""
        return 1 if self.refused or self.parked else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "added": self.added,
            "already_queued": self.there,
            "parked": self.parked,
            "jobs": self.kinds,
            "failures": [asdict(one) for one in self.refused],
            "exit_code": self.exit_code,
        }


async def enqueue(settings: Settings, database: Database, job: Job) -> Enqueued:
    """Put what a run of a job would fetch into the queue; nothing is called.

    Whoever works it off plans anew: what is done by then costs no call.

    Raises
    ------
    UsageError
        If the settings or the job are wrong.
    SchemaMismatch
        If the database has no queue.
    DatabaseError
        If it can't be used.
    """
    check(job)
    if job.is_bounded:
        raise UsageError("what is enqueued has no --max-calls and no --deadline: workers have")
    now = job.as_of or datetime.now(UTC)
    if now > datetime.now(UTC):
        raise UsageError(f"--as-of {now.isoformat()} lies ahead: workers would wait for it in vain")
    prepared = await prepare(database, settings, job, now, register=True)
    fetches = list(fetches_of(settings, prepared, job))
    put = await queue.in_queue(database, partial(queue.put, fetches=fetches))
    kinds = [str(one.kind) for one in fetches]
    return Enqueued(
        put.added,
        put.there,
        put.parked,
        {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        list(_refused(settings, prepared)),
    )


def fetches_of(settings: Settings, prepared: Prepared, job: Job) -> Iterator[Fetch]:
    """Return the fetches of a job: of each provider those for many symbols first.

    What is newest comes first, as in a run.
    """
    for name, rules in prepared.rules.items():
        provider = settings.account(name).provider
        mine = [piece for piece in prepared.work if piece[0].provider == name and piece[0].due]
        grouped, batched, files, single = parted(provider, rules, mine)
        for kind, together in (
            (Kind.days, grouped.batches),
            (Kind.batch, [one.work for one in batched.batches]),
            (Kind.files, [files.work]),
        ):
            for work in filter(None, together):
                chosen = set(work)
                yield _fetch(kind, job, [piece for piece in mine if piece[0] in chosen])
        for piece in sorted(single, key=_upto_ms, reverse=True):
            yield _fetch(Kind.series, job, [piece])


def _upto_ms(piece: tuple[Work, Demand]) -> int:
    work, _ = piece
    return work.ranges[0].span.end_ms if work.ranges else 0


def _fetch(kind: Kind, job: Job, pieces: list[tuple[Work, Demand]]) -> Fetch:
    """Return the fetch that does some pieces of work, which share a source and a base."""
    first, _ = pieces[0]
    return Fetch(
        kind=kind,
        source=first.targets[0].source,
        base=first.base,
        series=tuple(
            (target.series.symbol.ticker, target.series.timeframe)
            for work, _ in pieces
            for target in work.targets
            if target.refusal is None
        ),
        symbol_id=first.symbol.id if len(pieces) == 1 else None,
        mode=job.mode,
        first=job.first,
        last=job.last,
        as_of=job.as_of,
        archive=job.archive,
        priority=max(demand.priority for _, demand in pieces),
    )


def _refused(settings: Settings, prepared: Prepared) -> Iterable[Failure]:
    told = Redactor(settings.secrets()).told
    refused = {
        target.series: (work.provider, target.refusal)
        for work, _ in prepared.work
        for target in work.targets
        if target.refusal is not None
    }
    refused |= {
        series: (settings.provider.name, error) for series, error in prepared.refused.items()
    }
    for series, (provider, error) in refused.items():
        ticker, timeframe = series.symbol.ticker, str(series.timeframe)
        yield Failure(ticker, timeframe, error.outcome, told(str(error)), provider)
