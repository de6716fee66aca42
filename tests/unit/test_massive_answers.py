"""What an answer means: a page, or the error that names its outcome."""

import json
from datetime import date
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.asked import Asked
from backfill.core.bars import NO_COUNT
from backfill.core.calendar import Calendar, Session
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.raw import VALUES, spelled
from backfill.core.series import Symbol
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import DatedName, GroupedDay, Names, Reference, Request, Response
from backfill.errors import (
    BackfillError,
    BadAnswer,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.massive import Massive
from backfill.providers.retry_after import retry_after_s
from tests.calendars import calendar

MASSIVE: Final = Massive()
AAPL: Final = Symbol(1, "AAPL", "stock", "XNYS")
BITCOIN: Final = Symbol(2, "BTC/USD", "crypto", "24/7")
BAR: Final = {"t": 1_720_000_000_000, "o": 2, "h": 4, "l": 1, "c": 3, "v": 10}
EMPTY: Final = {"status": "OK", "ticker": "AAPL", "adjusted": False, "resultsCount": 0}


def read(body: bytes | dict[str, Any], symbol: Symbol = AAPL, adjustment: str = "raw") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MASSIVE.read_bars(Response(200, {}, raw), asked(symbol, adjustment))


def asked(symbol: Symbol = AAPL, adjustment: str = "raw") -> Asked:
    return Asked(symbol, calendar(symbol.calendar), Timeframe.d1, Span(0, 1), adjustment)


def page(*bars: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return EMPTY | {"resultsCount": len(bars), "results": list(bars)} | changes


def test_an_answer_without_results_is_an_empty_page() -> None:
    empty = read(EMPTY)
    assert len(empty.bars) == 0
    assert empty.next is None


def test_an_answer_that_counts_bars_and_holds_none_is_not_empty() -> None:
    with pytest.raises(UnreadableAnswer, match="counts 2 bars and holds none"):
        read(EMPTY | {"resultsCount": 2})


def test_a_bar_without_vwap_and_count_keeps_the_rest() -> None:
    bars = read(page(BAR, BAR | {"vw": 2.5, "n": 7})).bars
    assert np.isnan(bars.vwap[0])
    assert bars.vwap[1] == 2.5
    assert bars.trade_count.tolist() == [NO_COUNT, 7]
    assert [bars.open[0], bars.high[0], bars.low[0], bars.close[0]] == [2.0, 4.0, 1.0, 3.0]


def test_a_fractional_volume_stays_fractional() -> None:
    assert read(page(BAR | {"v": 0.125})).bars.volume.tolist() == [0.125]


def test_bars_stay_in_the_order_in_which_they_came() -> None:
    stamps = [1_720_000_120_000, 1_720_000_060_000, 1_720_000_000_000]
    assert read(page(*(BAR | {"t": t} for t in stamps))).bars.ts_ms.tolist() == stamps


@pytest.mark.parametrize(
    "t", [1_720_000_000_123_456_789, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**53) - 1]
)
def test_a_whole_number_of_any_size_is_read_to_its_last_digit(t: int) -> None:
    bars = read(page(BAR | {"t": t, "n": abs(t)})).bars
    assert bars.ts_ms.tolist() == [t]
    assert bars.trade_count.tolist() == [abs(t)]


def test_a_delayed_answer_says_that_its_newest_bars_are_held_back() -> None:
    assert read(page(BAR)).delayed_ms == 0
    assert read(page(BAR, status="DELAYED")).delayed_ms == 15 * 60_000


def test_the_next_page_is_the_address_that_the_answer_names() -> None:
    target = "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/day/1/2?cursor=bGk9"
    assert read(page(BAR, next_url=target)).next == Request(target)


@pytest.mark.parametrize(
    ("timeframe", "counted", "first", "last_ms"),
    [
        (Timeframe.m1, 50_000, 30, 31 * 60_000 - 1),
        (Timeframe.m1, 49_999, 30, None),
        (Timeframe.m1, None, 30, None),
        (Timeframe.m1, 50_000, 0, None),
        (Timeframe.m5, 49_996, 30, 35 * 60_000 - 1),
        (Timeframe.m5, 49_995, 30, None),
    ],
)
def test_a_full_page_that_names_no_next_one_proves_no_more_than_it_holds(
    timeframe: Timeframe, counted: int | None, first: int, last_ms: int | None
) -> None:
    begin_ms = 1_719_964_800_000
    span = Span(begin_ms, begin_ms + 3_600_000)
    wanted = Asked(AAPL, calendar("24/7"), timeframe, span, "raw")
    bars = [BAR | {"t": begin_ms + minute * 60_000} for minute in range(55, first - 1, -5)]
    body = json.dumps(page(*bars, queryCount=counted)).encode()
    rest = MASSIVE.read_bars(Response(200, {}, body), wanted).next
    asked_to = int(rest.target.rpartition("/")[2]) if rest else None
    assert asked_to == (None if last_ms is None else begin_ms + last_ms)


def test_a_full_page_of_another_time_asks_for_nothing() -> None:
    assert read(page(BAR, queryCount=50_000)).next is None


def test_a_crypto_pair_is_answered_under_the_service_s_own_spelling() -> None:
    assert len(read(page(BAR, ticker="X:BTCUSD"), BITCOIN).bars) == 1
    with pytest.raises(BadAnswer):
        read(page(BAR, ticker="BTC/USD"), BITCOIN)


@pytest.mark.parametrize("ticker", ["MSFT", "aapl", "AAPL.", "X:AAPL", ""])
def test_bars_of_another_ticker_are_refused_whole(ticker: str) -> None:
    with pytest.raises(BadAnswer, match="came for AAPL") as refused:
        read(page(BAR, ticker=ticker))
    assert not isinstance(refused.value, UnreadableAnswer)


@pytest.mark.parametrize(("adjusted", "adjustment"), [(True, "raw"), (False, "split")])
def test_bars_of_another_adjustment_are_refused_whole(*, adjusted: bool, adjustment: str) -> None:
    with pytest.raises(BadAnswer, match=f"came for {adjustment}") as refused:
        read(page(BAR, adjusted=adjusted), adjustment=adjustment)
    assert not isinstance(refused.value, UnreadableAnswer)


def test_an_empty_answer_for_another_ticker_or_adjustment_proves_nothing() -> None:
    with pytest.raises(BadAnswer):
        read(EMPTY | {"ticker": "MSFT"})
    with pytest.raises(BadAnswer):
        read(EMPTY, adjustment="split")


def test_an_answer_whose_body_says_error_is_none() -> None:
    with pytest.raises(ProviderError, match="'ERROR'"):
        read(EMPTY | {"status": "ERROR"})
    with pytest.raises(ProviderError, match="'ERROR'"):
        MASSIVE.read_splits(Response(200, {}, b'{"status": "ERROR"}'))


@pytest.mark.parametrize(
    "missing",
    [{"ticker": None}, {"adjusted": None}, {"status": None}, {"results": {}}, {"results": None}],
)
def test_an_answer_that_lacks_what_tells_it_apart_is_unreadable(missing: dict[str, Any]) -> None:
    with pytest.raises(UnreadableAnswer):
        read(page(BAR) | missing)


WHOLE: Final = json.dumps(page(BAR)).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"[]",
        b"<!DOCTYPE html><html><body>Bad gateway</body></html>",
        WHOLE[:-1],
        WHOLE[: len(WHOLE) // 2],
        WHOLE + b"}",
        WHOLE.replace(b'"o": 2', b'"o": NaN'),
        WHOLE.replace(b'"o": 2', b'"o": Infinity'),
        WHOLE.replace(b'"t": 1720000000000', b'"t": "2024-07-03"'),
        WHOLE.replace(b'"t": 1720000000000', b'"t": 1720000000000.5'),
        WHOLE.replace(b'"t": 1720000000000', b'"t": null'),
        WHOLE.replace(b'"t": 1720000000000, ', b""),
        WHOLE.replace(b"1720000000000", b"9" * 30),
        WHOLE.replace(b"1720000000000", b"18446744073709551615"),
        WHOLE.decode().encode("utf-16"),
        WHOLE.replace(b"AAPL", "AAPLé".encode("latin-1")),
        b"\xef\xbb\xbf" + WHOLE,
        b"\x1f\x8b\x08\x00" + WHOLE,
        b"[" * 200_000,
        b'{"results":' * 100_000,
        b'{"x":' + b"[" * 200_000,
        WHOLE.replace(b'"o": 2', b'"o": ' + b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_no_page_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        read(body)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b'"o": "2"', Reason.not_finite),
        (b'"o": "abc"', Reason.not_finite),
        (b'"o": null', Reason.not_finite),
        (b'"o": true', Reason.not_finite),
        (b'"o": [2]', Reason.not_finite),
        (b'"o": 1e999', Reason.not_finite),
        (b'"o": ' + b"9" * 400, Reason.not_finite),
        (b'"p": 2', Reason.not_finite),
        (b'"o": 2, "vw": "x"', Reason.not_finite),
        (b'"o": 2, "n": "x"', Reason.volume),
        (b'"o": 2, "n": 1.5', Reason.volume),
        (b'"o": 2, "n": ' + b"9" * 30, Reason.volume),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_value_that_is_no_number_costs_its_bar_and_not_its_neighbours(
    sent: bytes, reason: Reason
) -> None:
    start_ms = 1_720_000_000_000 // DAY_MS * DAY_MS
    days = [start_ms + day * DAY_MS for day in range(3)]
    good, bad, good_too = (json.dumps(BAR | {"t": day}).encode() for day in days)
    bad = bad.replace(b'"o": 2', sent)
    body = json.dumps(page(ticker="X:BTCUSD")).encode()
    body = body.replace(b"[]", b"[" + b",".join((good, bad, good_too)) + b"]")
    calendar = Calendar.of(
        "24/7",
        "UTC",
        [Session(date.fromtimestamp(day / 1000), day, day + DAY_MS) for day in days],  # noqa: DTZ012  # any three days in a row
    )
    asked = Span(days[0], days[0] + 3 * DAY_MS)
    bars = read(body, BITCOIN).bars
    checked = check_page(calendar, Timeframe.d1, bars, asked, asked.end_ms)
    assert checked.reasons == (reason,)
    assert checked.rejected.ts_ms.tolist() == [days[1]]
    assert checked.bars.ts_ms.tolist() == [days[0], days[2]]
    assert checked.bars.open.tolist() == [2.0, 2.0]


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ANY_BAR: Final = st.dictionaries(st.sampled_from(["t", "o", "h", "l", "c", "v", "vw", "n"]), JSON)
ANY_PAGE: Final = st.fixed_dictionaries(
    {
        "status": st.just("OK") | JSON,
        "ticker": st.just("AAPL") | JSON,
        "adjusted": st.just(False) | JSON,
        "results": st.lists(ANY_BAR | st.builds(BAR.__or__, ANY_BAR), max_size=3) | JSON,
    },
    optional={"next_url": JSON, "resultsCount": JSON},
)


@given(ANY_PAGE.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=60))
def test_whatever_the_body_an_answer_becomes_a_page_or_an_outcome(body: bytes) -> None:
    response = Response(200, {}, body)
    for reader in (
        lambda: MASSIVE.read_bars(response, asked()),
        lambda: MASSIVE.read_splits(response),
        lambda: MASSIVE.read_reference(response, AAPL),
        lambda: MASSIVE.read_owners(response),
    ):
        try:
            reader()
        except BackfillError as outcome:
            assert str(outcome)  # noqa: PT017  # any other exception is what fails


HTML: Final = b"<html>nginx</html>"


@pytest.mark.parametrize("body", [b"", HTML, b'{"status":"ERROR","error":"said so"}'])
@pytest.mark.parametrize(
    ("status", "outcome", "word"),
    [
        (401, Unauthorised, "unauthorised"),
        (403, NotEntitled, "not_entitled"),
        (429, RateLimited, "rate_limited"),
        (408, ProviderUnavailable, "provider_error"),
        (425, ProviderUnavailable, "provider_error"),
        (500, ProviderUnavailable, "provider_error"),
        (502, ProviderUnavailable, "provider_error"),
        (503, ProviderUnavailable, "provider_error"),
        (504, ProviderUnavailable, "provider_error"),
        (400, ProviderError, "provider_error"),
        (404, ProviderError, "provider_error"),
        (204, ProviderError, "provider_error"),
        (302, ProviderError, "provider_error"),
    ],
)
def test_a_status_names_its_outcome_to_every_reader_whatever_the_body(
    status: int, outcome: type[BackfillError], word: str, body: bytes
) -> None:
    response = Response(status, {}, body)
    for reader in (
        lambda: MASSIVE.read_bars(response, asked()),
        lambda: MASSIVE.read_splits(response),
        lambda: MASSIVE.read_reference(response, AAPL),
        lambda: MASSIVE.read_owners(response),
    ):
        with pytest.raises(outcome) as refused:
            reader()
        assert type(refused.value) is outcome
        assert refused.value.outcome == word
        assert str(status) in str(refused.value)
        assert ("said so" in str(refused.value)) == (b"said so" in body)


def test_only_the_reference_says_that_a_ticker_is_unknown() -> None:
    body = b'{"status":"NOT_FOUND","request_id":"x","message":"Ticker not found."}'
    with pytest.raises(UnknownSymbol):
        MASSIVE.read_reference(Response(404, {}, body), AAPL)
    with pytest.raises(ProviderError):
        MASSIVE.read_bars(Response(404, {}, body), asked())
    with pytest.raises(ProviderError):
        MASSIVE.read_reference(Response(404, {}, HTML), AAPL)


def test_a_delisted_ticker_has_its_last_day() -> None:
    body = {
        "status": "OK",
        "results": {
            "ticker": "TWTR",
            "market": "stocks",
            "active": False,
            "list_date": "2013-11-07",
            "delisted_utc": "2022-11-08T00:00:00Z",
        },
    }
    found = MASSIVE.read_reference(
        Response(200, {}, json.dumps(body).encode()), Symbol(3, "TWTR", "stock", "XNYS")
    )
    assert found == Reference("TWTR", date(2013, 11, 7), date(2022, 11, 8), figi=None)


@pytest.mark.parametrize(
    "wrong", [{"list_date": "soon"}, {"delisted_utc": "never"}, {"ticker": None}]
)
def test_a_reference_whose_dates_are_none_is_unreadable(wrong: dict[str, Any]) -> None:
    body = json.dumps({"status": "OK", "results": {"ticker": "AAPL", "market": "stocks"} | wrong})
    with pytest.raises(UnreadableAnswer):
        MASSIVE.read_reference(Response(200, {}, body.encode()), AAPL)


def test_the_reference_of_another_ticker_is_refused() -> None:
    body = json.dumps({"status": "OK", "results": {"ticker": "AAP", "list_date": "2001-11-29"}})
    with pytest.raises(BadAnswer, match="'AAP' came for AAPL"):
        MASSIVE.read_reference(Response(200, {}, body.encode()), AAPL)


@pytest.mark.parametrize("body", [HTML, b'{"status":"NOT_FOUND","message":"Ticker not found."}'])
def test_no_former_names_are_known_where_there_are_no_events(body: bytes) -> None:
    with pytest.raises(UnknownSymbol):
        MASSIVE.read_names(Response(404, {}, body))


def test_events_that_are_no_change_of_name_tell_no_name() -> None:
    events = [
        {"type": "ticker_change", "date": "2022-06-11", "ticker_change": {"ticker": "META"}},
        {"type": "relocation", "date": "2023-01-01"},
    ]
    body = json.dumps({"status": "OK", "results": {"events": events}}).encode()
    assert MASSIVE.read_names(Response(200, {}, body)) == Names(
        figi=None, dated=(DatedName("META", date(2022, 6, 11)),)
    )


SENT: Final = "Tue, 24 Nov 2026 11:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Tue, 24 Nov 99999999999999 11:00:30 GMT", "date": SENT}, None),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:30 GMT", "date": SENT}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 +0100", "date": SENT}, 30.0),
        ({"retry-after": "Tuesday, 24-Nov-26 11:00:30 GMT", "date": SENT}, 30.0),
        ({"retry-after": "Tue Nov 24 11:00:30 2026", "date": SENT}, 30.0),
        ({"retry-after": "Tue Dec  1 11:00:00 2026", "date": SENT}, 7 * 86_400.0),
        ({"retry-after": SENT, "date": "Tue Nov 24 10:59:30 2026"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:30", "date": SENT}, None),
        ({"retry-after": "Tue, 24 Nov 2026 10:59:00 GMT", "date": SENT}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:30 -0000", "date": SENT}, None),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:30 GMT"}, None),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:30 GMT", "date": "today"}, None),
    ],
)
@pytest.mark.parametrize(("status", "outcome"), [(429, RateLimited), (503, ProviderUnavailable)])
def test_retry_after_is_read_as_seconds_or_as_a_date(
    status: int,
    outcome: type[RateLimited | ProviderUnavailable],
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    with pytest.raises((RateLimited, ProviderUnavailable)) as refused:
        MASSIVE.read_bars(Response(status, headers, b""), asked())
    assert type(refused.value) is outcome
    assert getattr(refused.value, "retry_after_s", "none") == seconds


@given(st.text(max_size=40) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+-]?\w+"))
def test_whatever_retry_after_holds_it_is_a_time_to_wait_or_nothing(value: str) -> None:
    seconds = retry_after_s({"retry-after": value, "date": SENT})
    assert seconds is None or seconds >= 0


GROUPED: Final = {"status": "OK", "adjusted": False, "resultsCount": 0}


def read_grouped(*rows: dict[str, Any], **changes: Any) -> GroupedDay:
    body = GROUPED | {"resultsCount": len(rows), "results": list(rows)} | changes
    return MASSIVE.read_grouped(Response(200, {}, json.dumps(body).encode()), "raw")


def test_a_grouped_day_keeps_the_neighbours_of_a_row_that_is_no_number() -> None:
    rows = (BAR | {"T": "A"}, BAR | {"T": "B", "c": None}, BAR | {"T": "A", "c": 3.5})
    day = read_grouped(*rows)
    assert day.tickers == ["A", "B", "A"]
    np.testing.assert_array_equal(day.bars.close, [3.0, np.nan, 3.5])
    assert read_grouped().tickers == []
    assert read_grouped(rows[0], status="DELAYED").delayed_ms > 0


@pytest.mark.parametrize(
    ("rows", "changes", "error"),
    [
        ([BAR], {}, UnreadableAnswer),
        ([BAR | {"T": 3}], {}, UnreadableAnswer),
        ([BAR | {"T": "A"}], {"ticker": "A"}, UnreadableAnswer),
        ([], {"resultsCount": 2}, UnreadableAnswer),
        ([BAR | {"T": "A"}], {"adjusted": True}, BadAnswer),
        ([BAR | {"T": "A"}], {"status": "ERROR"}, BackfillError),
    ],
)
def test_an_answer_that_is_no_grouped_day_is_refused(
    rows: list[dict[str, Any]], changes: dict[str, Any], error: type[BackfillError]
) -> None:
    with pytest.raises(error):
        read_grouped(*rows, **changes)


def test_a_grouped_day_that_the_plan_does_not_include_is_not_entitled() -> None:
    refusal = {"status": "NOT_AUTHORIZED", "message": "upgrade"}
    with pytest.raises(NotEntitled, match="upgrade"):
        MASSIVE.read_grouped(Response(403, {}, json.dumps(refusal).encode()), "raw")


@pytest.mark.parametrize("results", [{}, {"results": None}, {"results": []}])
def test_null_where_nothing_is_counted_is_an_empty_answer(results: dict[str, Any]) -> None:
    assert len(read(EMPTY | results).bars) == 0
    grouped = Response(200, {}, json.dumps(GROUPED | results).encode())
    assert len(MASSIVE.read_grouped(grouped, "raw").bars) == 0
    listing = Response(200, {}, json.dumps({"status": "OK", "count": 0} | results).encode())
    assert MASSIVE.read_splits(listing) == ([], None)
    assert MASSIVE.read_dividends(listing) == ([], None)


def test_null_where_something_is_counted_is_none() -> None:
    for body in (EMPTY | {"resultsCount": 2, "results": None},):
        with pytest.raises(UnreadableAnswer, match="counts 2 bars"):
            read(body)
    listing = Response(200, {}, b'{"status": "OK", "count": 2, "results": null}')
    for list_of in (MASSIVE.read_splits, MASSIVE.read_dividends, MASSIVE.read_owners):
        with pytest.raises(UnreadableAnswer, match="counts 2 rows"):
            list_of(listing)


EXCEEDED: Final = "You've exceeded the maximum requests per minute, please wait"


@pytest.mark.parametrize(
    ("said", "outcome", "words"),
    [
        ({"status": "ERROR", "error": "Backend timeout"}, ProviderError, "Backend timeout"),
        ({"status": "ERROR", "message": "Sorry"}, ProviderError, "'ERROR': Sorry"),
        ({"status": "ERROR"}, ProviderError, "'ERROR'"),
        ({"status": "ERROR", "error": EXCEEDED}, RateLimited, "exceeded the maximum"),
        ({"status": "ERROR", "error": "Rate limit reached"}, RateLimited, "Rate limit"),
        ({"status": "NOT_AUTHORIZED", "message": "Upgrade"}, NotEntitled, "Upgrade"),
        ({"status": "ERROR", "error": "Unknown API Key"}, Unauthorised, "Unknown API Key"),
    ],
)
@pytest.mark.parametrize("rest", [{}, EMPTY, {"results": None}, {"results": [BAR]}])
def test_a_200_that_says_it_is_an_error_is_one_in_the_provider_s_words(
    said: dict[str, Any], outcome: type[Exception], words: str, rest: dict[str, Any]
) -> None:
    response = Response(200, {"retry-after": "7"}, json.dumps(rest | said).encode())
    for answered in (
        lambda: MASSIVE.read_bars(response, asked()),
        lambda: MASSIVE.read_grouped(response, "raw"),
        lambda: MASSIVE.read_splits(response),
        lambda: MASSIVE.read_dividends(response),
        lambda: MASSIVE.read_owners(response),
        lambda: MASSIVE.read_reference(response, AAPL),
        lambda: MASSIVE.read_names(response),
    ):
        with pytest.raises(outcome, match=words) as refused:
            answered()
        assert type(refused.value) is outcome
        assert getattr(refused.value, "retry_after_s", 7) == 7


@pytest.mark.parametrize(
    ("changes", "came"),
    [
        ({"n": -1}, {"trade_count": -1}),
        ({"n": -7}, {"trade_count": -7}),
        ({"n": 1.5}, {"trade_count": 1.5}),
        ({"c": None}, {"close": None}),
        ({"c": "n/a", "v": -1.0}, {"close": "n/a", "volume": -1.0}),
        ({"o": "a\0b"}, {"open": "a\N{REPLACEMENT CHARACTER}b"}),
        ({"vw": "high"}, {"vwap": "high"}),
        ({"h": {"is": [4]}}, {"high": '{"is": [4]}'}),
    ],
)
def test_quarantine_keeps_a_bar_as_it_came(changes: dict[str, Any], came: dict[str, Any]) -> None:
    found = read(page(BAR, BAR | {"t": BAR["t"] + 60_000} | changes))
    first, second = (json.loads(line) for line in spelled(found.bars, found.oddities))
    names = dict(zip(VALUES, "ohlcv", strict=False))
    assert first == {"ts_ms": BAR["t"], "vwap": None, "trade_count": None} | {
        name: BAR[key] for name, key in names.items()
    }
    assert second == first | {"ts_ms": BAR["t"] + 60_000} | came
    day = read_grouped(BAR | {"T": "AAPL"} | changes)
    assert json.loads(spelled(day.bars, day.oddities)[0]) == first | came


def test_a_negative_count_is_no_count_that_is_absent() -> None:
    assert read(page(BAR | {"n": -1})).bars.trade_count.tolist() == [NO_COUNT - 1]


def test_what_no_database_can_hold_is_in_no_list() -> None:
    def listed(*rows: dict[str, Any]) -> Response:
        return Response(200, {}, json.dumps({"status": "OK", "results": list(rows)}).encode())

    split = {"ticker": "A", "execution_date": "2024-07-03", "split_from": 1, "split_to": 2}
    assert len(MASSIVE.read_splits(listed(split, split | {"ticker": "A\0"}))[0]) == 1
    paid = {"ticker": "A", "ex_dividend_date": "2024-07-03", "cash_amount": 1}
    odd = [paid | {name: "\0"} for name in ("ticker", "distribution_type", "currency")]
    assert len(MASSIVE.read_dividends(listed(paid, *odd))[0]) == 1
    owner = {"ticker": "A", "active": True, "composite_figi": "F\0"}
    owners, _ = MASSIVE.read_owners(listed(owner, owner | {"ticker": "\0"}))
    assert [(one.ticker, one.figi) for one in owners] == [("A", None)]
