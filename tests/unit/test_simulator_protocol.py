from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest

from backfill.core.timeframe import DAY_MS, MINUTE_MS, Timeframe
from backfill.simulator.wire.base import Plan
from backfill.simulator.wire.massive.protocol import Ask
from backfill.simulator.wire.massive.routes import answer
from tests.conftest import MARKET

NEW_YORK: Final = ZoneInfo("America/New_York")
NOW: Final = datetime(2025, 3, 5, 15, 7, 30, tzinfo=UTC)  # a Wednesday, 10:07:30 in New York


def ask(url: str, now: datetime = NOW, plan: Plan = "unlimited") -> Ask:
    parts = urlsplit(url)
    return Ask(
        path=parts.path,
        query=dict(parse_qsl(parts.query)),
        market=MARKET,
        now_ms=round(now.timestamp() * 1000),
        plan=plan,
        base_url="http://sim",
        request_id="id",
    )


def get(url: str, now: datetime = NOW, plan: Plan = "unlimited") -> dict[str, Any]:
    found = answer("GET", ask(url, now, plan))
    assert found.status == 200, found.body
    body: dict[str, Any] = found.body
    return body


def pages(url: str, **options: Any) -> Iterator[dict[str, Any]]:
    while url:
        page = get(url, **options)
        yield page
        assert page.get("next_url", "http://sim/").startswith("http://sim/")
        url = page.get("next_url", "").removeprefix("http://sim")


def local(ts_ms: int) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, NEW_YORK)


def midnight(day: str) -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=NEW_YORK).timestamp() * 1000)


def aggs(ticker: str, span: str, first: object, last: object, **query: object) -> str:
    tail = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/v2/aggs/ticker/{ticker}/range/{span}/{first}/{last}?{tail}"


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize(
    ("ticker", "span", "timeframe", "limit"),
    [
        ("AAPL", "1/minute", Timeframe.m1, 300),
        ("THIN", "5/minute", Timeframe.m5, 100),
        ("AAPL", "1/hour", Timeframe.h1, 170),
        ("X:BTCUSD", "4/hour", Timeframe.h4, 1000),
        ("AAPL", "1/day", Timeframe.d1, 1),
        ("AAPL", "1/month", Timeframe.mn1, 30),
    ],
)
def test_pages_lose_and_double_no_bar(
    sort: str, ticker: str, span: str, timeframe: Timeframe, limit: int
) -> None:
    last = "2024-07-31" if timeframe is Timeframe.mn1 else "2024-07-05"
    zone = ZoneInfo("UTC") if ticker.startswith("X:") else NEW_YORK
    found = list(pages(aggs(ticker, span, "2024-07-01", last, sort=sort, limit=limit)))
    stamps = [bar.t for page in found for bar in page["results"]]
    start = round(datetime(2024, 7, 1, tzinfo=zone).timestamp() * 1000)
    end = date.fromisoformat(last) + timedelta(days=1)
    end_ms = round(datetime(end.year, end.month, end.day, tzinfo=zone).timestamp() * 1000)
    truth = MARKET.bars(ticker, timeframe, start, end_ms).ts_ms.tolist()
    assert stamps == (truth if sort == "asc" else truth[::-1])
    for page in found:
        assert page["resultsCount"] == page["count"] == len(page["results"])
        assert page["queryCount"] <= limit or page["resultsCount"] == 1


def test_limit_counts_base_aggregates_and_a_page_carries_whole_bars() -> None:
    one = MARKET.bars("AAPL", Timeframe.m1, midnight("2024-07-02"), midnight("2024-07-03"))
    hours = [local(ts).hour for ts in one.ts_ms.tolist()]
    at_four, at_five = hours.count(4), hours.count(5)
    url = aggs("AAPL", "1/hour", "2024-07-02", "2024-07-02", limit=at_four + at_five)
    page = get(url)
    assert (page["queryCount"], page["resultsCount"]) == (at_four + at_five, 2)
    page = get(url[:-2] + str(at_four + at_five - 1)[-2:])
    assert (page["queryCount"], page["resultsCount"]) == (at_four, 1)
    page = get(aggs("AAPL", "1/hour", "2024-07-02", "2024-07-02", limit=1))
    assert (page["queryCount"], page["resultsCount"]) == (at_four, 1)
    assert "next_url" in page


def test_a_first_bar_larger_than_the_limit_does_not_end_the_pages() -> None:
    url = aggs("AAPL", "1/week", "2024-07-01", "2024-07-26", limit=1)
    assert [page["resultsCount"] for page in pages(url)] == [1, 1, 1, 1]


def test_a_page_that_ends_with_the_data_has_no_next() -> None:
    page = get(aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", limit=4))
    assert page["resultsCount"] == 4
    assert "next_url" not in page


def test_next_url_moves_past_the_last_bar_and_hides_its_parameters() -> None:
    url = aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", limit=2, adjusted="false")
    page = get(url + "&apiKey=secret")
    after = midnight("2024-07-03")
    path, _, query = page["next_url"].removeprefix("http://sim").partition("?")
    assert path == f"/v2/aggs/ticker/AAPL/range/1/day/{after}/2024-07-05"
    assert query.startswith("cursor=")
    assert "secret" not in page["next_url"]
    assert "=" not in query.removeprefix("cursor=")
    assert get(f"{path}?{query}")["adjusted"] is False


def test_a_weekly_request_from_a_tuesday_begins_with_the_sunday_before() -> None:
    page = get(aggs("AAPL", "1/week", "2024-07-02", "2024-07-09"))
    assert [local(bar.t).isoformat()[:16] for bar in page["results"]] == [
        "2024-06-30T00:00",
        "2024-07-07T00:00",
    ]
    week = MARKET.bars("AAPL", Timeframe.w1, midnight("2024-07-01"), midnight("2024-07-02"))
    assert page["results"][0].v == week.volume[0]


def test_crypto_weeks_on_the_wire_run_from_sunday_to_saturday() -> None:
    page = get(aggs("X:BTCUSD", "1/week", "2024-07-03", "2024-07-03", adjusted="false"))
    (week,) = page["results"]
    assert datetime.fromtimestamp(week.t / 1000, UTC) == datetime(2024, 6, 30, tzinfo=UTC)
    days = MARKET.bars("X:BTCUSD", Timeframe.d1, week.t, week.t + 7 * DAY_MS)
    assert week.v == days.volume.sum()


def test_from_and_to_snap_outward_to_whole_bars() -> None:
    start = midnight("2024-07-02") + 10 * 60 * MINUTE_MS
    page = get(aggs("AAPL", "15/minute", start + 7 * MINUTE_MS, start + 31 * MINUTE_MS))
    assert [bar.t - start for bar in page["results"]] == [
        0,
        15 * MINUTE_MS,
        30 * MINUTE_MS,
    ]
    page = get(aggs("AAPL", "1/month", "2024-07-15", "2024-08-15"))
    assert [local(bar.t).date() for bar in page["results"]] == [
        date(2024, 7, 1),
        date(2024, 8, 1),
    ]
    page = get(aggs("AAPL", "1/day", start, start))
    assert [bar.t for bar in page["results"]] == [midnight("2024-07-02")]


def test_defaults_are_adjusted_ascending_and_five_thousand() -> None:
    page = get("/v2/aggs/ticker/SPLT/range/1/minute/2024-05-01/2024-07-01")
    assert page["adjusted"] is True
    assert page["queryCount"] == 5000
    assert page["results"][0].t < page["results"][-1].t
    assert page["results"][0].c < 100
    raw = get("/v2/aggs/ticker/SPLT/range/1/minute/2024-05-01/2024-07-01?adjusted=false")
    assert raw["adjusted"] is False
    assert raw["results"][0].c > 400


def test_an_unknown_ticker_and_an_empty_range_are_ok_without_results() -> None:
    for url in (
        aggs("NOSUCH", "1/day", "2024-07-01", "2024-07-05"),
        aggs("X:NOSUCH", "1/day", "2024-07-01", "2024-07-05"),
        aggs("aapl", "1/day", "2024-07-01", "2024-07-05"),
        aggs("AAPL", "1/day", "2024-07-06", "2024-07-07"),
        aggs("AAPL", "1/minute", "2024-07-04", "2024-07-04"),
        aggs("AAPL", "1/day", "1985-01-01", "1986-01-01"),
        aggs("NEWCO", "1/day", "2023-01-01", "2024-03-13"),
        aggs("AAPL", "1/day", "2025-03-06", "2030-01-01"),
    ):
        page = get(url)
        assert page["status"] == "OK"
        assert (page["resultsCount"], page["queryCount"]) == (0, 0)
        assert "results" not in page
        assert "next_url" not in page


def test_forming_bars_are_served_in_real_time_as_far_as_they_go() -> None:
    opened = midnight("2025-03-05") + 9 * 60 * MINUTE_MS + 30 * MINUTE_MS
    page = get(aggs("AAPL", "1/minute", opened, "2025-03-06", limit=50000, adjusted="false"))
    assert page["results"][-1].t == midnight("2025-03-05") + (10 * 60 + 7) * MINUTE_MS
    truth = MARKET.bars("AAPL", Timeframe.m1, page["results"][-1].t, page["results"][-1].t + 1)
    assert 0 < page["results"][-1].v <= truth.volume[0] / 2 + 1
    assert page["results"][-1].o == truth.open[0]
    for span, timeframe in (("15/minute", "m15"), ("1/day", "d1"), ("1/week", "w1")):
        page = get(aggs("AAPL", span, "2025-03-05", "2025-03-05", sort="desc", adjusted="false"))
        forming = page["results"][0]
        whole = MARKET.bars("AAPL", Timeframe(timeframe), forming.t, forming.t + 2 * DAY_MS).take(
            slice(1)
        )
        assert forming.v < whole.volume[0]
        later = get(
            aggs("AAPL", span, "2025-03-05", "2025-03-05", sort="desc", adjusted="false"),
            now=NOW + timedelta(minutes=3),
        )
        assert forming.v < later["results"][0].v


def test_before_the_first_trade_of_a_day_it_has_no_bar() -> None:
    early = datetime(2025, 3, 5, 3, tzinfo=NEW_YORK)
    page = get(aggs("AAPL", "1/day", "2025-03-03", "2025-03-05"), now=early)
    assert [local(bar.t).day for bar in page["results"]] == [3, 4]


def test_a_day_gets_its_final_values_only_at_midnight() -> None:
    url = aggs("AAPL", "1/day", "2025-03-05", "2025-03-05")
    (evening,) = get(url, now=datetime(2025, 3, 5, 23, 59, tzinfo=NEW_YORK))["results"]
    (final,) = get(url, now=datetime(2025, 3, 6, tzinfo=NEW_YORK))["results"]
    assert evening.v < final.v
    day = MARKET.bars("AAPL", Timeframe.d1, midnight("2025-03-05"), midnight("2025-03-06"))
    assert final.v == day.volume[0]


FREE: Final[dict[str, Any]] = {"plan": "free"}


def test_the_free_plan_ends_with_the_last_finished_session() -> None:
    for span in ("1/minute", "1/hour", "1/day"):
        page = get(aggs("AAPL", span, "2025-03-04", "2025-03-09", sort="desc"), **FREE)
        assert page["status"] == "OK"
        assert local(page["results"][0].t).date() == date(2025, 3, 4)
    crypto = get(aggs("X:BTCUSD", "1/minute", "2025-03-04", "2025-03-05", sort="desc"), **FREE)
    assert crypto["results"][0].t + MINUTE_MS == NOW.timestamp() // 86400 * 86400 * 1000
    after = datetime(2025, 3, 6, tzinfo=NEW_YORK)
    page = get(aggs("AAPL", "1/day", "2025-03-04", "2025-03-09"), now=after, **FREE)
    assert [local(bar.t).day for bar in page["results"]] == [4, 5]


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("2023-03-04", 403),
        ("2023-03-05", 200),
        (midnight("2023-03-05") - 1, 403),
        (midnight("2023-03-05"), 200),
        ("2025-03-04", 200),
        ("2025-03-05", 403),
        ("2025-03-07", 403),
    ],
)
def test_the_free_plan_refuses_what_is_too_old_or_too_recent(first: object, status: int) -> None:
    for span in ("1/minute", "1/day", "1/week"):
        found = answer("GET", ask(aggs("AAPL", span, first, "2026-01-01"), **FREE))
        assert found.status == status
        if status == 403:
            assert found.body["status"] == "NOT_AUTHORIZED"
            assert "upgrade your plan" in found.body["message"]
            assert found.body["request_id"]


def test_the_free_plan_counts_two_years_from_a_leap_day() -> None:
    leap = datetime(2024, 2, 29, 15, tzinfo=UTC)
    assert (
        answer("GET", ask(aggs("AAPL", "1/day", "2022-02-28", "2022-03-10"), leap, "free")).status
        == 200
    )
    assert (
        answer("GET", ask(aggs("AAPL", "1/day", "2022-02-27", "2022-03-10"), leap, "free")).status
        == 403
    )


@pytest.mark.parametrize(
    "url",
    [
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", limit=50001),
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", limit=0),
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", limit="many"),
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", sort="up"),
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", adjusted="maybe"),
        aggs("AAPL", "1/day", "2024-07-01", "2024-07-05", cursor="%C3%A9"),
        aggs("AAPL", "1/day", "2024-07-05", "2024-07-01"),
        aggs("AAPL", "1/day", "2024-13-01", "2024-07-01"),
        aggs("AAPL", "1/day", "yesterday", "2024-07-01"),
        aggs("AAPL", "7/minute", "2024-07-01", "2024-07-05"),
        aggs("AAPL", "1/second", "2024-07-01", "2024-07-05"),
        "/v3/reference/splits?limit=1001",
        "/v3/reference/splits?execution_date.gte=soon",
        "/v3/reference/splits?sort=split_to",
        "/stocks/v1/splits?limit=5001",
        "/stocks/v1/splits?sort=execution_date.up",
        "/stocks/v1/dividends?sort=cash_amount.asc",
        "/v2/aggs/grouped/locale/us/market/stocks/today",
    ],
)
def test_a_question_that_makes_no_sense_is_a_400(url: str) -> None:
    found = answer("GET", ask(url))
    assert found.status == 400
    assert found.body["status"] == "ERROR"
    assert found.body["error"]


def test_other_paths_and_methods_are_refused() -> None:
    assert answer("GET", ask("/v1/nothing")).status == 404
    assert answer("POST", ask("/v3/reference/splits")).status == 405


def test_grouped_daily_has_every_ticker_of_the_session_stamped_with_its_close() -> None:
    page = get("/v2/aggs/grouped/locale/us/market/stocks/2024-07-03?adjusted=false")
    assert page["resultsCount"] == len(page["results"]) > 1000
    rows = {row.T: row for row in page["results"]}
    assert {local(row.t).isoformat()[:16] for row in rows.values()} == {"2024-07-03T13:00"}
    for ticker in ("AAPL", "BRK.B", "SPLT", "SIM999"):
        day = MARKET.bars(ticker, Timeframe.d1, midnight("2024-07-03"), midnight("2024-07-04"))
        assert (rows[ticker].c, rows[ticker].v) == (day.close[0], day.volume[0])
    assert not any(ticker.startswith("X:") for ticker in rows)


def test_grouped_daily_of_crypto_is_its_own_market() -> None:
    page = get("/v2/aggs/grouped/locale/global/market/crypto/2024-07-06")
    pairs = ["X:BTCUSD", "X:ETHUSD", "X:BTCUSDT", "X:ETHUSDT"]
    assert [row.T for row in page["results"]] == pairs
    stamp = datetime.fromtimestamp(page["results"][0].t / 1000, UTC)
    assert (stamp.day, stamp.hour) == (6, 23)


def test_grouped_daily_of_a_closed_or_unfinished_day_is_empty() -> None:
    for day in ("2024-07-04", "2024-07-06", "2025-03-05", "1999-01-04"):
        page = get(f"/v2/aggs/grouped/locale/us/market/stocks/{day}")
        assert page["resultsCount"] == 0
        assert "results" not in page
    free = ask("/v2/aggs/grouped/locale/us/market/stocks/2022-07-05", plan="free")
    assert answer("GET", free).status == 403


def test_splits_are_filtered_sorted_and_paged() -> None:
    later = datetime(2026, 1, 5, tzinfo=UTC)
    rows = [
        row for page in pages("/v3/reference/splits?limit=2", now=later) for row in page["results"]
    ]
    assert [row["execution_date"] for row in rows] == [
        "2025-03-17",
        "2025-03-10",
        "2024-10-16",
        "2024-10-09",
        "2024-09-23",
        "2024-07-01",
        "2024-06-10",
        "2024-03-11",
        "2024-02-12",
        "2023-06-12",
        "2022-03-28",
        "2019-06-05",
    ]
    url = "/v3/reference/splits?ticker=TWICE&execution_date.gt=2024-10-09&order=asc"
    (row,) = get(url)["results"]
    assert row == {
        "execution_date": "2024-10-16",
        "split_from": 1,
        "split_to": 10,
        "ticker": "TWICE",
    }
    assert get("/v3/reference/splits?execution_date.lt=2019-06-05")["results"] == []
    assert len(get("/v3/reference/splits?execution_date=2024-06-10")["results"]) == 1


def test_the_newer_lists_hold_the_same_under_other_names_and_in_other_orders() -> None:
    def rows(url: str) -> list[dict[str, Any]]:
        return [row for page in pages(url) for row in page["results"]]

    newer, older = rows("/stocks/v1/splits?limit=2"), rows("/v3/reference/splits?limit=1000")
    assert [{name: row[name] for name in older[0]} for row in newer] == older
    assert {row["adjustment_type"] for row in newer} == {"forward_split", "reverse_split"}
    ascending = rows("/stocks/v1/splits?sort=execution_date.asc&limit=5000")
    assert ascending == sorted(newer, key=lambda row: (row["execution_date"], row["ticker"]))
    paid = rows("/stocks/v1/dividends?limit=3")
    assert [row["ticker"] for row in paid] == sorted(row["ticker"] for row in paid)
    assert {row["distribution_type"] for row in paid} == {"recurring"}
    assert len(paid) == len(rows("/v3/reference/dividends"))


def test_a_split_is_listed_from_its_announcement_on() -> None:
    url = "/v3/reference/splits?ticker=RVRS"
    assert get(url, now=datetime(2024, 9, 29, tzinfo=NEW_YORK))["results"] == []
    assert get(url, now=datetime(2024, 9, 30, tzinfo=NEW_YORK))["results"]
    url = "/v3/reference/splits?ticker=SPLT&execution_date.gte=2025-01-01"
    assert get(url, now=datetime(2025, 3, 2, tzinfo=NEW_YORK))["results"] == []
    assert get(url, now=datetime(2025, 3, 3, tzinfo=NEW_YORK))["results"]


def test_dividends_are_filtered_by_their_dates() -> None:
    august = "ex_dividend_date.gte=2024-08-01&ex_dividend_date.lte=2024-08-31"
    (row,) = get(f"/v3/reference/dividends?ticker=AAPL&{august}")["results"]
    assert row["ex_dividend_date"] == "2024-08-09"
    assert row["cash_amount"] == 0.25


def test_ticker_details_say_since_when_and_until_when_a_ticker_trades() -> None:
    def details(ticker: str, now: datetime = NOW) -> dict[str, Any]:
        results: dict[str, Any] = get(f"/v3/reference/tickers/{ticker}", now)["results"]
        return results

    apple = details("AAPL")
    assert apple["list_date"] == "1980-12-12"
    assert (apple["market"], apple["type"], apple["active"]) == ("stocks", "CS", True)
    assert apple["composite_figi"] != details("MSFT")["composite_figi"]
    assert "delisted_utc" not in apple
    dead = details("DEADCO")
    assert (dead["active"], dead["delisted_utc"][:10]) == (False, "2024-08-30")
    assert details("DEADCO", datetime(2024, 8, 1, tzinfo=UTC))["active"] is True
    assert details("BRK.B")["market"] == "stocks"
    assert details("X:BTCUSD")["market"] == "crypto"


@pytest.mark.parametrize("ticker", ["NOSUCH", "aapl", "SIM1000"])
def test_the_reference_does_not_know_an_unknown_ticker(ticker: str) -> None:
    found = answer("GET", ask(f"/v3/reference/tickers/{ticker}"))
    assert found.status == 404
    assert found.body == {"status": "NOT_FOUND", "request_id": "id", "message": "Ticker not found."}


def test_a_ticker_not_yet_listed_is_unknown() -> None:
    before = datetime(2024, 3, 13, tzinfo=NEW_YORK)
    assert answer("GET", ask("/v3/reference/tickers/NEWCO", before)).status == 404


def test_the_list_of_tickers_pages_without_listing_dates() -> None:
    found = [row for page in pages("/v3/reference/tickers?limit=400") for row in page["results"]]
    names = [row["ticker"] for row in found]
    assert names == sorted(names)
    assert set(names) == set(MARKET.tickers) - {"DEADCO", "OLDNM", "DRAD"}
    assert not any("list_date" in row for row in found)
    (dead,) = get("/v3/reference/tickers?active=false")["results"]
    assert dead["ticker"] == "DEADCO"
    crypto = get("/v3/reference/tickers?market=crypto")["results"]
    dollars, tethers = ["X:BTCUSD", "X:ETHUSD"], ["X:BTCUSDT", "X:ETHUSDT", "X:SOLUSDT"]
    assert [row["ticker"] for row in crypto] == sorted(dollars + tethers)
    paid = {row["ticker"]: row["currency_symbol"] for row in crypto}
    assert paid == dict.fromkeys(dollars, "USD") | dict.fromkeys(tethers, "USDT")


def test_events_tell_the_names_of_a_company_and_a_ticker_has_the_bars_of_who_had_it() -> None:
    def events(ticker: str, day: date) -> list[tuple[str, str]]:
        now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        results = get(f"/vX/reference/tickers/{ticker}/events?types=ticker_change", now=now)
        found = results["results"]["events"]
        return [(event["ticker_change"]["ticker"], event["date"]) for event in found]

    was = ("OLDNM", "2015-06-01")
    assert events("OLDNM", date(2024, 5, 17)) == [was]
    assert events("NEWNM", date(2024, 5, 18)) == [("NEWNM", "2024-05-18"), was]
    assert events("AAPL", date(2024, 5, 18)) == [("AAPL", "1980-12-12")]
    gone = ask("/v3/reference/tickers/OLDNM", datetime(2024, 5, 18, 12, tzinfo=UTC))
    assert answer("GET", gone).status == 404
    assert answer("GET", ask("/vX/reference/tickers/X:BTCUSD/events")).status == 404

    def days(ticker: str) -> set[str]:
        url = f"/v2/aggs/ticker/{ticker}/range/1/day/2023-11-13/2024-05-24?adjusted=false"
        rows = get(url, now=datetime(2024, 7, 1, tzinfo=UTC))["results"]
        return {str(datetime.fromtimestamp(row.t / 1000, NEW_YORK).date()) for row in rows}

    new, old = days("NEWNM"), days("OLDNM")
    assert (min(new), max(new)) == ("2023-11-13", "2024-05-24")
    assert not {day for day in new if "2023-11-17" < day < "2024-05-20"}
    assert (min(old), max(old)) == ("2023-11-13", "2024-05-17")


def test_a_ticker_that_is_used_again_has_another_figi() -> None:
    def details(day: date) -> tuple[bool, str, str]:
        now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        found = get("/v3/reference/tickers/REUSE", now=now)["results"]
        return found["active"], found["list_date"], found["composite_figi"]

    first, between, second = map(details, (date(2024, 6, 3), date(2024, 12, 2), date(2025, 2, 3)))
    assert first[:2] == (True, "2011-03-01")
    assert between == (False, *first[1:])
    assert second[:2] == (True, "2025-01-15")
    assert second[2] != first[2]
