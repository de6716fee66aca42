"""When a series may move to another source: what it holds must all be asked for again (R1)."""

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill.core.coverage import Span, Spans
from backfill.core.plan import frontier_ms
from backfill.core.planning import plan_work
from backfill.core.series import Progress, Source, Symbol, SymbolId
from backfill.core.terms import Quota, Settling, Terms
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Demand, Mode, Rules, Target
from backfill.errors import NotEntitled, SourceMismatch
from tests.calendars import calendar
from tests.capable import capable

XNYS = calendar("XNYS")
APPLE = Symbol(1, "AAPL", "stock", "XNYS")
RAW, SPLIT = Source("massive", "sip", "raw"), Source("massive", "sip", "split")
RELOAD = Demand(date(2024, 5, 1), Mode.reload)
PLAIN = Demand(date(2024, 5, 1))


def new_york(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))
    return round(at.timestamp() * 1000)


NOW = new_york("2024-11-12 00:30")
"""Monday the 11th has closed and is final in half an hour."""
HELD = Progress(
    source=RAW,
    coverage=Spans.of((new_york("2024-05-01"), new_york("2024-11-09"))),
    oldest_bar_ms=new_york("2024-05-01"),
    newest_bar_ms=new_york("2024-11-11"),
)


def target(
    demand: Demand, known: Progress = HELD, *, now: int = NOW, opens: date | None = None
) -> Target:
    settling = Settling(60_000, 3_600_000)
    depth = XNYS.day_of(now) - opens if opens else None
    terms = Terms("plan", Quota(), settling, depth, date(2003, 9, 10))
    rules = Rules("massive", capable("sip"), "split", terms, now)
    [work] = plan_work(APPLE, [Timeframe.d1], XNYS, rules, demand, {(1, Timeframe.d1): known})
    [found] = work.targets
    assert bool(work.ranges) == bool(found.missing)
    return found


def refusal(found: Target) -> str:
    assert isinstance(found.refusal, SourceMismatch)
    assert (found.missing, found.replaces) == (Spans(), None)
    return str(found.refusal)


def test_a_reload_of_all_replaces_it_and_a_closed_bar_that_is_not_final_does_not_count() -> None:
    found = target(RELOAD)
    frontier = frontier_ms(XNYS, Timeframe.d1, Settling(60_000, 3_600_000), NOW)
    assert new_york("2024-11-11") < frontier < new_york("2024-11-12")
    assert (found.refusal, found.replaces) == (None, RAW)
    # What the old source has covered is missing as well.
    assert found.missing == Spans.of((new_york("2024-05-01"), new_york("2024-11-09")))


@pytest.mark.parametrize(
    "demand",
    [
        PLAIN,
        Demand(date(2024, 5, 2), Mode.reload),
        Demand(date(2024, 5, 1), Mode.reload, last=Bound(date(2024, 11, 7))),
        Demand(date(2024, 5, 1), Mode.incremental),
        Demand(date(2024, 5, 1), Mode.repair),
    ],
    ids=["plain", "begins late", "ends early", "incremental", "repair"],
)
def test_anything_less_is_refused_with_the_command_that_is_enough(demand: Demand) -> None:
    said = refusal(target(demand))
    assert f"{RAW}; {SPLIT}" in said
    assert said.endswith("backfill run --symbol AAPL --timeframe d1 --reload --from 2024-05-01")


@pytest.mark.parametrize("mode", [Mode.default, Mode.incremental, Mode.repair])
def test_a_range_taken_out_of_the_coverage_that_holds_all_lets_any_run_go_on(mode: Mode) -> None:
    span = Span(new_york("2024-05-01"), new_york("2024-11-09"))
    before = Span(new_york("2024-04-01"), new_york("2024-05-01"))
    cut = replace(HELD, coverage=Spans.of(before), invalidated=Spans.of(span))
    for since in (date(2024, 4, 1), date(2024, 11, 1)):
        found = target(Demand(since, mode), cut)
        assert (found.refusal, found.replaces) == (None, RAW)
        # What the old source answered for before it began counts for nothing.
        deeper = since == date(2024, 4, 1) and mode is not Mode.repair
        assert found.missing == Spans.of(span, before if deeper else span)


def test_bars_beyond_the_window_of_the_plan_stay_and_so_does_the_refusal() -> None:
    cut = replace(HELD, invalidated=Spans.of((new_york("2024-05-01"), new_york("2024-11-09"))))
    for demand, known in ((RELOAD, HELD), (PLAIN, HELD), (PLAIN, cut)):
        said = refusal(target(demand, known, opens=date(2024, 6, 1)))
        assert "beyond what can be read now" in said
        assert "--reload" not in said


def test_a_clock_set_back_never_takes_the_bars_after_it() -> None:
    said = refusal(target(RELOAD, now=new_york("2024-08-01")))
    assert "beyond what can be read now" in said


def test_a_range_that_the_plan_refused_lately_is_not_given_up_for_it() -> None:
    denied = Span(new_york("2024-05-01"), new_york("2024-06-01"))
    held = replace(HELD, denied=denied, denied_until_ms=NOW + 1)
    assert "beyond what can be read now" in refusal(target(RELOAD, held))
    assert isinstance(
        target(RELOAD, Progress(denied=denied, denied_until_ms=NOW + 1)).refusal, NotEntitled
    )


def test_a_source_that_never_gave_a_bar_gives_way_to_any_reload_but_to_no_plain_run() -> None:
    empty = Progress(RAW, HELD.coverage)
    assert target(Demand(date(2024, 11, 1), Mode.reload), empty).replaces == RAW
    assert refusal(target(PLAIN, empty)).endswith("--timeframe d1 --reload")


def test_each_timeframe_is_adjusted_as_the_provider_has_it_and_a_rolled_up_one_as_its_base() -> (
    None
):
    can = replace(
        capable("sip"),
        native={"stock": frozenset({Timeframe.h1, Timeframe.d1})},
        adjustments=("raw",),
        daily_adjustments=("split",),
    )
    terms = Terms("plan", Quota(), Settling(60_000, 3_600_000), None, date(2003, 9, 10))
    rules = Rules("massive", can, "raw", terms, NOW)
    held: dict[tuple[SymbolId, Timeframe], Progress] = {
        (1, Timeframe.d1): replace(HELD, source=SPLIT),
        (1, Timeframe.w1): replace(HELD, source=replace(SPLIT, derived_from=Timeframe.d1)),
    }
    work = plan_work(APPLE, list(Timeframe), XNYS, rules, PLAIN, held)
    for piece in work:
        adjustments = {one.source.adjustment for one in piece.targets}
        assert adjustments == {rules.adjustment_of(piece.base)}
        assert not any(isinstance(one.refusal, SourceMismatch) for one in piece.targets)
    assert {
        str(one.source)
        for piece in work
        for one in piece.targets
        if not isinstance(one.refusal, NotEntitled)
    } == {
        "massive/sip/raw",
        "massive/sip/raw, derived from h1",
        "massive/sip/split",
        "massive/sip/split, derived from d1",
    }
