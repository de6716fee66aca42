"""What Yahoo is asked, and what its answers mean beside what every provider shows."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.series import Symbol, unregistered
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
    UsageError,
)
from backfill.providers import PROVIDERS
from backfill.providers.base import spelled
from backfill.providers.yahoo import Yahoo
from backfill.settings import Settings
from backfill.settings.account import keyless
from tests.calendars import ZONES, sessions

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "yahoo"
YAHOO: Final = Yahoo()
REGULAR: Final = Calendar.of("XNYS", ZONES["XNYS"], sessions("XNYS"))
APPLE: Final = Symbol(1, "AAPL", "stock", "XNYS")
LATER_MS: Final = 1_800_000_000_000
MONDAY: Final = date(2024, 11, 4)
OPEN_MS: Final = REGULAR.midnight(MONDAY) + 9 * HOUR_MS + 30 * MINUTE_MS


def asked(timeframe: Timeframe, first: date, until: date) -> Asked:
    span = Span(REGULAR.midnight(first), REGULAR.midnight(until))
    return Asked(APPLE, REGULAR, timeframe, REGULAR.grid(timeframe).narrow(span) or span, "split")


DAYS: Final = asked(Timeframe.d1, MONDAY, MONDAY + timedelta(days=2))
MINUTES: Final = asked(Timeframe.m1, MONDAY, MONDAY + timedelta(days=1))


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def read(body: bytes | Any, wanted: Asked = DAYS, status: int = 200) -> Page:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return YAHOO.read_bars(Response(status, {}, data), wanted)


def chart(
    stamps_ms: list[int], meta: dict[str, str] | None = None, **columns: list[object]
) -> dict[str, Any]:
    """A chart of bars that begin at some instants."""
    quote = dict.fromkeys(("open", "high", "low", "close", "volume"), [5.0] * len(stamps_ms))
    told = {
        "symbol": "AAPL",
        "currency": "USD",
        "exchangeTimezoneName": "America/New_York",
        "dataGranularity": "1d",
    }
    one = {
        "meta": told | (meta or {}),
        "timestamp": [at // 1000 for at in stamps_ms],
        "indicators": {"quote": [quote | columns]},
    }
    return {"chart": {"result": [one], "error": None}}


@pytest.mark.parametrize("traded_ms", [0, 3 * HOUR_MS + 17_000, 6 * HOUR_MS + 30 * MINUTE_MS])
def test_a_days_last_bar_is_one_slot_by_whichever_stamp_and_one_that_forms_is_left_out(
    traded_ms: int,
) -> None:
    tuesday_ms = OPEN_MS + DAY_MS
    page = read(chart([OPEN_MS, tuesday_ms + traded_ms, tuesday_ms + DAY_MS + traded_ms]))
    checked = check_page(REGULAR, Timeframe.d1, page.bars, DAYS.span, LATER_MS)
    assert checked.bars.ts_ms.tolist() == REGULAR.grid(Timeframe.d1).slots(DAYS.span).tolist()
    assert len(checked.rejected) == 0


def test_a_request_ends_before_the_bar_that_is_stamped_with_the_end() -> None:
    params = YAHOO.bars(MINUTES).params
    assert (params["interval"], params["includePrePost"]) == ("1m", "false")
    assert int(params["period1"]) * 1000 == OPEN_MS
    assert int(params["period2"]) * 1000 == OPEN_MS + 6 * HOUR_MS + 30 * MINUTE_MS - 1000


def test_what_is_traded_outside_of_sessions_comes_unasked_and_what_is_of_no_session_is_seen() -> (
    None
):
    close_ms = OPEN_MS + 6 * HOUR_MS + 30 * MINUTE_MS
    off_ms = OPEN_MS + 90_000
    sunday_ms = OPEN_MS - DAY_MS
    stamps = [sunday_ms, OPEN_MS - MINUTE_MS, OPEN_MS, off_ms, close_ms - MINUTE_MS, close_ms]
    page = read(chart(stamps, {"dataGranularity": "1m"}), MINUTES)
    assert page.bars.ts_ms.tolist() == [sunday_ms, OPEN_MS, off_ms, close_ms - MINUTE_MS]
    checked = check_page(REGULAR, Timeframe.m1, page.bars, MINUTES.span, LATER_MS)
    assert checked.reasons == (Reason.off_grid, Reason.off_grid)


def test_a_row_of_nulls_is_no_bar_and_one_null_costs_its_bar_alone() -> None:
    nulls: list[object] = [None, 5.0]
    whole = dict.fromkeys(("open", "high", "low", "close", "volume"), nulls)
    assert len(read(chart([OPEN_MS, OPEN_MS + DAY_MS], None, **whole)).bars) == 1
    page = read(chart([OPEN_MS, OPEN_MS + DAY_MS], None, close=nulls))
    checked = check_page(REGULAR, Timeframe.d1, page.bars, DAYS.span, LATER_MS)
    assert (len(checked.bars), checked.reasons) == (1, (Reason.not_finite,))


@pytest.mark.parametrize(
    "name", ["chart_d1_xetra.json", "chart_d1_crypto.json", "chart_d1_fx.json"]
)
def test_another_markets_chart_is_refused_even_under_the_symbol_that_was_asked_for(
    name: str,
) -> None:
    with pytest.raises(BadAnswer, match="came for AAPL"):
        read(recorded(name))
    body = json.loads(recorded(name))
    body["chart"]["result"][0]["meta"]["symbol"] = "AAPL"
    with pytest.raises(BadAnswer, match="another market"):
        read(body)


def test_the_recorded_day_that_forms_is_stamped_with_its_last_trade() -> None:
    body = json.loads(recorded("chart_d1_forming_stamp.json"))
    stamps = body["chart"]["result"][0]["timestamp"]
    assert [at % 86_400 != stamps[-2] % 86_400 for at in stamps[2:]] == [False, False, True]
    with pytest.raises(BadAnswer, match="came for AAPL"):
        read(body)


@pytest.mark.parametrize(
    ("name", "status", "timeframe"),
    [
        ("chart_m1_no_quotes.json", 200, Timeframe.m1),
        ("error_400_no_data_in_range.json", 400, Timeframe.d1),
    ],
)
def test_where_nothing_is_there_that_is_an_empty_answer(
    name: str, status: int, timeframe: Timeframe
) -> None:
    page = read(recorded(name), MINUTES if timeframe is Timeframe.m1 else DAYS, status)
    assert (len(page.bars), page.unconfirmed) == (0, False)


def test_bars_of_another_length_or_columns_of_several_are_refused() -> None:
    with pytest.raises(BadAnswer, match="1h"):
        read(chart([OPEN_MS], {"dataGranularity": "1h"}))
    with pytest.raises(BadAnswer, match="lengths"):
        read(chart([OPEN_MS, OPEN_MS + DAY_MS], None, close=[5.0]))
    with pytest.raises(BadAnswer, match="lengths"):
        read(chart([OPEN_MS]) | chart([OPEN_MS], None, volume=[]))
    for body in (b"null", b'{"chart":{"result":[{}],"error":null}}', b"<html>"):
        with pytest.raises(UnreadableAnswer):
            read(body)
    with pytest.raises(BadAnswer, match="0 charts"):
        read(b'{"chart":{"result":[],"error":null}}')


def test_who_is_refused_and_not_told_for_how_long_waits_a_minute() -> None:
    with pytest.raises(RateLimited) as raised:
        read(b"Too Many Requests", status=429)
    assert raised.value.retry_after_s == 60.0


def test_a_chart_tells_since_when_its_symbol_trades() -> None:
    request = YAHOO.reference(APPLE)
    assert (request.target, request.params["range"]) == ("/v8/finance/chart/AAPL", "1d")
    answer = Response(200, {}, recorded("chart_d1_split_div.json"))
    assert YAHOO.read_reference(answer, APPLE).listed_on == date(1980, 12, 12)
    with pytest.raises(BadAnswer):
        YAHOO.read_reference(answer, unregistered("MSFT"))
    gone = Response(200, {}, recorded("chart_delisted_no_data.json").replace(b"CAPIO.ST", b"AAPL"))
    assert YAHOO.read_reference(gone, APPLE).listed_on is None
    nothing = Response(400, {}, recorded("error_400_no_data_in_range.json"))
    with pytest.raises(UnknownSymbol):
        YAHOO.read_reference(nothing, APPLE)


def test_each_length_reaches_back_as_far_as_was_measured_in_calls_that_are_not_too_long() -> None:
    now_ms = REGULAR.midnight(date(2024, 12, 2)) + 12 * HOUR_MS
    assert not YAHOO.can.derives_for_less
    for timeframe, reach, a_call, calls in (
        (Timeframe.m1, 29, 8, 7),
        (Timeframe.m5, 59, 59, 1),
        (Timeframe.m15, 59, 59, 1),
    ):
        begins_ms = YAHOO.can.begins_ms(REGULAR, timeframe, now_ms)
        assert now_ms - reach * DAY_MS < begins_ms < now_ms - (reach - 2) * DAY_MS
        pages = YAHOO.can.pages.pages(REGULAR, timeframe)
        span = pages.grid.narrow((begins_ms, now_ms))
        assert span is not None
        windows = pages.windows(span)
        assert len(windows) == calls
        for window in windows:
            params = YAHOO.bars(Asked(APPLE, REGULAR, timeframe, window, "split")).params
            assert (int(params["period2"]) - int(params["period1"])) * 1000 < a_call * DAY_MS


def test_whichever_minute_a_call_begins_with_it_asks_for_less_than_eight_days() -> None:
    slots = REGULAR.grid(Timeframe.m1).slots((0, LATER_MS))
    pages = YAHOO.can.pages.pages(REGULAR, Timeframe.m1)
    size = pages.grid.index_from(pages.one_page_end(int(slots[0])))
    longest_ms = int((slots[size - 1 :] - slots[: len(slots) - size + 1]).max()) + MINUTE_MS
    assert 6 * DAY_MS < longest_ms < 8 * DAY_MS


def test_nobody_is_led_to_it_who_does_not_name_it() -> None:
    assert "yahoo" in PROVIDERS
    assert [one.name for one in keyless()] == ["binance", "coinbase", "kraken", "bybit"]
    assert Settings().provider.name == "massive"


def test_a_class_whose_spelling_is_not_proven_is_refused_and_not_guessed() -> None:
    proven = {"BRK.B": "BRK-B", "BF-A": "BF-A", "AAPL": "AAPL"}
    for written, spelling in proven.items():
        assert spelled(YAHOO, unregistered(written).instrument) == spelling
    for written in ("BAC.PRE", "BAC-PE", "BACpE", "BAC.PR.E", "SPG-P-JJ", "X.WS"):
        with pytest.raises(NotEntitled, match="not proven"):
            spelled(YAHOO, unregistered(written).instrument)
    with pytest.raises(UsageError, match="preferred"):
        unregistered("BAC/PRE")
