"""What the demo says when something is not as it should be: what, and with which figures."""

from typing import Any

import pytest

from backfill.cli.demo import too_early, unlike, what_next
from backfill.providers import PROVIDERS
from tests.providers.tiny import Tiny

GOOD: dict[str, Any] = {
    "exit_code": 0,
    "status": "ok",
    "calls": 3,
    "series": {"total": 42, "complete": 42, "failed": 0},
    "failures": [],
}
FAILED = GOOD | {
    "exit_code": 1,
    "status": "partial",
    "series": {"total": 42, "complete": 41, "failed": 1},
    "failures": [{"symbol": "AAPL", "timeframe": "h1", "message": "the provider answered 500"}],
}


@pytest.mark.parametrize(
    ("summary", "bounds", "said"),
    [
        (GOOD, {}, []),
        (GOOD, {"calls_at_least": 3, "calls_at_most": 3}, []),
        (GOOD, {"calls_at_least": 4}, ["it made 3 calls, not 4 or more"]),
        (GOOD, {"calls_at_most": 0}, ["it made 3 calls, not 0"]),
        (
            FAILED,
            {},
            [
                "it ended with exit code 1 (partial): 41 of 42 series complete, 1 failed",
                "it, AAPL h1: the provider answered 500",
            ],
        ),
    ],
)
def test_a_run_that_is_not_as_meant_is_told_with_its_figures(
    summary: dict[str, Any], bounds: dict[str, int], said: list[str]
) -> None:
    assert unlike(summary, "it", **bounds) == said


def test_a_refused_call_is_told_with_how_much_too_early_it_came() -> None:
    arrivals = [(0.0, False), (0.5, False), (2.75, True), (3.0, False), (3.25, True)]
    calls = [{"at_s": 9 + at_s, "over_quota": over, "path": "/p"} for at_s, over in arrivals]
    assert too_early(calls, "2/3s") == [
        "call 3 of 5, /p, was refused: 0.250 s too early for 2/3s",
        "call 5 of 5, /p, was refused: 0.250 s too early for 2/3s",
    ]
    assert too_early(calls[:2], "2/3s") == []


def test_the_end_says_what_to_do_next_with_a_key_or_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROVIDERS, "tiny", Tiny())
    told = "\n".join(what_next(".venv/bin/backfill"))
    for line in (
        "https://massive.com/dashboard/keys",
        "$ export MASSIVE_API_KEY=",
        "$ .venv/bin/backfill run --all",
        "$ .venv/bin/backfill run ETH/USD --provider tiny",
        "$ .venv/bin/backfill run BTC/USDT --provider binance",
        "$ .venv/bin/backfill simulate",
    ):
        assert line in told
    assert "--provider massive" not in told
    assert max(map(len, told.splitlines())) <= 78
