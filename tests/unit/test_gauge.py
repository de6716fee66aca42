"""What a lane's gauge makes of its streams."""

from backfill.core.terms import Quota
from backfill.fetch.gauge import Gauge


def calls_left(gauge: Gauge) -> float:
    """How many calls are left, by what was planned and what the streams that were met are like."""
    return sum(one.calls * one.number for one in gauge.left(Quota(), 6).left.streams)


def test_a_stream_of_which_nothing_came_counts_as_its_look_up_until_that_has_told() -> None:
    gauge = Gauge()
    for name in ("AAPL", "NOSUCH"):
        gauge.plan(name, name, 9, 900)
    assert calls_left(gauge) == 18

    gauge.doubt("NOSUCH")
    assert calls_left(gauge) == 9 + 1

    gauge.prove("NOSUCH", 8, 800)
    assert calls_left(gauge) == 9 + 8

    gauge.doubt("AAPL")
    gauge.end("AAPL")
    assert calls_left(gauge) == 8
