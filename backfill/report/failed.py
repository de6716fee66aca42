"""What runs, and the jobs of workers, left undone: each with the command that does it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from backfill.audit.overview import Overview
from backfill.audit.queue import HeldJob, QueueState
from backfill.present.failures import blocks
from backfill.present.tables import amount, time_text
from backfill.report.commands import RUN_ALL, named, words
from backfill.report.facts import LISTED, Case, Problem
from backfill.run.outcomes import QUARANTINED, Failure


def last_run(seen: Overview) -> Iterator[Problem]:
    """Tell of the last run, if it didn't end as it should."""
    last = seen.recent.last
    if last is None or last.status not in {"failed", "interrupted"}:
        return
    why = last.error or "it says no more than which series failed"
    if last.status == "interrupted":
        why = f"{last.error or 'somebody ended it'}; what it finished stays, the next one goes on"
    title = f"The last run, of {time_text(last.started_at)}, {_ENDED[last.status]}"
    yield Problem(title, why, RUN_ALL, 1)


_ENDED: Final = {"failed": "stored nothing and failed", "interrupted": "was interrupted"}


def failed(seen: Overview) -> Iterator[Problem]:
    """Tell of the series that failed in the last run."""
    last = seen.recent.last
    if last is None:
        return
    for block in blocks(_failures(last.failures)):
        shown = islice(_cases_of(block.symbols, block.timeframes, block.outcome), LISTED)
        symbols = list(block.symbols)
        yield Problem(
            f"{amount(block.series, 'series', 'series')} failed in the last run: {block.outcome}",
            block.why,
            _mends(block.outcome, symbols, list(block.timeframes)),
            len(symbols),
            tuple(shown) if len(symbols) > 1 else (),
        )


def _failures(rows: Iterable[Mapping[str, str]]) -> Iterator[Failure]:
    """Read what runs wrote of series that failed, which others may have changed by hand.

    What is in quarantine is a problem of its own, for longer than a run.
    """
    names = ("symbol", "timeframe", "outcome", "message", "provider")
    for row in rows:
        if row.get("outcome") != QUARANTINED:
            yield Failure(*(row.get(name, "") for name in names))


def _cases_of(symbols: Sequence[str], timeframes: Sequence[str], outcome: str) -> Iterator[Case]:
    for symbol in symbols:
        yield Case(symbol, " ".join(timeframes), _mends(outcome, [symbol], list(timeframes)))


def _mends(outcome: str, symbols: Sequence[str], timeframes: Sequence[str]) -> str:
    """Return the command that mends why series failed, or that shows what would."""
    series = named(symbols, timeframes)
    match outcome:
        case "unknown_symbol":
            return f"backfill watch remove {words(symbols)}"
        case "unauthorised" | "not_entitled" | "geo_blocked":
            return "backfill providers"
        case "source_mismatch":
            return f"backfill run {series} --reload"
        case _:
            return f"backfill run {series}"


def held(seen: Overview) -> Iterator[Problem]:
    """Tell of jobs of the queue that nobody takes any more."""
    jobs = seen.queue.held if isinstance(seen.queue, QueueState) else []
    if jobs:
        parked = sum(one.parked for one in jobs)
        title = f"{amount(len(jobs), 'job')} of the queue {'is' if len(jobs) == 1 else 'are'} held"
        yield Problem(
            f"{title}, {parked:,} of them parked" if parked else title,
            "Each failed for a reason of its own, or its workers died; one that is parked no "
            "schedule queues again. To forget them: `backfill queue drop --held`.",
            "backfill queue retry",
            len(jobs),
            tuple(map(_held_case, jobs[:LISTED])),
        )


def _held_case(job: HeldJob) -> Case:
    why = job.why or "it says no more"
    return Case(job.name, why, f"backfill queue retry {job.id}")
