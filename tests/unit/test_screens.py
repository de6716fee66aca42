"""Tables on screens of several widths: columns give way in their order, and no number is cut."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import pytest

from backfill.audit.gaps import SeriesGaps
from backfill.audit.status import SeriesStatus
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.freshness import State
from backfill.core.gaps import Gap
from backfill.core.series import Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.present import show, status
from backfill.present.columns import print_table
from backfill.run.outcomes import Failure, SeriesCounts, Summary
from backfill.run.planned import Plan, PlannedSeries
from backfill.store.counts import Counts

WIDTHS = (60, 80, 100, 160)
AT = datetime(2024, 11, 15, 5, tzinfo=UTC)
SERIES = SeriesStatus(
    symbol="AAPL", timeframe="m15", bars=12_345_678, oldest=AT, newest=AT, coverage=[(AT, AT)],
    due_until=AT, behind=0, fresh=True, quarantined=0, source="massive/sip/raw",
    unlisted_splits=[], state=State.fresh, silent=0, usual_silence=1, wanted_since=AT, missing=9,
    share=0.1, watched=True, judged=True,
)  # fmt: skip
STALE = replace(SERIES, symbol="BRK.B", state=State.behind, fresh=False, behind=4321)
ODD = replace(SERIES, symbol="TICKER@alpaca", coverage=[(AT, AT)] * 1234, quarantined=567)
STATUS = ["symbol", "timeframe", "bars", "oldest", "newest", "wanted since", "share", "covered"]


Shown = Callable[..., list[str]]


class Screen(StringIO):
    """A terminal that somebody reads."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What some work writes on a screen of a width, without what is only dim."""

    def shown(width: int, work: Callable[[], None]) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setattr(sys, "stdout", screen := Screen())
            work()
        plain = re.sub(r"\x1b\[\d*m", "", screen.getvalue())
        return [line.rstrip() for line in plain.splitlines()]

    return shown


def head_of(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


@pytest.mark.parametrize("width", WIDTHS)
def test_status_drops_what_matters_least_and_keeps_every_number(width: int, shown: Shown) -> None:
    head, *rows = shown(width, lambda: status.status([SERIES, STALE]))[:3]
    gone = {
        60: {"covered", "oldest", "wanted since", "newest"},
        80: {"covered", "oldest", "wanted since"},
        100: {"covered"},
        160: set[str](),
    }[width]
    assert head_of(head) == [name for name in [*STATUS, "fresh"] if name not in gone]
    assert max(map(len, [head, *rows])) <= width
    for row, fresh in zip(rows, ("yes", "no, 4,321 due"), strict=True):
        assert "12,345,678" in row
        assert "10%" in row
        assert row.endswith(fresh)


@pytest.mark.parametrize("width", [20, *WIDTHS])
def test_a_row_that_is_too_long_for_the_screen_is_wrapped_by_it_and_not_cut(
    width: int, shown: Shown
) -> None:
    row = shown(width, lambda: status.status([ODD]))[1]
    for number in ("TICKER@alpaca", "m15", "12,345,678", "10%", "1,234", "yes", "567"):
        assert number in row.split()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("gaps", [1, 1001], ids=["laid-out", "row-by-row"])
def test_gaps_keep_where_each_begins_how_many_slots_it_has_and_why(
    width: int, gaps: int, shown: Shown
) -> None:
    series = Series(Symbol(1, "BRK.B", "stock", "XNYS"), Timeframe.m15)
    gap = Gap(Span(0, 1), 1234, EmptyReason.unconfirmed, again_ms=0)

    lines = shown(width, lambda: show.gaps([SeriesGaps(series, [gap] * gaps, Spans())]))[:-1]

    columns = ["symbol", "timeframe", "from", "to", "slots", "why"]
    assert head_of(lines[0]) == [name for name in columns if name != "to" or width > 60]
    rows = [line for line in lines if line.startswith("BRK.B")]
    assert len(rows) == gaps
    assert all("  1,234  " in row for row in rows)
    told = lines[1:] if gaps == 1 else rows[:1]
    words = " ".join(line[lines[0].index("why") :] for line in told)
    assert " ".join(words.split()) == "unconfirmed: asked for again from 1970-01-01 00:00 on"
    if gaps == 1:
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_and_its_failures_keep_their_numbers_and_their_reasons(
    width: int, shown: Shown
) -> None:
    refusal = "the plan refused this range before; it is asked again after a day"
    planned = PlannedSeries(
        "BRK.B", "m15", 1234, 5678, 98_765_432, "2014-11-01", "2024-11-01", None, refusal
    )
    failure = Failure("BRK.B", "m15", "not_entitled", refusal)
    ended = Summary(
        run_id="7", status="failed", exit_code=1, mode="default", provider="massive", calls=1,
        lookups=0, retries=0, rate_limited=0, duration_s=1.0, series=SeriesCounts(),
        bars=Counts(inserted=12_345_678),
        failures=[failure], timeframes=[], error=None, providers={},
    )  # fmt: skip

    plan = Plan(1234, 5678, 0, 0, 98_765_432, 1.0, [planned])
    lines = shown(width, lambda: show.plan(plan))
    row = next(line for line in lines if line.startswith("BRK.B"))
    assert {"1234", "5678", "98,765,432"} <= set(row.split())
    assert ("2024-11-01" in row, "2014-11-01" in row) == (width > 80, width > 60)
    told = shown(width, lambda: show.summary(ended))
    assert max(map(len, told)) <= width
    words = " ".join(" ".join(told).split())
    assert refusal in words
    assert "12,345,678 inserted" in words


def test_markdown_on_a_screen_spells_names_as_they_are(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    def page() -> None:
        status.status([ODD, replace(SERIES, symbol="A|B")], markdown=True)

    seen = "\n".join(shown(80, page))
    assert "| TICKER@alpaca |" in seen
    assert "| A\\|B |" in seen
    assert "&#" not in seen

    page()
    assert "| TICKER<span>&#64;</span>alpaca |" in capsys.readouterr().out


def test_a_number_can_not_be_told_to_give_way() -> None:
    with pytest.raises(ValueError, match="never gives way"):
        print_table(("symbol", "bars"), [], giving_way=("bars",))
