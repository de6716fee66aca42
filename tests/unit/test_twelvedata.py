"""Twelve Data's protocol: clocks on a wall, ends that may be inclusive, refusals inside a 200."""

import json
from datetime import date
from typing import Any, Final

import pytest

from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.series import unregistered
from backfill.core.timeframe import HOUR_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import BadAnswer, NotEntitled, RateLimited, UnknownSymbol, UnreadableAnswer
from backfill.providers.twelvedata import TwelveData
from tests.calendars import calendar, sessions
from tests.providers.table import FIXTURES

TWELVE: Final = TwelveData()
FOLDER: Final = FIXTURES / "twelvedata"
MINUTE: Final = (FOLDER / "error_429_minute.json").read_bytes()
DAY: Final = MINUTE.replace(b"for the current minute", b"for the day")


NYSE: Final = Calendar.of("XNYS", "America/New_York", sessions("XNYS"))
"""In regular hours only."""


def asked_for(ticker: str, timeframe: Timeframe, first: date, until: date) -> Asked:
    symbol = unregistered(ticker)
    days = NYSE if symbol.is_share else calendar(symbol.calendar)
    span = Span(days.midnight(first), days.midnight(until))
    adjustment = TWELVE.can.adjustment_of(timeframe, "raw")
    return Asked(symbol, days, timeframe, span, adjustment)


APPLE: Final = asked_for("AAPL", Timeframe.d1, date(2024, 11, 22), date(2024, 11, 23))
EURO: Final = asked_for("EUR/USD", Timeframe.h1, date(2024, 11, 4), date(2024, 11, 5))


def row(at: str, price: Any = "1.08500", **others: Any) -> dict[str, Any]:
    return {"datetime": at, **dict.fromkeys(("open", "high", "low", "close"), price), **others}


def series(*rows: dict[str, Any], **meta: Any) -> dict[str, Any]:
    own = {"symbol": "EUR/USD", "interval": "1h", "currency_base": "Euro", **meta}
    return {"meta": own, "values": list(rows), "status": "ok"}


def read(body: Any, asked: Asked, status: int = 200, **headers: str) -> Page:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TWELVE.read_bars(Response(status, headers, data), asked)


def test_a_range_ends_where_both_readings_of_its_end_mean_the_same() -> None:
    minutes = asked_for("AAPL", Timeframe.m30, date(2024, 11, 22), date(2024, 11, 26))
    ranges = [
        (TWELVE.bars(one).params["start_date"], TWELVE.bars(one).params["end_date"])
        for one in (minutes, APPLE, EURO)
    ]
    assert ranges == [
        ("2024-11-22 09:30:00", "2024-11-25 15:30:01"),
        ("2024-11-22", "2024-11-23"),
        ("2024-11-03 22:00:00", "2024-11-04 21:00:01"),
    ]
    asked = [TWELVE.bars(one).params for one in (minutes, APPLE, EURO)]
    assert [one.get("timezone") for one in asked] == [None, None, "UTC"]
    assert [one["adjust"] for one in asked] == ["none", "splits", "none"]
    assert {(one["outputsize"], one["order"]) for one in asked} == {("5000", "asc")}


def test_what_comes_from_beyond_the_range_is_left_out() -> None:
    rows = [row(f"2024-11-{day}", "229.87", volume="35462000") for day in (22, 25)]
    meta = {"currency": "USD", "exchange_timezone": "America/New_York", "interval": "1day"}
    page = read(series(*rows, symbol="AAPL", **meta), APPLE)
    assert page.bars.ts_ms.tolist() == [calendar("XNYS").midnight(date(2024, 11, 22))]


def test_currencies_are_told_by_utc_and_have_no_volume() -> None:
    page = read(series(row("2024-11-03 22:00:00"), row("2024-11-04 21:00:00")), EURO)
    assert page.bars.ts_ms.tolist() == [EURO.span.start_ms, EURO.span.end_ms - HOUR_MS]
    assert page.bars.volume.tolist() == [0.0, 0.0]
    share = asked_for("AAPL", Timeframe.m30, date(2024, 11, 22), date(2024, 11, 23))
    meta = {"currency": "USD", "exchange_timezone": "America/New_York", "interval": "30min"}
    without = read(series(row("2024-11-22 09:30:00"), symbol="AAPL", **meta), share)
    assert without.bars.volume.tolist() != [0.0]
    assert len(without.oddities) == 1


def test_an_answer_as_long_as_they_get_proves_nothing_before_its_first_bar() -> None:
    rows = [row(f"2024-11-04 {n // 60 % 24:02}:{n % 60:02}:00") for n in range(5_000)]
    page = read(series(*rows), EURO)
    assert page.silent_before_ms == EURO.span.start_ms + 2 * HOUR_MS
    assert read(series(*rows[:4_999]), EURO).silent_before_ms is None


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"symbol": "EUR/GBP"}, "bars of 'EUR/GBP' came for EUR/USD"),
        ({"interval": "1day"}, "bars of '1day' came for 1h"),
    ],
)
def test_a_series_of_another_symbol_or_length_is_refused(meta: dict[str, str], said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        read(series(row("2024-11-04 00:00:00"), **meta), EURO)


@pytest.mark.parametrize(
    "meta",
    [
        {"currency": "EUR", "exchange_timezone": "Europe/Berlin"},
        {"currency": "CAD", "exchange_timezone": "America/New_York"},
        {},
    ],
)
def test_a_share_of_an_exchange_elsewhere_is_refused(meta: dict[str, str]) -> None:
    body = series(row("2024-11-22", volume="1"), symbol="AAPL", interval="1day", **meta)
    with pytest.raises(BadAnswer, match="came for AAPL"):
        read(body, APPLE)


@pytest.mark.parametrize(
    "body",
    [
        {"code": 400, "message": "No data is available on the specified dates. Try …",
         "status": "error"},
        json.loads((FOLDER / "error_404_data_not_found.json").read_bytes()),
        series(),
    ],
)  # fmt: skip
def test_nothing_is_an_answer_that_proves_nothing_by_itself(body: dict[str, Any]) -> None:
    for status in {200, body.get("code", 200)}:
        page = read(body, EURO, status)
        assert (len(page.bars), page.unconfirmed, page.next) == (0, True, None)


def test_one_bad_symbol_of_several_is_an_error_in_its_place() -> None:
    body = (FOLDER / "batch_with_error_handmade.json").read_bytes()
    assert read(body, APPLE).bars.close.tolist() == [229.87]
    strange = asked_for("INVALID", Timeframe.d1, date(2024, 11, 22), date(2024, 11, 23))
    with pytest.raises(UnknownSymbol):
        read(body, strange)
    with pytest.raises(UnreadableAnswer):
        read(body, EURO)


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        (MINUTE, {}, 60.0),
        (MINUTE, {"date": "Tue, 12 Nov 2024 11:59:45 GMT"}, 15.0),
        (DAY, {}, 3600.0),
        (DAY, {"date": "Tue, 12 Nov 2024 22:00:00 GMT"}, 7200.0),
        (DAY, {"retry-after": "7"}, 7.0),
    ],
)
def test_who_is_out_of_credits_waits_for_the_next_minute_or_day(
    body: bytes, headers: dict[str, str], wait_s: float
) -> None:
    for status in (200, 429):
        with pytest.raises(RateLimited) as raised:
            read(body, EURO, status, **headers)
        assert raised.value.retry_after_s == wait_s


def test_a_bar_that_is_no_number_costs_itself_alone_and_a_stamp_that_is_none_the_answer() -> None:
    page = read(series(row("2024-11-04 01:00:00", "n/a"), row("2024-11-04 02:00:00")), EURO)
    assert (len(page.bars), len(page.oddities)) == (2, 1)
    with pytest.raises(UnreadableAnswer):
        read(series(row("yesterday")), EURO)


def test_hours_of_shares_and_days_of_pairs_are_made_here() -> None:
    can = TWELVE.can
    assert can.base_of("stock", Timeframe.h1) is Timeframe.m30
    for kind in ("crypto", "fx"):
        for timeframe in (Timeframe.h4, Timeframe.d1, Timeframe.w1, Timeframe.mn1):
            assert can.base_of(kind, timeframe) is Timeframe.h1
    with pytest.raises(NotEntitled):
        TWELVE.bars(asked_for("X:FOOBAR", Timeframe.h1, date(2024, 11, 4), date(2024, 11, 5)))
