"""What a run shows while it goes on fits the terminal, and no number is cut."""

from datetime import UTC, datetime

import pytest

from backfill.core.estimate import PastRun, seconds_expected
from backfill.core.terms import Quota
from backfill.present.progress import progress, waiting
from backfill.run.pace import Progress, Slowest

LARGE = Progress(
    symbols=1000,
    symbols_done=312,
    failed=78,
    calls=12_044,
    calls_in_all=31_052,
    bars=101_402_937,
    stored_bytes=13_400_000_000,
    seconds_left=4000.0,
    slowest=Slowest("X:BTCUSD m1", 10, 106),
)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 160])
def test_lines_fit_and_what_gives_way_does_so_as_a_whole(width: int) -> None:
    lines = progress(LARGE, 4000.0, 41_000.0, width).splitlines()
    whole = progress(LARGE, 4000.0, 41_000.0, 1000).splitlines()
    for line, all_of_it in zip(lines, whole, strict=True):
        parts = line.split(" · ")
        assert parts == all_of_it.split(" · ")[: len(parts)]
        assert len(line) <= width or len(parts) == 1
    assert (len(lines[0]) > 60) == (width > 60)


def test_at_80_columns_it_tells_what_is_done_how_much_was_written_and_the_slowest() -> None:
    first, second = progress(LARGE, 4000.0, 41_000.0, 80).splitlines()
    assert first == ("312 of 1,000 symbols · 78 series failed · 12,044 of about 31,052 calls")
    assert second == (
        "about 1 h 06 min left · 13 GB written · slowest: X:BTCUSD m1, 10 of 106 calls"
    )


def test_a_wait_says_when_it_ends() -> None:
    at = datetime(2024, 11, 13, 6, tzinfo=UTC)
    assert waiting(at, 90.0, 80) == (
        "next round in 1 min 30 s · at 06:00:00 UTC · sooner if the watchlist changes"
    )
    assert waiting(None, None, 80) == "waiting for the watchlist to change"


def test_a_plan_s_time_is_learned_from_earlier_runs_and_never_less_than_the_quota_s() -> None:
    quota = Quota.parse("5/60s")
    slow = [PastRun(calls=5, bars=2500, seconds=25.0)]
    bound = [PastRun(calls=50, bars=25_000, seconds=545.0)]
    default_s = seconds_expected(quota, 5, 2500, [])
    assert seconds_expected(quota, 5, 2500, slow) == pytest.approx(25.0)
    assert seconds_expected(quota, 5, 2500, bound) == default_s  # the quota's time tells nothing
    assert 540 < seconds_expected(quota, 50, 25_000, bound) < 600
    assert seconds_expected(quota, 0, 0, slow) == 0
