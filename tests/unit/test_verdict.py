"""What becomes of a job, by how its run ended."""

from typing import Any

import pytest

from backfill.run.outcomes import Failure, SeriesCounts, Summary
from backfill.store.counts import Counts
from backfill.workers.verdict import MOST_TRIES, Again, Done, Held, Verdict, verdict_of


def ended(exit_code: int = 0, *outcomes: str, **said: Any) -> Summary:
    values: dict[str, Any] = {
        "run_id": "",
        "status": "",
        "exit_code": exit_code,
        "mode": "default",
        "provider": "massive",
        "providers": {},
        "calls": 0,
        "lookups": 0,
        "retries": 0,
        "rate_limited": 0,
        "duration_s": 0.0,
        "series": SeriesCounts(total=1),
        "bars": Counts(),
        "failures": [Failure("AAPL", "d1", one, f"it is {one}") for one in outcomes],
        "timeframes": [],
    }
    return Summary(**values | said)


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        (ended(), Done()),
        (ended(1, "quarantined"), Done()),
        (ended(130), Again(0, "the worker was told to stop")),
        (ended(130, "provider_error"), Again(0, "the worker was told to stop")),
        (ended(5, wait_s=7200.0, error="used up"), Again(7200.0, "used up", rests=True)),
        (ended(1, "bad_answer", wait_s=7200.0, error="used up"), Again(7200.0, "used up", True)),
        (ended(5, error="stopped"), Again(0, "stopped")),
        (
            ended(series=SeriesCounts(total=2, complete=1, skipped=1)),
            Again(30, "another run is at its series"),
        ),
        (ended(1, "bad_answer"), Held("AAPL d1: it is bad_answer")),
        (
            ended(1, "unknown_symbol", "provider_error"),
            Held("AAPL d1: it is unknown_symbol; and 1 more series failed"),
        ),
        (ended(1, "provider_error"), Again(30, "AAPL d1: it is provider_error")),
        (ended(3, error="it is down"), Again(30, "it is down", rests=True)),
        (ended(3), Again(30, "the provider gave no answer", rests=True)),
        (ended(3, "unauthorised"), Again(300, "AAPL d1: it is unauthorised", refused=True)),
        (ended(1, "geo_blocked"), Again(300, "AAPL d1: it is geo_blocked", refused=True)),
    ],
)
def test_what_becomes_of_a_job(summary: Summary, verdict: Verdict) -> None:
    assert verdict_of(summary, tries=0) == verdict


def test_what_passes_is_tried_again_later_each_time_and_held_at_last() -> None:
    waits = []
    for tries in range(MOST_TRIES):
        verdict = verdict_of(ended(1, "provider_error"), tries)
        assert isinstance(verdict, Again)
        waits.append(verdict.wait_s)
    assert waits == sorted(waits)
    assert waits[-1] == 900
    assert isinstance(verdict_of(ended(1, "provider_error"), MOST_TRIES), Held)
    # Whoever was told to wait, or was interrupted, is never held for having been slow.
    assert isinstance(verdict_of(ended(130), 1000), Again)
    assert isinstance(verdict_of(ended(5, wait_s=1.0), 1000), Again)
