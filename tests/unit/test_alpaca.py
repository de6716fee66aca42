"""What Alpaca's answers say beside what every provider shows (tests/providers)."""

import base64
import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pytest

from backfill.core.asked import Asked
from backfill.core.bars import NO_COUNT
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.instrument import Pair
from backfill.core.raw import spelled
from backfill.core.series import Alias, Symbol, unregistered
from backfill.core.timeframe import DAY_MS, HOUR_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    ProviderError,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.alpaca import Alpaca
from backfill.settings import AccountSettings
from backfill.settings.account import account_of, variables_of
from tests.calendars import calendar
from tests.providers.table import FIXTURES

ALPACA: Final = Alpaca()
NYSE: Final = calendar("XNYS")
ALWAYS: Final = calendar("24/7")
FIRST_MS: Final = NYSE.midnight(date(2021, 10, 13))
FOREVER_MS: Final = 2**50
GOOD: Final = {"t": "2021-10-13T04:00:00Z", "o": 2.0, "h": 4.0, "l": 1.0, "c": 3.0, "v": 10}


def asked(symbol: str | Symbol = "AAPL", days: int = 3, **changes: Any) -> Asked:
    one = unregistered(symbol) if isinstance(symbol, str) else symbol
    where, first_ms = (
        (ALWAYS, ALWAYS.midnight(date(2021, 11, 11)))
        if "/" in one.ticker
        else (
            NYSE,
            FIRST_MS,
        )
    )
    span = Span(first_ms, first_ms + days * DAY_MS)
    about: dict[str, Any] = {"timeframe": Timeframe.d1, "adjustment": "raw"}
    return Asked(one, where, span=span, **about | changes)


def recorded(file: str) -> Response:
    return Response(200, {}, (FIXTURES / "alpaca" / file).read_bytes())


def answered(*rows: dict[str, Any], token: str | None = None, symbol: str = "AAPL") -> Page:
    body = json.dumps({"bars": {symbol: rows} if rows else {}, "next_page_token": token})
    return ALPACA.read_bars(Response(200, {}, body.encode()), asked())


def test_stocks_are_asked_for_newest_first_a_page_of_ten_thousand_of_all_exchanges() -> None:
    request = ALPACA.bars(asked("BRK-B", timeframe=Timeframe.m5, adjustment="split"))
    assert (request.target, request.cost, request.kind) == ("/v2/stocks/bars", 1, Kind.bars)
    assert request.params == {
        "symbols": "BRK.B",
        "timeframe": "5Min",
        "start": "2021-10-13T04:00:00.000Z",
        "end": "2021-10-16T03:59:59.999Z",
        "limit": "10000",
        "sort": "desc",
        "adjustment": "split",
        "feed": "sip",
    }
    assert not request.at_other


def test_coins_have_no_feed_and_no_adjustment() -> None:
    request = ALPACA.bars(asked("X:BTCUSD", timeframe=Timeframe.h1))
    assert request.target == "/v1beta3/crypto/us/bars"
    assert request.params["symbols"] == "BTC/USD"
    assert request.params.keys() == {"symbols", "timeframe", "start", "end", "limit", "sort"}


def test_money_of_states_is_refused_before_a_call() -> None:
    for pair in (Pair("EUR", "USD"), Pair("FOOBAR", "")):
        with pytest.raises(NotEntitled, match=str(pair)):
            ALPACA.spelling(pair)


def test_a_former_name_is_followed_from_the_last_day_on_which_it_was_the_companys() -> None:
    was = Alias("FB", date(2012, 5, 18), date(2022, 6, 9))
    meta = replace(unregistered("META"), aliases=(was,))
    assert "asof" not in ALPACA.bars(asked(meta)).params
    before = meta.on(date(2021, 10, 13))
    assert ALPACA.bars(asked(before)).params["symbols"] == "FB"
    assert ALPACA.bars(asked(before)).params["asof"] == "2022-06-08"
    gone = replace(unregistered("DEADCO"), delisted_on=date(2021, 12, 1))
    assert ALPACA.bars(asked(gone)).params["asof"] == "2021-12-01"


def test_a_page_with_a_token_goes_on_with_all_else_unchanged_and_the_next_one_too() -> None:
    first = ALPACA.read_bars(recorded("stocks_bars_page1.json"), asked("META"))
    request = ALPACA.bars(asked("META"))
    token = "TUVUQXxEfDIwMjItMDYtMDlUMDQ6MDA6MDAuMDAwMDAwMDAwWg=="
    assert first.next == replace(request, params={**request.params, "page_token": token})
    second = ALPACA.read_bars(recorded("stocks_bars_page2.json"), asked("META"))
    assert second.next is not None
    assert second.next.params["page_token"] != token
    stamps = [*first.bars.ts_ms.tolist(), *second.bars.ts_ms.tolist()]
    days = [date(2022, 6, 8), date(2022, 6, 9), date(2022, 6, 10), date(2022, 6, 13)]
    assert stamps == [NYSE.midnight(day) for day in days]


def test_a_page_that_comes_newest_first_goes_on_although_it_is_short() -> None:
    page = ALPACA.read_bars(recorded("stocks_bars_desc_page.json"), asked("TSLA"))
    assert page.bars.ts_ms.tolist() == [NYSE.midnight(date(2023, 9, day)) for day in (27, 26, 25)]
    assert page.next is not None
    assert page.bars.trade_count.tolist() == [1_393_690, 1_118_004, 1_196_613]


@pytest.mark.parametrize("body", ['{"bars":null,"next_page_token":null}', None])
def test_no_bars_are_an_empty_last_page(body: str | None) -> None:
    response = Response(200, {}, body.encode()) if body else recorded("stocks_bars_empty.json")
    page = ALPACA.read_bars(response, asked())
    assert (len(page.bars), page.next) == (0, None)


def test_bars_of_another_symbol_are_refused_also_beside_those_asked_for() -> None:
    with pytest.raises(BadAnswer, match="NIO"):
        ALPACA.read_bars(recorded("stocks_bars_multi_d1.json"), asked("AAPL"))
    with pytest.raises(BadAnswer, match="AAPL"):
        answered(GOOD, symbol="aapl")


def test_a_session_of_many_stocks_is_one_call_as_of_its_day() -> None:
    request = ALPACA.grouped(date(2021, 10, 13), "raw", ["AAPL", "NIO"])
    assert request.params["symbols"] == "AAPL,NIO"
    assert request.params["start"] < "2021-10-13T04:00:00Z" < request.params["end"]
    assert request.params["end"] < "2021-10-14T04:00:00Z"
    assert request.params["asof"] == "2021-10-13"
    day = ALPACA.read_grouped(recorded("stocks_bars_multi_d1.json"), "raw")
    assert list(day.tickers) == ["AAPL"] * 3 + ["NIO"] * 3
    assert day.bars.close.tolist() == [140.91, 143.76, 144.84, 36.24, 36.28, 37.71]


def test_a_token_of_another_symbol_is_refused_and_one_that_tells_nothing_is_not() -> None:
    def token(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    with pytest.raises(BadAnswer, match="AAPL2"):
        answered(GOOD, token=token("AAPL2|D|2021-10-13T04:00:00.000000000Z"))
    for good in (token("AAPL|D|1"), "opaque!", token("opaque")):
        assert answered(GOOD, token=good).next is not None
    assert answered(GOOD, token="").next is None


def test_three_bars_of_one_stamp_are_quarantined_as_a_conflict() -> None:
    body = json.loads((FIXTURES / "alpaca/crypto_bars_h2_legacy_same_ts.json").read_text())
    body["bars"] = {"BTC/USD": body["bars"]["BTC/USD"]}
    question = asked("BTC/USD", days=30, timeframe=Timeframe.h1)
    page = ALPACA.read_bars(Response(200, {}, json.dumps(body).encode()), question)
    checked = check_page(ALWAYS, Timeframe.h1, page.bars, question.span, FOREVER_MS)
    assert (len(checked.bars), checked.reasons) == (0, (Reason.conflict,) * 3)


def test_a_crypto_day_that_begins_at_another_midnight_is_quarantined_as_it_came() -> None:
    body = {"bars": {"BTC/USD": [GOOD | {"t": "2021-11-12T06:00:00Z"}]}, "next_page_token": None}
    question = asked("BTC/USD")
    page = ALPACA.read_bars(Response(200, {}, json.dumps(body).encode()), question)
    checked = check_page(ALWAYS, Timeframe.d1, page.bars, question.span, FOREVER_MS)
    assert (len(checked.bars), checked.reasons) == (0, (Reason.off_grid,))
    assert checked.rejected.ts_ms.tolist() == [ALWAYS.midnight(date(2021, 11, 12)) + 6 * HOUR_MS]


def test_a_bar_without_vwap_and_count_has_none_and_stays_beside_one_that_is_spoiled() -> None:
    page = answered(GOOD)
    assert np.isnan(page.bars.vwap[0])
    assert page.bars.trade_count.tolist() == [NO_COUNT]
    spoiled = GOOD | {"t": "2021-10-14T04:00:00Z", "c": "n/a", "n": 7, "vw": 2.5}
    page = answered(GOOD | {"vw": None}, spoiled)
    checked = check_page(NYSE, Timeframe.d1, page.bars, asked().span, FOREVER_MS)
    assert (len(checked.bars), checked.reasons) == (1, (Reason.not_finite,))
    [told] = spelled(checked.rejected, page.oddities)
    assert json.loads(told)["close"] == "n/a"


@pytest.mark.parametrize("count", [1.5, -1, 1e300])
def test_a_count_that_is_none_costs_its_own_bar(count: float) -> None:
    page = answered(GOOD | {"n": count}, GOOD | {"t": "2021-10-14T04:00:00Z", "n": 7})
    checked = check_page(NYSE, Timeframe.d1, page.bars, asked().span, FOREVER_MS)
    assert (checked.bars.trade_count.tolist(), checked.reasons) == ([7], (Reason.volume,))


@pytest.mark.parametrize("stamp", ["2021-10-13T04:00:00.000000001Z", "2021-10-13 04:00", "", "Z"])
def test_a_stamp_finer_than_a_millisecond_is_never_put_on_a_slot(stamp: str) -> None:
    with pytest.raises(UnreadableAnswer, match="time stamp"):
        answered(GOOD | {"t": stamp})


def test_a_stamp_with_a_fraction_is_read_to_the_millisecond() -> None:
    stamps = ("2021-10-13T04:00:00.05Z", "2021-10-13T04:00:00.000000000Z")
    page = answered(*(GOOD | {"t": stamp} for stamp in stamps))
    assert (page.bars.ts_ms - FIRST_MS).tolist() == [50, 0]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"bars":[]}', b'{"bars":{"AAPL":[{}]}}'])
def test_a_body_of_another_shape_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        ALPACA.read_bars(Response(200, {}, body), asked())


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7", "x-ratelimit-reset": "1634097660"}, 7.0),
        ({"x-ratelimit-reset": "1634097660"}, 60.0),
        ({"x-ratelimit-reset": "1"}, 0.0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
)
def test_who_is_too_fast_waits_till_the_quota_is_whole_again(
    headers: dict[str, str], wait_s: float | None
) -> None:
    dated = {"date": "Wed, 13 Oct 2021 04:00:00 GMT"} | headers
    with pytest.raises(RateLimited) as raised:
        ALPACA.read_bars(Response(429, dated, b""), asked())
    assert raised.value.retry_after_s == wait_s


MANY: Final = ("AAA", "BBB", "CCC", "DDD")


def many_read(
    bars: dict[str, list[dict[str, Any]]], token: str | None, spans: tuple[int, ...] = (3, 3, 3, 3)
) -> dict[str, list[int] | None]:
    """The days that an answer for four stocks brought to each; None where nothing is proven."""
    every = [asked(name, days) for name, days in zip(MANY, spans, strict=True)]
    body = json.dumps({"bars": bars, "next_page_token": token}).encode()
    pages = ALPACA.read_many(Response(200, {}, body), every)
    assert all(page is None or page.next is None for page in pages)
    return {
        name: None if page is None else ((page.bars.ts_ms - FIRST_MS) // DAY_MS).tolist()
        for name, page in zip(MANY, pages, strict=True)
    }


def on_day(number: int) -> dict[str, Any]:
    return GOOD | {"t": f"2021-10-{13 + number}T04:00:00Z"}


def test_many_stocks_are_asked_for_at_once_over_all_that_any_of_them_misses() -> None:
    request = ALPACA.many([asked("AAA", 1), asked("BRK-B", 3)])
    assert request.params["symbols"] == "AAA,BRK.B"
    assert request.params["start"] == "2021-10-13T04:00:00.000Z"
    assert request.params["end"] == "2021-10-16T03:59:59.999Z"
    alone = ALPACA.bars(asked("AAA", 3)).params
    assert request.params == {**alone, "symbols": "AAA,BRK.B"}


def test_in_the_only_page_of_many_stocks_one_that_is_not_there_had_no_bar() -> None:
    bars = {"AAA": [on_day(2), on_day(0)], "CCC": [on_day(1)]}
    assert many_read(bars, None) == {"AAA": [2, 0], "BBB": [], "CCC": [1], "DDD": []}


@pytest.mark.parametrize(
    ("goes_on", "whole"),
    [
        ("CCC|M|1634184000000", {"AAA": [0]}),  # within a symbol
        ("DDD|M|1634184000000", {"AAA": [0], "CCC": [1]}),
        ("AAA|M|1634184000000", {}),  # behind what came already: in no order that proves a thing
        ("of another form", {}),
    ],
)
def test_of_a_page_that_another_follows_those_are_whole_that_came_before_it_goes_on(
    goes_on: str, whole: dict[str, list[int]]
) -> None:
    token = base64.b64encode(goes_on.encode()).decode()
    bars = {"AAA": [on_day(0)], "CCC": [on_day(1)]}
    assert many_read(bars, token) == dict.fromkeys(MANY) | whole


def test_each_of_many_stocks_gets_what_it_was_asked_for_and_what_nobody_was() -> None:
    bars = {"AAA": [on_day(0), on_day(2), on_day(9)], "BBB": [on_day(2)]}
    found = many_read(bars, None, spans=(1, 3, 3, 3))
    assert (found["AAA"], found["BBB"]) == ([0, 9], [2])
    with pytest.raises(BadAnswer, match="EEE"):
        many_read({"EEE": [on_day(0)]}, None)


def test_the_reference_is_at_the_trading_host_and_tells_whether_a_symbol_exists() -> None:
    coin = unregistered("BTC/USD")
    request = ALPACA.reference(coin)
    assert (request.target, request.kind, request.at_other) == (
        "/v2/assets/BTC%2FUSD",
        Kind.lookup,
        True,
    )
    body = b'{"id":"1","class":"crypto","symbol":"BTC/USD","status":"active"}'
    read = ALPACA.read_reference(Response(200, {}, body), coin)
    assert read == Reference("BTC/USD", None, None, figi=None)
    with pytest.raises(BadAnswer, match="BTC/USD"):
        ALPACA.read_reference(Response(200, {}, body), unregistered("ETH/USD"))


def test_only_the_words_for_a_missing_asset_mean_that_there_is_none() -> None:
    stock = unregistered("NOSUCH")
    missing = b'{"code":40410000,"message":"asset not found for NOSUCH"}'
    with pytest.raises(UnknownSymbol):
        ALPACA.read_reference(Response(404, {}, missing), stock)
    with pytest.raises(ProviderError):  # of a base URL with a path too much
        ALPACA.read_reference(Response(404, {}, b'{"message":"endpoint not found"}'), stock)
    with pytest.raises(Unauthorised, match="APCA_API_BASE_URL=https://paper"):
        ALPACA.read_reference(Response(403, {}, b'{"message":"forbidden."}'), stock)


def test_the_free_plan_asks_for_stocks_only_once_they_are_fifteen_minutes_old() -> None:
    free = ALPACA.terms["free"]
    delayed = timedelta(milliseconds=free.of("stock").settling.intraday_ms)
    assert (
        delayed
        >= timedelta(minutes=15)
        > timedelta(milliseconds=free.of("crypto").settling.intraday_ms)
    )


@pytest.mark.parametrize(
    ("calendar_name", "bars", "expected", "most"),
    [("XNYS", 9_999, 1, 1), ("XNYS", 10_000, 2, 2), ("24/7", 100, 1, 1), ("24/7", 840, 3, 8)],
)
def test_a_page_of_coins_is_priced_by_what_it_surely_holds(
    calendar_name: str, bars: int, expected: int, most: int
) -> None:
    pages = ALPACA.can.pages.pages(calendar(calendar_name), Timeframe.d1)
    assert pages.at_most(bars) == most
    if calendar_name == "24/7":
        start_ms = ALWAYS.midnight(date(2021, 1, 1))
        assert pages.expected(Span(start_ms, start_ms + bars * DAY_MS)) == expected


def test_the_trading_host_has_a_variable_of_its_own() -> None:
    assert variables_of(ALPACA)["other_url"].names == ("APCA_API_BASE_URL",)
    said, default = AccountSettings(), AccountSettings(url="http://127.0.0.1:1")
    assert account_of(ALPACA, said, default, None).other_url == "https://api.alpaca.markets"
