"""What Kraken is asked, and what its answers mean: recorded bodies, and refusals inside a 200."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.coverage import Span
from backfill.core.series import Symbol
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import (
    BackfillError,
    BadAnswer,
    GeoBlocked,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.kraken import Kraken
from tests.calendars import calendar

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "kraken"
KRAKEN: Final = Kraken()
BITCOIN: Final = Symbol(1, "BTC/USD", "crypto", "24/7")
TETHERED: Final = Symbol(2, "BTC/USDT", "crypto", "24/7")

SINCE_MS: Final = 1788415200000
"""The first of the four recorded minutes; the last of them forms."""


def asked(start_ms: int, minutes: int, symbol: Symbol = BITCOIN) -> Asked:
    span = Span(start_ms, start_ms + minutes * MINUTE_MS)
    return Asked(symbol, calendar("24/7"), Timeframe.m1, span, "raw")


THREE: Final = asked(SINCE_MS, 3)


def read(body: bytes | str, wanted: Asked = THREE, status: int = 200) -> Page:
    data = body if isinstance(body, bytes) else body.encode()
    return KRAKEN.read_bars(Response(status, {}, data), wanted)


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def answer(rows: list[list[Any]], name: str = "XXBTZUSD") -> str:
    return json.dumps({"error": [], "result": {name: rows, "last": rows[-1][0] if rows else 0}})


def row(ts_ms: int, volume: str = "2.5") -> list[Any]:
    return [ts_ms // 1000, "1.0", "2.0", "1.0", "1.5", "1.2", volume, 3]


def test_every_recorded_file_is_read_here() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {
        "ohlc_m1_since.json", "ohlc_m1_head_tail_excerpt.json", "error_unknown_pair.json",
        "error_invalid_arguments.json", "error_rate_limited.json",
    }  # fmt: skip


def test_volume_is_the_column_after_vwap_and_the_forming_bar_is_none() -> None:
    page = read(recorded("ohlc_m1_since.json"), asked(SINCE_MS, 4))
    assert page.bars.equals(
        Bars.of(
            [
                (SINCE_MS, 77776.4, 77800.0, 77717.8, 77736.8, 4.07649664, 77777.6, 167),
                (
                    SINCE_MS + MINUTE_MS,
                    77736.7, 77741.5, 77714.0, 77714.7, 1.69139349, 77727.6, 65,
                ),
                (
                    SINCE_MS + 2 * MINUTE_MS,
                    77714.7, 77730.3, 77682.0, 77707.9, 2.64594439, 77694.0, 90,
                ),
            ]
        )
    )  # fmt: skip
    assert (page.next, page.silent_from_ms) == (None, SINCE_MS + 3 * MINUTE_MS)
    assert page.silent_before_ms is None
    assert page.oddities == {}


def test_rows_without_trades_are_read_and_have_no_volume() -> None:
    first_ms, last_ms = 1762777020000, 1762820220000
    minutes = (last_ms - first_ms) // MINUTE_MS
    page = read(recorded("ohlc_m1_head_tail_excerpt.json"), asked(first_ms, minutes, TETHERED))
    assert len(page.bars) == 79
    fillers = page.bars.take(page.bars.volume == 0)
    assert len(fillers)
    assert np.array_equal(fillers.trade_count, np.zeros(len(fillers)))
    assert page.silent_from_ms == last_ms


def test_an_answer_of_as_many_rows_as_there_may_be_says_nothing_of_what_is_older() -> None:
    rows = [row(SINCE_MS + at * MINUTE_MS) for at in range(720)]
    page = read(answer(rows), asked(SINCE_MS - 10 * MINUTE_MS, 100))
    assert page.silent_before_ms == SINCE_MS
    assert len(page.bars) == 90
    young = read(answer(rows[-600:]), asked(SINCE_MS, 100))
    assert young.silent_before_ms is None


def test_a_request_asks_for_one_bar_more_than_the_range_since_it_may_be_left_out() -> None:
    request = KRAKEN.bars(THREE)
    assert request.target == "/0/public/OHLC"
    assert dict(request.params) == {
        "pair": "XBTUSD", "interval": "1", "since": str(SINCE_MS // 1000 - 60),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("timeframe", "interval"),
    [("m1", 1), ("m5", 5), ("m15", 15), ("m30", 30), ("h1", 60), ("h4", 240), ("d1", 1440)],
)
def test_timeframes_up_to_a_day_are_asked_for_as_they_are(timeframe: str, interval: int) -> None:
    one = Timeframe(timeframe)
    start = round(datetime(2026, 9, 1, tzinfo=UTC).timestamp() * 1000)
    wanted = Asked(BITCOIN, calendar("24/7"), one, Span(start, start + 24 * HOUR_MS), "raw")
    assert KRAKEN.bars(wanted).params["interval"] == str(interval)
    assert KRAKEN.can.base_of("crypto", one) is one


def test_weeks_and_months_are_rolled_up_from_days() -> None:
    for one in (Timeframe.w1, Timeframe.mn1):
        assert KRAKEN.can.base_of("crypto", one) is Timeframe.d1
    assert KRAKEN.can.pages.newest_slots == 720
    assert not KRAKEN.can.derives_for_less
    assert str(KRAKEN.terms["free"].quota) == "1/1s"


@pytest.mark.parametrize(
    ("name", "symbol", "is_it"),
    [
        ("XXBTZUSD", "BTC/USD", True),
        ("XBTUSD", "BTC/USD", True),
        ("XBTUSDT", "BTC/USD", False),
        ("XBTUSDT", "BTC/USDT", True),
        ("XETHZUSD", "BTC/USD", False),
        ("XETHXXBT", "ETH/BTC", True),
        ("XDGUSD", "DOGE/USD", True),
        ("SOLUSD", "SOL/USD", True),
    ],
)
def test_bars_of_another_pair_are_refused_whatever_name_it_gives_them(
    name: str, symbol: str, *, is_it: bool
) -> None:
    wanted = asked(SINCE_MS, 3, Symbol(1, symbol, "crypto", "24/7"))
    body = answer([row(SINCE_MS), row(SINCE_MS + MINUTE_MS)], name)
    if is_it:
        assert len(read(body, wanted).bars) == 1
    else:
        with pytest.raises(BadAnswer, match=name):
            read(body, wanted)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, recorded("error_unknown_pair.json"), UnknownSymbol),
        (200, recorded("error_invalid_arguments.json"), ProviderError),
        (200, recorded("error_rate_limited.json"), RateLimited),
        (429, recorded("error_rate_limited.json"), RateLimited),
        (520, recorded("error_unknown_pair.json"), UnknownSymbol),
        (200, '{"error":["EAPI:Rate limit exceeded"]}', RateLimited),
        (200, '{"error":["EService:Unavailable"]}', ProviderUnavailable),
        (200, '{"error":["EService:Busy"]}', ProviderUnavailable),
        (200, '{"error":["EGeneral:Permission denied"]}', NotEntitled),
        (502, "<html>", ProviderUnavailable),
        (403, "<html>", ProviderError),
        (451, "", GeoBlocked),
        (200, "<html>", UnreadableAnswer),
        (200, "[]", UnreadableAnswer),
        (200, '{"error":[],"result":{"XXBTZUSD":[[1788415200,"1"', UnreadableAnswer),
        (200, '{"error":[],"result":{"XXBTZUSD":[[1788415200,"1"]],"last":1}}', UnreadableAnswer),
        (200, '{"error":[],"result":{"XXBTZUSD":{},"last":1}}', UnreadableAnswer),
        (200, '{"error":[],"result":{"XXBTZUSD":[],"last":1}}', BadAnswer),
        (200, '{"error":[],"result":{"last":1}}', BadAnswer),
        (200, '{"error":[]}', BadAnswer),
    ],
)
def test_a_refusal_is_read_before_the_status(
    status: int, body: bytes | str, outcome: type[BackfillError]
) -> None:
    with pytest.raises(outcome) as caught:
        read(body, status=status)
    assert type(caught.value) is outcome


def test_who_asked_too_often_rests_for_half_a_minute() -> None:
    with pytest.raises(RateLimited) as caught:
        read(recorded("error_rate_limited.json"))
    assert caught.value.retry_after_s == 30


def test_a_warning_is_no_refusal() -> None:
    body = json.loads(answer([row(SINCE_MS), row(SINCE_MS + MINUTE_MS)]))
    body["error"] = ["WGeneral:Deprecated"]
    assert len(read(json.dumps(body)).bars) == 1


def test_a_price_that_is_no_number_costs_its_own_bar_and_is_kept_as_it_came() -> None:
    bad = row(SINCE_MS)
    bad[2], bad[5], bad[7] = "1_0", "-", 1.5
    page = read(answer([bad, row(SINCE_MS + MINUTE_MS), row(SINCE_MS + 2 * MINUTE_MS)]))
    assert len(page.bars) == 2
    [came] = page.oddities.values()
    assert (came["high"], came["vwap"], came["trade_count"]) == ("1_0", "-", 1.5)


def test_a_word_that_two_pairs_could_be_is_the_one_in_dollars_and_the_other_is_refused() -> None:
    in_dollars, in_coins = (
        Symbol(3, "DOT/USD", "crypto", "24/7"),
        Symbol(4, "DO/TUSD", "crypto", "24/7"),
    )
    assert KRAKEN.bars(asked(SINCE_MS, 3, in_dollars)).params["pair"] == "DOTUSD"
    with pytest.raises(NotEntitled, match="DOTUSD is DOT/USD"):
        KRAKEN.bars(asked(SINCE_MS, 3, in_coins))
