"""A page keeps its good bars, whatever stands beside them, and says why it lost the others."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.checks import Checked, Reason, check_page, refuse_coarser_count, sound
from backfill.core.coverage import Span
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request
from backfill.errors import BadAnswer
from tests.calendars import MIDNIGHT_MIN, calendar
from tests.conftest import SHARED
from tests.property.oracle import HOUR_MS, Case, Slot, cases, wall_ms

Row = tuple[float | int | None, ...]
TS, OPEN, HIGH, LOW, CLOSE, VOLUME, VWAP, COUNT = range(8)
LONG_AFTER = 4_000_000_000_000
NAN, INFINITE = float("nan"), float("inf")


def rows_of(bars: Bars) -> list[Row]:
    """Rows that compare equal when they hold the same values, absent ones included."""
    columns = [getattr(bars, field.name).tolist() for field in fields(bars)]
    return [
        tuple(None if value != value else value for value in row)  # noqa: PLR0124 (NaN)
        for row in zip(*columns, strict=True)
    ]


def row_at(ts: int, low: float = 10.0, spread: tuple[int, int, int] = (1, 2, 3)) -> Row:
    opened, closed, rise = spread
    return ts, low + opened, low + max(opened, closed) + rise, low, low + closed, 5.0, None, None


@st.composite
def good_rows(draw: st.DrawFn, slots: tuple[Slot, ...]) -> list[Row]:
    """An honest bar for every slot; some without vwap or count."""
    prices = st.floats(0.01, 1e6)
    row = st.tuples(
        st.lists(prices, min_size=4, max_size=4).map(sorted),
        st.booleans(),
        st.just(0.0) | st.floats(1e-12, 1e12),
        st.none() | prices,
        st.none() | st.integers(0, 10**9),
    )
    drawn = draw(st.lists(row, min_size=len(slots), max_size=len(slots)))
    return [
        (slot.start, *((b, d, a, c) if rises else (c, d, a, b)), volume, vwap, count)
        for slot, ((a, b, c, d), rises, volume, vwap, count) in zip(slots, drawn, strict=True)
    ]


@st.composite
def runs(draw: st.DrawFn, least: int = 1, most: int = 12) -> tuple[Case, tuple[Slot, ...]]:
    """Some slots in a row."""
    case = draw(cases())
    assume(len(case.slots) >= least)
    first = draw(st.integers(0, len(case.slots) - least))
    return case, case.slots[first : first + draw(st.integers(least, most))]


def check(case: Case, rows: list[Row], slots: tuple[Slot, ...], now: int = LONG_AFTER) -> Checked:
    asked = Span(slots[0].start, slots[-1].end)
    return check_page(case.calendar, case.timeframe, Bars.of(rows), asked, now)


@given(st.data())
def test_a_bar_is_sound_if_a_page_of_it_alone_would_be_stored(data: st.DataObject) -> None:
    case, slots = data.draw(runs())
    odd = st.sampled_from((NAN, INFINITE, -1.0, 0.0, 1e-320, 1e308))
    rows = [list(row) for row in data.draw(good_rows(slots))]
    for row in rows:
        for place in data.draw(st.sets(st.integers(1, 6), max_size=2)):
            row[place] = data.draw(odd)
        if data.draw(st.booleans()):
            row[0] = data.draw(st.integers(-3, 3)) * 1000 + data.draw(st.sampled_from(slots)).start
    asked, now = Span(slots[0].start, slots[-1].end), data.draw(st.sampled_from(slots)).end
    bars = Bars.of([tuple(row) for row in rows])
    bars = replace(bars, ts_ms=case.calendar.canonical(case.timeframe, bars.ts_ms))
    found = sound(case.calendar, case.timeframe, bars, asked, now)
    alone = [bars.take(slice(at, at + 1)) for at in range(len(bars))]
    kept = [len(check_page(case.calendar, case.timeframe, one, asked, now).bars) for one in alone]
    assert found.tolist() == [bool(one) for one in kept]


@given(st.data())
def test_a_good_page_survives_any_order_and_exact_duplicates(data: st.DataObject) -> None:
    case, slots = data.draw(runs())
    rows = data.draw(good_rows(slots))
    repeated = data.draw(st.lists(st.sampled_from(rows), max_size=5))
    checked = check(case, data.draw(st.permutations(rows + repeated)), slots)
    assert rows_of(checked.bars) == rows_of(Bars.of(rows))
    assert len(checked.rejected) == 0
    assert checked.edge_ms == slots[0].start


SPOILT: dict[str, tuple[Reason, dict[int, float]]] = {
    "an open that is not a number": (Reason.not_finite, {OPEN: NAN}),
    "a high that is infinite": (Reason.not_finite, {HIGH: INFINITE}),
    "a low that is not a number": (Reason.not_finite, {LOW: NAN}),
    "a close that is infinitely low": (Reason.not_finite, {CLOSE: -INFINITE}),
    "a volume that is not a number": (Reason.not_finite, {VOLUME: NAN}),
    "a volume that is infinite": (Reason.not_finite, {VOLUME: INFINITE}),
    "a vwap that is infinite": (Reason.not_finite, {VWAP: INFINITE}),
    "prices past what sums can hold": (Reason.not_finite, {HIGH: 1e300}),
    "a volume past what sums can hold": (Reason.not_finite, {VOLUME: 1e300}),
    "a vwap past what sums can hold": (Reason.not_finite, {VWAP: 1e300}),
    "a low that another basis would make zero": (Reason.price, {LOW: 5e-324}),
    "a vwap that another basis would make zero": (Reason.price, {VWAP: 5e-324}),
    "a volume that another basis would make zero": (Reason.volume, {VOLUME: 5e-324}),
    "a count past what sums can hold": (Reason.volume, {COUNT: 2**62}),
    "a low of zero": (Reason.price, {LOW: 0.0}),
    "a negative close": (Reason.price, {CLOSE: -1.0}),
    "prices that are all zero": (Reason.price, {OPEN: 0.0, HIGH: 0.0, LOW: 0.0, CLOSE: 0.0}),
    "a negative vwap": (Reason.price, {VWAP: -1.0}),
    "a high below the low": (Reason.high_low, {OPEN: 5.0, HIGH: 4.0, LOW: 5.0, CLOSE: 5.0}),
    "an open above the high": (Reason.high_low, {OPEN: 9.0, HIGH: 8.0, LOW: 5.0, CLOSE: 6.0}),
    "a close above the high": (Reason.high_low, {OPEN: 6.0, HIGH: 8.0, LOW: 5.0, CLOSE: 9.0}),
    "an open below the low": (Reason.high_low, {OPEN: 4.0, HIGH: 8.0, LOW: 5.0, CLOSE: 6.0}),
    "a close below the low": (Reason.high_low, {OPEN: 6.0, HIGH: 8.0, LOW: 5.0, CLOSE: 4.0}),
    "a negative volume": (Reason.volume, {VOLUME: -1.0}),
    "a negative count": (Reason.volume, {COUNT: -2}),
}


@pytest.mark.parametrize("fault", SPOILT)
@SHARED
@given(data=st.data())
def test_a_bar_with_a_bad_value_goes_with_its_reason_and_its_neighbours_stay(
    fault: str, data: st.DataObject
) -> None:
    reason, values = SPOILT[fault]
    case, slots = data.draw(runs(most=6))
    rows = data.draw(good_rows(slots))
    at = data.draw(st.integers(0, len(rows) - 1))
    spoilt = tuple(values.get(column, value) for column, value in enumerate(rows[at]))
    page = [*rows[:at], spoilt, *rows[at + 1 :]]
    checked = check(case, data.draw(st.permutations(page)), slots)
    assert rows_of(checked.bars) == rows_of(Bars.of(rows[:at] + rows[at + 1 :]))
    assert rows_of(checked.rejected) == rows_of(Bars.of([spoilt]))
    assert checked.reasons == (reason,)
    assert checked.edge_ms == slots[0].start


@given(st.data())
def test_two_bars_that_differ_in_any_value_both_go_and_their_neighbours_stay(
    data: st.DataObject,
) -> None:
    case, slots = data.draw(runs())
    rows = data.draw(good_rows(slots))
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    column, value = data.draw(
        st.sampled_from(
            (
                (HIGH, 2e6),
                (LOW, 0.001),
                (VOLUME, 2e12),
                (VWAP, 2e6 if row[VWAP] is None else None),
                (COUNT, 7 if row[COUNT] is None else None),
            )
        )
    )
    other = (*row[:column], value, *row[column + 1 :])
    copies = data.draw(st.lists(st.sampled_from((row, other)), max_size=2))
    page = [*rows, other, *copies]
    checked = check(case, data.draw(st.permutations(page)), slots)
    assert rows_of(checked.bars) == rows_of(Bars.of(rows[:at] + rows[at + 1 :]))
    assert Counter(rows_of(checked.rejected)) == Counter(rows_of(Bars.of([row, other, *copies])))
    assert set(checked.reasons) == {Reason.conflict}


@given(st.data())
def test_bars_outside_the_range_go_and_do_not_move_the_edge(data: st.DataObject) -> None:
    case, slots = data.draw(runs(least=3))
    rows = data.draw(good_rows(slots))
    checked = check(case, data.draw(st.permutations(rows)), slots[1:-1])
    assert rows_of(checked.bars) == rows_of(Bars.of(rows[1:-1]))
    assert set(checked.reasons) == {Reason.outside_range}
    assert {row[TS] for row in rows_of(checked.rejected)} == {slots[0].start, slots[-1].start}
    assert checked.edge_ms == slots[1].start


def test_a_page_wholly_outside_the_range_reaches_nothing() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.d1)
    checked = check(case, [row_at(case.slots[0].start)], case.slots[5:])
    assert (checked.reasons, checked.edge_ms) == ((Reason.outside_range,), None)


@given(st.data())
def test_a_bar_whose_slot_has_not_ended_is_forming_and_one_that_has_just_ended_is_not(
    data: st.DataObject,
) -> None:
    case, slots = data.draw(runs())
    rows = data.draw(good_rows(slots))
    edge = data.draw(st.sampled_from(slots)).end + data.draw(st.sampled_from((-1, 0, 1)))
    checked = check(case, rows, slots, now=edge)
    ended = [row for row, slot in zip(rows, slots, strict=True) if slot.end <= edge]
    assert rows_of(checked.bars) == rows_of(Bars.of(ended))
    assert checked.reasons == (Reason.forming,) * (len(rows) - len(ended))


@given(st.data())
def test_a_bar_between_the_slots_is_off_grid_and_its_neighbours_stay(data: st.DataObject) -> None:
    case, slots = data.draw(runs())
    assume(case.timeframe.is_intraday or case.market in {"24/7", "FX"})
    rows = data.draw(good_rows(slots))
    slot = data.draw(st.sampled_from(slots))
    stray = row_at(data.draw(st.integers(slot.start + 1, slot.end - 1)))
    checked = check(case, data.draw(st.permutations([*rows, stray])), slots)
    assert rows_of(checked.bars) == rows_of(Bars.of(rows))
    assert rows_of(checked.rejected) == rows_of(Bars.of([stray]))
    assert checked.reasons == (Reason.off_grid,)


@pytest.mark.parametrize("day", [date(2024, 7, 4), date(2024, 7, 6)], ids=["holiday", "Saturday"])
def test_a_daily_bar_of_a_day_without_a_session_is_off_grid(day: date) -> None:
    case = Case("XNYS", "half day and Independence Day", Timeframe.d1)
    rows = [row_at(slot.start) for slot in case.slots]
    stray = row_at(wall_ms(case.zone, day))
    checked = check(case, [*rows, stray], case.slots)
    assert rows_of(checked.bars) == rows_of(Bars.of(rows))
    assert checked.reasons == (Reason.off_grid,)


@pytest.mark.parametrize(
    "begins",
    [
        pytest.param(lambda day: wall_ms(calendar("24/7").zone, day), id="UTC"),
        pytest.param(lambda day: wall_ms(calendar("FX").zone, day), id="New York"),
    ],
)
def test_a_day_of_currencies_by_another_clock_than_the_roll_is_never_taken_for_ours(
    begins: Callable[[date], int],
) -> None:
    case = Case("FX", "spring DST, US then EU", Timeframe.d1)
    # By UTC they have a short day on Sunday, too.
    rows = [row_at(begins(date(2024, 3, 10) + timedelta(days=at))) for at in range(12)]
    checked = check(case, rows, case.slots)
    assert (len(checked.bars), set(checked.reasons)) == (0, {Reason.off_grid})
    hours = Case("FX", "spring DST, US then EU", Timeframe.h1)
    with pytest.raises(BadAnswer, match="bars of d1 came for h1"):
        check(hours, rows, hours.slots)


@given(st.data())
def test_order_and_duplicates_never_change_the_verdict(data: st.DataObject) -> None:
    case, slots = data.draw(runs())
    rows = data.draw(good_rows(slots))
    mixed = [
        (*row[:column], value, *row[column + 1 :])
        for row in data.draw(st.lists(st.sampled_from(rows), max_size=4))
        for column, value in [data.draw(st.sampled_from(((LOW, -1.0), (VOLUME, 7.0), (HIGH, NAN))))]
    ]
    page = rows + mixed
    once = check(case, page, slots)
    again = check(
        case,
        data.draw(st.permutations(page + data.draw(st.lists(st.sampled_from(page), max_size=4)))),
        slots,
    )
    assert rows_of(again.bars) == rows_of(once.bars)
    assert again.edge_ms == once.edge_ms
    assert set(zip(again.reasons, rows_of(again.rejected), strict=True)) == set(
        zip(once.reasons, rows_of(once.rejected), strict=True)
    )


def test_one_day_stamped_in_four_ways_is_one_bar() -> None:
    case = Case("XNYS", "spring DST, US then EU", Timeframe.d1)
    slot = case.slots[5]
    utc_midnight = wall_ms(calendar("24/7").zone, slot.session)
    stamps = [utc_midnight, slot.start, slot.start + 34_200_000, slot.start + 57_600_000]
    checked = check(case, [row_at(stamp) for stamp in stamps], case.slots)
    assert rows_of(checked.bars) == rows_of(Bars.of([row_at(slot.start)]))
    assert checked.reasons == ()


def test_a_real_forty_percent_day_is_stored() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.d1)
    rows = [row_at(slot.start, low=100.0) for slot in case.slots]
    rows[4] = (case.slots[4].start, 101.0, 145.0, 100.0, 141.4, 9e8, 130.0, 10**6)
    assert rows_of(check(case, rows, case.slots).bars) == rows_of(Bars.of(rows))


def test_an_empty_page_is_empty_and_reaches_nothing() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.d1)
    checked = check(case, [], case.slots)
    assert (len(checked.bars), len(checked.rejected), checked.edge_ms) == (0, 0, None)


@given(cases(), st.sampled_from((1e-3, 1e3, 1e6)))
def test_stamps_in_seconds_micro_or_nanoseconds_refuse_the_page(case: Case, unit: float) -> None:
    rows = [row_at(round(slot.start * unit)) for slot in case.slots[:5]]
    with pytest.raises(BadAnswer, match="milliseconds"):
        check(case, rows, case.slots)


FULL_YEAR = Span(wall_ms(calendar("XNYS").zone, date(2023, 1, 1)), LONG_AFTER)
COARSER = [
    (market, asked, came)
    for market in ("XNYS", "24/7", "FX")
    for asked, came in (
        ("m1", "m5"),
        ("m1", "h1"),
        ("m1", "d1"),
        ("m5", "m15"),
        ("m5", "m30"),
        ("m15", "h1"),
        ("m15", "d1"),
        ("m30", "h4"),
        ("h1", "h4"),
        ("h1", "d1"),
        ("h4", "d1"),
        ("d1", "w1"),
        ("d1", "mn1"),
        ("w1", "mn1"),
    )
]


@pytest.mark.parametrize(("market", "asked", "came"), COARSER)
@pytest.mark.parametrize("periods", [3, 12])
def test_bars_of_a_coarser_timeframe_refuse_the_page(
    market: str, asked: str, came: str, periods: int
) -> None:
    exchange = calendar(market)
    period = Timeframe.d1 if Timeframe(came).is_intraday else Timeframe(came)
    whole = exchange.grid(period).slots(FULL_YEAR)[[0, periods]]
    starts = exchange.grid(Timeframe(came)).slots((int(whole[0]), int(whole[1])))
    page = Bars.of([row_at(int(start)) for start in starts])
    with pytest.raises(BadAnswer, match=r"bars of \w+ came for"):
        check_page(exchange, Timeframe(asked), page, FULL_YEAR, LONG_AFTER)


@pytest.mark.parametrize("doubled", [1, 2])
def test_weeks_stamped_on_sunday_refuse_a_daily_page_however_often_they_are_repeated(
    doubled: int,
) -> None:
    exchange = calendar("XNYS")
    sundays = exchange.grid(Timeframe.w1).slots(FULL_YEAR)[:5] - 24 * HOUR_MS
    page = Bars.of([row_at(int(start)) for start in sundays] * doubled)
    with pytest.raises(BadAnswer, match="bars of w1 came for d1"):
        check_page(exchange, Timeframe.d1, page, FULL_YEAR, LONG_AFTER)


@given(st.data())
def test_sparse_bars_that_start_no_coarser_timeframe_are_not_refused(data: st.DataObject) -> None:
    case = data.draw(cases((Timeframe.m1, Timeframe.m5, Timeframe.m15, Timeframe.h1)))
    chosen = data.draw(st.lists(st.sampled_from(case.slots), min_size=1, max_size=12, unique=True))
    coarser = {Timeframe.m1: 5, Timeframe.m5: 15, Timeframe.m15: 30, Timeframe.h1: 240}
    step = coarser[case.timeframe] * 60_000
    begins = MIDNIGHT_MIN.get(case.market, 0)
    midnights = [wall_ms(case.zone, slot.session, begins) for slot in chosen]
    assume(
        any(
            (slot.start - midnight) % step for slot, midnight in zip(chosen, midnights, strict=True)
        )
    )
    rows = sorted(row_at(slot.start) for slot in chosen)
    assert rows_of(check(case, list(rows), case.slots).bars) == rows_of(Bars.of(rows))


@given(st.data())
def test_two_bars_are_too_few_to_be_called_coarser_however_often_they_come(
    data: st.DataObject,
) -> None:
    case = data.draw(cases((Timeframe.m1, Timeframe.m15, Timeframe.d1)))
    chosen = data.draw(st.lists(st.sampled_from(case.slots), min_size=1, max_size=2, unique=True))
    rows = [row_at(slot.start) for slot in chosen] * data.draw(st.integers(1, 3))
    assert len(check(case, rows, case.slots).bars) == len(chosen)


@pytest.mark.parametrize(
    ("asked", "came", "base"),
    [
        ("d1", "mn1", 19),
        ("d1", "w1", 4),
        ("w1", "mn1", 19),
        ("m1", "m5", 5),
        ("m5", "m15", 15),
        ("m15", "h1", 60),
        ("h1", "h4", 240),
    ],
)
@pytest.mark.parametrize("bars", [1, 2])
def test_the_provider_s_own_count_tells_one_or_two_coarser_bars(
    asked: str, came: str, base: int, bars: int
) -> None:
    page = Bars.of([row_at(LONG_AFTER + at) for at in range(bars)])
    refuse_coarser_count(Timeframe(came), Page(page, None, base_count=bars * base))
    with pytest.raises(BadAnswer, match=f"{bars} bars came for {asked}"):
        refuse_coarser_count(Timeframe(asked), Page(page, None, base_count=bars * base))


@given(
    st.sampled_from(Timeframe),
    st.integers(1, 5),
    st.data(),
    st.sampled_from((None, Request("next"))),
)
def test_no_count_of_base_aggregates_that_the_bars_can_hold_refuses_a_page(
    timeframe: Timeframe, bars: int, data: st.DataObject, following: Request | None
) -> None:
    # A page may end within a bar that it counts and doesn't carry, but for one aggregate or all.
    most = timeframe.most_base * (bars + (following is not None))
    count = data.draw(st.none() | st.integers(0, most) | st.just(most))
    page = Bars.of([row_at(LONG_AFTER + at) for at in range(bars)])
    refuse_coarser_count(timeframe, Page(page, following, base_count=count))
    refuse_coarser_count(timeframe, Page(Bars.empty(), following, base_count=count))


@pytest.mark.parametrize("hours", [(16, 17, 18), (4, 5, 8), (16, 17, 18, 19)])
def test_a_quiet_evening_or_morning_of_trades_on_the_hour_is_not_refused(
    hours: tuple[int, ...],
) -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.m15)
    rows = [row_at(wall_ms(case.zone, date(2023, 11, 14), 60 * hour)) for hour in hours]
    assert len(check(case, rows, case.slots).bars) == len(rows)


def test_the_raw_stamp_of_a_rejected_bar_is_kept() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.d1)
    at_close = case.slots[3].start + 16 * HOUR_MS
    bad = (*row_at(at_close)[:VOLUME], -5.0, None, None)
    assert rows_of(check(case, [bad], case.slots).rejected) == rows_of(Bars.of([bad]))
