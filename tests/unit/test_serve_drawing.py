"""What the drawing library is fed with is sound, whatever is stored."""

import hashlib
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.audit.picture import Missing, Picture
from backfill.core.coverage import Span
from backfill.core.gaps import Gap
from backfill.core.series import Symbol
from backfill.core.splits import Ratio
from backfill.core.timeframe import Timeframe
from backfill.serve.drawing import drawn
from backfill.serve.static import FILES
from backfill.store.beside import Beside, Dividend, Rejected, Split
from backfill.store.history import StoredBar
from backfill.store.times import to_ms

AT: Final = datetime(2024, 11, 12, 15, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
STOCK: Final = Symbol(1, "AAPL", "stock", "XNYS")


def bar(at: datetime = AT, **values: Any) -> StoredBar:
    """A sound bar, but for the values given."""
    sound = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    return StoredBar(at, **(sound | values), vwap=None, trade_count=None)


def picture(*bars: StoredBar, timeframe: Timeframe = Timeframe.m1, **values: Any) -> Picture:
    """A picture of some bars, all of the regular session, but for the values given."""
    plain: dict[str, Any] = {
        "symbol": STOCK,
        "timeframes": (timeframe,),
        "timeframe": timeframe,
        "adjusted": False,
        "bars": bars,
        "has_older": False,
        "is_regular": (True,) * len(bars),
        "missing": (),
        "beside": Beside(),
        "source": None,
        "left_out": None,
    }
    return Picture(**(plain | values))


NUMBERS: Final = st.none() | st.floats() | st.floats(1, 2)
STAMPS: Final = st.integers(0, 5).map(lambda minutes: AT + minutes * MINUTE)
BARS: Final = st.builds(
    StoredBar, STAMPS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.none(), st.none()
)


@given(st.lists(BARS | STAMPS.map(bar)), st.lists(STAMPS), st.sampled_from(Timeframe))
def test_times_rise_and_prices_are_finite_numbers_in_their_order(
    bars: list[StoredBar], rejected: list[datetime], timeframe: Timeframe
) -> None:
    beside = Beside(rejected=tuple(Rejected(at, "bad", {}) for at in rejected))
    drawing = drawn(picture(*bars, timeframe=timeframe, beside=beside))
    times = [one.time for one in drawing.candles]
    assert times == sorted(set(times))
    assert len(times) + len(drawing.left_out) == len(bars)
    for one in drawing.candles:
        assert all(math.isfinite(number) for number in one)
        assert one.low <= min(one.open, one.close) <= max(one.open, one.close) <= one.high
    assert list(drawing.blank) == sorted(set(drawing.blank) - set(times))
    assert {mark.time for mark in drawing.marks} <= {*times, *drawing.blank}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"open": None}, "missing"),
        ({"volume": None}, "missing"),
        ({"high": math.inf}, "too large"),
        ({"close": math.nan}, "too large"),
        ({"high": 1e14}, "too large"),
        ({"high": 10.2}, "contradict"),
        ({"low": 10.2}, "contradict"),
    ],
)
def test_a_bar_that_cannot_be_drawn_is_left_out_and_told(values: dict[str, Any], why: str) -> None:
    drawing = drawn(picture(bar(AT, **values), bar(AT + MINUTE)))
    assert [one.time for one in drawing.candles] == [to_ms(AT + MINUTE) // 1000]
    ((at, told),) = drawing.left_out
    assert at == AT
    assert why in told


def test_days_stand_at_midnight_utc_of_their_date_on_both_sides_of_a_change_of_the_clock() -> None:
    bars = [bar(datetime(2024, 11, day, hour, tzinfo=UTC)) for day, hour in ((1, 4), (4, 5))]
    drawing = drawn(picture(*bars, timeframe=Timeframe.d1))
    at = [datetime.fromtimestamp(one.time, UTC) for one in drawing.candles]
    assert at == [datetime(2024, 11, day, tzinfo=UTC) for day in (1, 4)]


def test_a_gap_is_places_without_a_bar_and_a_mark_at_its_first() -> None:
    span = Span(to_ms(AT + MINUTE), to_ms(AT + 3 * MINUTE))
    starts = (span.start_ms, span.start_ms + 60_000)
    gap = Missing(Gap(span, 2), starts)
    drawing = drawn(picture(bar(AT), bar(AT + 3 * MINUTE), missing=(gap,)))
    assert drawing.blank == tuple(at // 1000 for at in starts)
    assert [(one.time, one.kind, one.text) for one in drawing.marks] == [
        (starts[0] // 1000, "gap", "2 bars missing")
    ]


@pytest.mark.parametrize(
    ("timeframe", "starts", "marked"),
    [
        (Timeframe.d1, [(7, 5), (8, 5), (12, 5)], 12),  # a Monday without a bar
        (Timeframe.w1, [(4, 5), (11, 5), (18, 5)], 11),
        (Timeframe.w1, [(4, 5), (18, 5)], 18),  # its week has no bar
        (Timeframe.m1, [(8, 15), (11, 15), (12, 15)], 11),
    ],
)
def test_a_split_and_a_dividend_are_marked_on_the_bar_of_their_day_or_the_next(
    timeframe: Timeframe, starts: list[tuple[int, int]], marked: int
) -> None:
    bars = [bar(datetime(2024, 11, day, hour, tzinfo=UTC)) for day, hour in starts]
    day = date(2024, 11, 11)
    beside = Beside(
        splits=(Split(day, Ratio(4, 1), "applied"), Split(day, Ratio(3, 1), "contradicted")),
        dividends=(Dividend(day, 0.25, "USD", "CD"),),
    )
    marks = drawn(picture(*bars, timeframe=timeframe, beside=beside)).marks
    assert {datetime.fromtimestamp(one.time, UTC).day for one in marks} == {marked}
    assert [one.text for one in marks] == [
        "dividend 0.25 USD",
        "split 4:1",
        "split 3:1 (contradicted)",
    ]


@pytest.mark.parametrize("timeframe", [Timeframe.m1, Timeframe.d1, Timeframe.w1, Timeframe.mn1])
def test_a_split_after_the_newest_bar_is_marked_on_none(timeframe: Timeframe) -> None:
    beside = Beside(splits=(Split(date(2024, 11, 11), Ratio(4, 1), "applied"),))
    newest = bar(datetime(2024, 10, 1, 4, tzinfo=UTC))
    assert drawn(picture(newest, timeframe=timeframe, beside=beside)).marks == ()


def test_bars_outside_of_the_session_are_shaded_by_runs() -> None:
    bars = [bar(AT + minutes * MINUTE) for minutes in range(5)]
    regular = (False, False, True, True, False)
    drawing = drawn(picture(*bars, is_regular=regular))
    at = [to_ms(one.ts) // 1000 for one in bars]
    assert drawing.extended == ((at[0], at[1]), (at[4], at[4]))


@pytest.mark.parametrize(
    ("close", "decimals"), [(189.95, 2), (25_000.0, 2), (1.0834, 4), (0.00001234, 9), (1e-30, 12)]
)
def test_prices_show_five_digits(close: float, decimals: int) -> None:
    one = bar(open=close, high=close, low=close, close=close)
    assert drawn(picture(one)).decimals == decimals


SHIPPED: Final = {
    "lightweight-charts.standalone.production.js": (
        "e21cc5caa0226ef30bd8549c50b9ef926615f2a4ee6b4e486353477a55f598cf"
    ),
    "LICENSE": "70c9d5382506dd184465425c08a99ad9bd6d9ac1313c252968ba0b585e5ef823",
}
"""Of lightweight-charts 5.2.1, as npm has it."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_drawing_library_is_the_one_that_was_published(name: str) -> None:
    file = FILES / "lightweight-charts" / name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHIPPED[name]


def test_its_version_and_its_notice_are_told() -> None:
    folder = FILES / "lightweight-charts"
    code = folder.joinpath("lightweight-charts.standalone.production.js").read_text("utf-8")
    assert "TradingView Lightweight Charts™ v5.2.1" in code[:200]
    notice = folder.joinpath("NOTICE").read_text("utf-8").split()
    assert {"https://www.tradingview.com/", "TradingView,"} <= set(notice)
