"""What Coinbase is asked, and what its answers mean: recorded bodies, refusals, other ranges."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.coverage import Span
from backfill.core.series import Symbol
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
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
from backfill.providers.coinbase import Coinbase
from tests.calendars import calendar

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "coinbase"
COINBASE: Final = Coinbase()
BITCOIN: Final = Symbol(1, "BTC/USD", "crypto", "24/7")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def asked(timeframe: Timeframe, start: str, end: str) -> Asked:
    return Asked(BITCOIN, calendar("24/7"), timeframe, Span(ms(start), ms(end)), "raw")


TEN_MINUTES: Final = asked(Timeframe.m1, "2018-02-01 00:00", "2018-02-01 00:10")


def read(body: bytes | str, wanted: Asked = TEN_MINUTES, status: int = 200, **headers: str) -> Page:
    data = body if isinstance(body, bytes) else body.encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return COINBASE.read_bars(Response(status, named, data), wanted)


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def test_every_recorded_file_is_read_here() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {
        "candles_m1_desc.json", "candles_h1_one.json", "empty.json", "error_400_too_many.json",
    }  # fmt: skip


def test_low_and_high_come_before_open_and_close_in_a_row() -> None:
    page = read(recorded("candles_m1_desc.json"))
    assert page.next is None
    assert not page.unconfirmed
    assert len(page.bars) == 10
    newest = page.bars.take(slice(1))
    assert newest.equals(
        Bars.of([(1517443740000, 10106.01, 10120.21, 10106, 10120.21, 2.85107455, None, None)])
    )
    assert sorted(page.bars.ts_ms.tolist()) == list(
        range(TEN_MINUTES.span.start_ms, TEN_MINUTES.span.end_ms, MINUTE_MS)
    )
    assert 4.727521520000001 in page.bars.volume.tolist()
    assert page.oddities == {}


def test_an_hour_is_read_as_it_came() -> None:
    page = read(
        recorded("candles_h1_one.json"),
        asked(Timeframe.h1, "2024-03-13 00:00", "2024-03-13 12:00"),
    )
    assert page.bars.equals(
        Bars.of([(1710327600000, 73243.33, 73402.47, 73241.5, 73370.65, 1.56794406, None, None)])
    )


def test_an_answer_without_any_candle_is_unconfirmed() -> None:
    page = read(recorded("empty.json"))
    assert (len(page.bars), page.unconfirmed, page.next) == (0, True, None)


@pytest.mark.parametrize(
    ("timeframe", "granularity"),
    [("m1", 60), ("m5", 300), ("m15", 900), ("h1", 3600), ("d1", 86400)],
)
def test_a_request_asks_for_300_candles_up_to_the_last_one_bounds_included(
    timeframe: str, granularity: int
) -> None:
    one = Timeframe(timeframe)
    wanted = asked(one, "2024-03-01 00:00", "2024-03-02 00:00")
    request = COINBASE.bars(wanted)
    assert request.target == "/products/BTC-USD/candles"
    first, last = (
        round(datetime.fromisoformat(request.params[bound]).timestamp())
        for bound in ("start", "end")
    )
    assert request.params["granularity"] == str(granularity)
    assert last * 1000 == wanted.span.end_ms - granularity * 1000
    assert (last - first) // granularity + 1 == 300


def test_m30_and_h4_and_all_above_a_day_are_rolled_up() -> None:
    can = COINBASE.can
    assert [str(can.base_of("crypto", one)) for one in Timeframe] == [
        "m1", "m5", "m15", "m15", "h1", "h1", "d1", "d1", "d1",
    ]  # fmt: skip
    with pytest.raises(NotEntitled, match="stock"):
        can.base_of("stock", Timeframe.d1)


def test_what_precedes_the_range_is_left_out_and_shows_that_the_market_is_there() -> None:
    later = asked(Timeframe.m1, "2018-02-01 00:08", "2018-02-01 00:20")
    assert read(recorded("candles_m1_desc.json"), later).bars.ts_ms.tolist() == [
        1517443740000, 1517443680000,
    ]  # fmt: skip
    silent = read(
        recorded("candles_m1_desc.json"),
        asked(Timeframe.m1, "2018-02-01 00:15", "2018-02-01 00:20"),
    )
    assert (len(silent.bars), silent.unconfirmed) == (0, False)


@pytest.mark.parametrize(
    "other",
    [
        asked(Timeframe.m1, "2018-01-31 00:00", "2018-01-31 01:00"),
        asked(Timeframe.m1, "2018-02-05 00:00", "2018-02-05 01:00"),
        asked(Timeframe.m1, "1970-01-18 13:00", "1970-01-18 14:00"),
    ],
    ids=["newer", "much older", "another unit"],
)
def test_a_page_of_another_range_is_refused_whole(other: Asked) -> None:
    with pytest.raises(BadAnswer):
        read(recorded("candles_m1_desc.json"), other)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (404, '{"message":"NotFound"}', UnknownSymbol),
        (404, '{"message":"Route not found"}', ProviderError),
        (404, "<html>", ProviderError),
        (429, '{"message":"Public rate limit exceeded"}', RateLimited),
        (403, "<html>", ProviderError),
        (451, "", GeoBlocked),
        (500, '{"message":"Internal server error"}', ProviderUnavailable),
        (503, "", ProviderUnavailable),
        (200, "<html>", UnreadableAnswer),
        (200, "[[1517443740,1,2", UnreadableAnswer),
        (200, "[[1517443740,1,2,1]]", UnreadableAnswer),
        (200, "[[null,1,2,1,2,3]]", UnreadableAnswer),
        (200, "[[1517443740,1,2,1,NaN,3]]", UnreadableAnswer),
        (200, '{"message":"NotFound"}', UnreadableAnswer),
        (200, "[" * 100_000, UnreadableAnswer),
    ],
)
def test_a_refusal_is_its_own_outcome(status: int, body: str, outcome: type[BackfillError]) -> None:
    with pytest.raises(outcome) as caught:
        read(body, status=status)
    assert type(caught.value) is outcome


def test_a_range_of_too_many_candles_is_told_in_the_providers_words() -> None:
    with pytest.raises(ProviderError, match="requested exceeds 300"):
        read(recorded("error_400_too_many.json"), status=400)


def test_a_rate_limit_says_how_long_if_the_answer_does() -> None:
    with pytest.raises(RateLimited) as caught:
        read("{}", status=429, retry_after="7")
    assert caught.value.retry_after_s == 7
    with pytest.raises(RateLimited) as caught:
        read("{}", status=429)
    assert caught.value.retry_after_s is None


def test_a_value_that_is_no_number_costs_its_own_candle_and_is_kept_as_it_came() -> None:
    page = read('[[1517443740,1,2,1,null,3],[1517443680,1,2,1,"1e2",3]]')
    assert page.bars.close.tolist()[1] == 100
    [came] = page.oddities.values()
    assert came["close"] is None
    assert page.bars.close[0] != page.bars.close[0]  # NaN: the checks set it aside


def test_candles_are_final_two_minutes_after_their_end_and_days_after_an_hour() -> None:
    terms = COINBASE.terms["free"]
    assert str(terms.quota) == "10/1s"
    assert terms.settling.intraday_ms == 2 * MINUTE_MS
    assert terms.settling.daily_ms == HOUR_MS
    assert terms.depth is None
    assert COINBASE.headers(()) == {}
    assert COINBASE.can.pages.pages(calendar("24/7"), Timeframe.d1).windows(
        Span(ms("2020-01-01"), ms("2020-01-01") + 600 * DAY_MS)
    ) == [
        Span(ms("2020-01-01") + 300 * DAY_MS, ms("2020-01-01") + 600 * DAY_MS),
        Span(ms("2020-01-01"), ms("2020-01-01") + 300 * DAY_MS),
    ]
