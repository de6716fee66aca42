"""What becomes of a job once its run has ended: it is done, goes back, or is held."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from backfill.errors import DatabaseError, GeoBlocked, Unauthorised
from backfill.run.outcomes import QUARANTINED, Failure, Summary

MOST_DEATHS: Final = 3
"""A job at which so many workers died is parked."""
MOST_TRIES: Final = 10
"""One that failed by what passes, and was handed back so often, is held."""
HELD_ELSEWHERE_S: Final = 30.0
"""How long a job waits whose series another run holds: a lease of one that died has expired."""
_AGAIN_S: Final = 30.0
_AGAIN_MOST_S: Final = 900.0
_REFUSED_S: Final = 300.0

_PASSES: Final = {"provider_error", "rate_limited", DatabaseError.outcome}
_REFUSES: Final = {Unauthorised.outcome, GeoBlocked.outcome}


@dataclass(frozen=True, slots=True)
class Done:
    """All that was due is in place; what went to quarantine is told there."""


@dataclass(frozen=True, slots=True)
class Again:
    """The job goes back to the queue, for some seconds.

    The worker lets its provider ``rest`` as long: other jobs would meet the same. One that is
    ``refused`` is left to other workers for good.
    """

    wait_s: float
    why: str
    rests: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The job stays, as failed, until somebody puts it in again, or a schedule does."""

    why: str


Verdict: TypeAlias = Done | Again | Held


def verdict_of(summary: Summary, tries: int) -> Verdict:
    """Return what becomes of a job, by how its run ended; it was handed back ``tries`` times.

    One that was told to wait, interrupted, or met another's lease is handed back however often.
    """
    failures = [one for one in summary.failures if one.outcome != QUARANTINED]
    if summary.exit_code == 130:
        return Again(0, "the worker was told to stop")
    if summary.wait_s is not None:
        return Again(summary.wait_s, summary.error or "the quota is used up", rests=True)
    if failures or summary.exit_code == 3:
        return _of_failures(failures, summary, tries)
    if summary.series.skipped:
        return Again(HELD_ELSEWHERE_S, "another run is at its series")
    if summary.exit_code == 5:
        return Again(0, summary.error or "the run was stopped")
    return Done()


def _of_failures(failures: list[Failure], summary: Summary, tries: int) -> Verdict:
    outcomes = {one.outcome for one in failures}
    why = _told(failures, summary)
    if outcomes & _REFUSES:
        return Again(_REFUSED_S, why, refused=True)
    is_shared = summary.exit_code == 3
    if tries >= MOST_TRIES or not (is_shared or outcomes <= _PASSES):
        return Held(why)
    return Again(min(_AGAIN_S * 2**tries, _AGAIN_MOST_S), why, rests=is_shared)


def _told(failures: list[Failure], summary: Summary) -> str:
    """Return the first failure, and how many more there are."""
    if not failures:
        return summary.error or "the provider gave no answer"
    first, *others = failures
    more = f"; and {len(others):,} more series failed" if others else ""
    return f"{first.symbol} {first.timeframe}: {first.message}{more}"
