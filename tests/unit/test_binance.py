"""What Binance's answers say beside what every provider shows (tests/providers)."""

import json
from datetime import date
from typing import Any, Final

import numpy as np
import pytest

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.series import unregistered
from backfill.core.timeframe import DAY_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Response
from backfill.errors import BadAnswer, GeoBlocked, RateLimited, UnknownSymbol, UnreadableAnswer
from backfill.providers.binance import Binance
from tests.calendars import calendar

BINANCE: Final = Binance()
ALWAYS: Final = calendar("24/7")
PAIR: Final = unregistered("BTC/USDT")
FIRST_MS: Final = ALWAYS.midnight(date(2024, 11, 4))  # a Monday


def asked(timeframe: Timeframe = Timeframe.m1, length_ms: int = 10 * MINUTE_MS) -> Asked:
    return Asked(PAIR, ALWAYS, timeframe, Span(FIRST_MS, FIRST_MS + length_ms), "raw")


def kline(nth: int = 0, length_ms: int = MINUTE_MS, **values: Any) -> list[Any]:
    start = FIRST_MS + nth * length_ms
    row = {
        "start": start,
        "open": "2.0",
        "high": "4.0",
        "low": "1.0",
        "close": "3.0",
        "volume": "10.0",
        "end": start + length_ms - 1,
        "quote": "25.0",
        "trades": 7,
        "taker": "5.0",
        "taker_quote": "12.0",
        "unused": "0",
    }
    return list((row | values).values())


def read(*rows: list[Any], timeframe: Timeframe = Timeframe.m1) -> Page:
    return BINANCE.read_bars(Response(200, {}, json.dumps(rows).encode()), asked(timeframe))


def test_a_request_bounds_the_starts_of_bars_at_both_ends_and_costs_two() -> None:
    request = BINANCE.bars(asked())
    assert (request.target, request.cost, request.kind) == ("/api/v3/klines", 2, Kind.bars)
    assert request.params == {
        "symbol": "BTCUSDT",
        "interval": "1m",
        "startTime": str(FIRST_MS),
        "endTime": str(FIRST_MS + 10 * MINUTE_MS - 1),
        "limit": "1000",
    }
    months = BINANCE.bars(asked(Timeframe.mn1, 31 * DAY_MS)).params
    assert months["interval"] == "1M"  # 1m are minutes


def test_the_vwap_is_what_was_paid_for_a_coin_and_none_where_none_was_bought() -> None:
    page = read(kline(), kline(1, volume="0.00000000", quote="0.00000000", trades=0))
    assert page.bars.vwap[0] == 2.5
    assert np.isnan(page.bars.vwap[1])
    assert page.bars.trade_count.tolist() == [7, 0]


def test_weeks_and_days_and_months_are_on_our_grid() -> None:
    for timeframe, first, length_ms in (
        (Timeframe.d1, date(2024, 11, 5), DAY_MS),
        (Timeframe.w1, date(2024, 11, 4), 7 * DAY_MS),
        (Timeframe.mn1, date(2024, 11, 1), 30 * DAY_MS),
    ):
        start = ALWAYS.midnight(first)
        row = kline(start=start, end=start + length_ms - 1)
        page = read(row, timeframe=timeframe)
        span = Span(start, start + length_ms)
        checked = check_page(ALWAYS, timeframe, page.bars, span, span.end_ms)
        assert (checked.reasons, checked.bars.ts_ms.tolist()) == ((), [start])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"close": None}, Reason.not_finite),
        ({"close": "nan"}, Reason.not_finite),
        ({"high": "inf"}, Reason.not_finite),
        ({"open": "two"}, Reason.not_finite),
        ({"quote": "nan"}, Reason.not_finite),
        ({"quote": None}, Reason.not_finite),
        ({"low": "-1.0"}, Reason.price),
        ({"volume": "-1.0"}, Reason.volume),
        ({"trades": -1}, Reason.volume),
        ({"trades": "many"}, Reason.volume),
        ({"high": "2.5"}, Reason.high_low),
    ],
    ids=str,
)
def test_one_bad_kline_costs_no_neighbour(values: dict[str, Any], reason: Reason) -> None:
    page = read(kline(0), kline(1, **values), kline(2))
    span = asked().span
    checked = check_page(ALWAYS, Timeframe.m1, page.bars, span, span.end_ms)
    assert checked.bars.ts_ms.tolist() == [FIRST_MS, FIRST_MS + 2 * MINUTE_MS]
    assert checked.reasons == (reason,)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[[]]", b"[[1]]", b'[[null,"1"]]', b"NaN", b'{"code":0,"msg":""}', b"[1]"],
)
def test_what_is_no_list_of_klines_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        BINANCE.read_bars(Response(200, {}, body), asked())


def test_an_empty_page_is_one() -> None:
    page = read()
    assert (len(page.bars), page.next) == (0, None)
    assert page.bars.equals(Bars.empty())


def test_longer_bars_are_refused_and_a_shorter_one_at_a_halt_is_not() -> None:
    with pytest.raises(BadAnswer, match="longer than m1"):
        read(kline(0, 5 * MINUTE_MS), kline(1, 5 * MINUTE_MS))
    with pytest.raises(BadAnswer, match="longer than d1"):
        read(kline(0, 7 * DAY_MS), timeframe=Timeframe.d1)
    halted = kline(1, end=FIRST_MS + MINUTE_MS + 20_000)
    assert len(read(kline(0), halted).bars) == 2


def test_a_pair_is_listed_on_its_first_day() -> None:
    request = BINANCE.reference(PAIR)
    assert (request.kind, request.cost) == (Kind.lookup, 2)
    assert (request.params["startTime"], request.params["limit"]) == ("0", "1")

    def looked_up(*rows: list[Any]) -> Reference:
        return BINANCE.read_reference(Response(200, {}, json.dumps(rows).encode()), PAIR)

    listed = Reference("BTCUSDT", date(2024, 11, 4), None, None)
    assert looked_up(kline(0, DAY_MS)) == listed
    assert looked_up().listed_on is None
    for wrong in ([kline(0), kline(1)], [kline(start=FIRST_MS * 1000)], [kline(start=-(2**62))]):
        with pytest.raises(BadAnswer):
            looked_up(*wrong)
    unknown = Response(400, {}, b'{"code":-1121,"msg":"Invalid symbol."}')
    with pytest.raises(UnknownSymbol):
        BINANCE.read_reference(unknown, PAIR)


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (429, {}, None),
        (418, {"retry-after": "259200"}, 259_200.0),
        (418, {}, 120.0),
        (403, {}, 120.0),
    ],
)
def test_who_is_banned_waits_for_as_long_as_it_is_told_or_two_minutes(
    status: int, headers: dict[str, str], wait_s: float | None
) -> None:
    with pytest.raises(RateLimited) as limited:
        BINANCE.read_bars(Response(status, headers, b""), asked())
    assert limited.value.retry_after_s == wait_s


def test_a_refused_place_is_told_by_its_words_too() -> None:
    page = b"<html>The distribution is configured to block access from your country.</html>"
    with pytest.raises(GeoBlocked, match="location"):
        BINANCE.read_bars(Response(403, {}, page), asked())
