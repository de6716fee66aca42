"""The pages of a server in front of a real database: what they show, and to whom."""

import re
from dataclasses import replace
from html import unescape
from math import isfinite
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pytest
from aiohttp import ClientSession
from yarl import URL

from backfill.audit.overview import overview_in
from backfill.core.checks import Reason
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.report.making import facts_of
from backfill.report.page import render
from backfill.serve.symbol import address
from backfill.settings import Settings
from backfill.store.pool import Database
from backfill.store.times import to_ms
from tests.conftest import NOW
from tests.faults.proxy import Proxy
from tests.integration.serve_kit import serving
from tests.integration.store_kit import (
    START,
    as_user,
    bar,
    chunk,
    claimed,
    connection_to,
    database_name,
    minutes,
    rejected,
    rows,
    span_of,
    write,
)

TICKER: Final = "X:BTCUSD"
TOKEN: Final = "correct-horse-battery-staple"
PAGE: Final = {"Accept": "text/html"}
HOSTILE: Final = "<script>alert('1')</script>\"'><img src=x onerror=alert(2)>\u202e"
HOSTILE_PATH: Final = quote(HOSTILE, safe="")
EVIL: Final = re.compile(r"<script>|<img|\u202e|onerror=alert\(2\)[\"'>]")
MISSING: Final = (10, 11, 12)
BAD: Final = 20


# Another is watched, so nobody means to keep this one: it is due as far as it was covered.
KEPT: Final = """
    WITH confirmed AS (UPDATE symbols SET confirmed_at = now()),
    other AS (
        INSERT INTO symbols (ticker, asset_type, calendar) VALUES ('X:ETHUSD', 'crypto', '24/7')
        RETURNING id
    )
    INSERT INTO watchlist (symbol_id, timeframes) SELECT id, '{d1}' FROM other
"""


# One is listed under the symbol's own name, one under another; one is somebody else's.
SPLITS: Final = """
    INSERT INTO splits (ticker, execution_date, split_from, split_to, status, symbol_id)
    VALUES ('AAPL', '2024-11-06', 1, 4, 'applied', NULL),
        ('OLDER', '2024-11-07', 1, 3, 'applied', $1),
        ('OTHER', '2024-11-08', 1, 2, 'applied', NULL)
    RETURNING 1
"""


async def keep(database: Database, ticker: str = TICKER) -> None:
    """Store an hour of minutes that lacks three, and has one in quarantine."""
    run_id, (series,) = await claimed(database, ticker, Timeframe.m1)
    hour = minutes(60)
    stored = hour.take(np.array([at for at in range(60) if at not in {*MISSING, BAD}]))
    claims = span_of(hour)
    bad = bar(START + BAD * MINUTE_MS, high=1.0)
    await write(database, run_id, chunk(series, stored, claims=claims))
    await write(database, run_id, rejected(series, bad, Reason.high_low))
    await rows(database, KEPT)


async def seen(client: ClientSession, path: str | URL) -> tuple[int, str]:
    """Look at a page, and return its status and its text."""
    async with client.get(path, headers=PAGE) as got:
        return got.status, await got.text()


async def test_a_series_has_a_page_with_its_bars_and_where_they_are_missing_or_bad(
    database: Database, database_url: str
) -> None:
    await keep(database)
    async with serving(database_url) as client:
        status, page = await seen(client, "/symbols/X%3ABTCUSD?timeframe=m1")
        async with client.get("/drawing?symbol=X:BTCUSD&timeframe=m1") as got:
            drawing = await got.json()
    assert status == 200
    assert len(re.findall(r"<td>regular</td>", page)) == 56
    told = {(one["kind"], one["text"]): one["time"] for one in drawing["marks"]}
    first = START // 1000
    assert told["gap", "3 bars missing"] == first + MISSING[0] * 60
    assert told["quarantined", "high low"] == first + BAD * 60
    slots = [*drawing["bars"]["time"], *drawing["blank"]]
    assert sorted(slots) == list(range(first, first + 3600, 60))
    assert "3 bars missing" in page
    assert "backfill gaps --repair X:BTCUSD -t m1" in page
    assert "https://www.tradingview.com/" in page


async def test_a_split_is_marked_wherever_it_adjusts_under_whatever_name_it_is_listed(
    database: Database, database_url: str
) -> None:
    run_id, (plain,) = await claimed(database, "AAPL", Timeframe.d1)
    listing_run, (listing,) = await claimed(database, "AAPL@finnhub", Timeframe.d1)
    days = np.datetime64("2024-11-04T05:00") + np.arange(5) * np.timedelta64(1, "D")
    bars = replace(minutes(5), ts_ms=days.astype("datetime64[ms]").astype(np.int64))
    await write(database, run_id, chunk(plain, bars))
    await write(database, listing_run, chunk(listing, bars))
    await rows(database, SPLITS, plain.symbol.id)
    async with serving(database_url) as client:
        for ticker in ("AAPL", "AAPL@finnhub"):
            async with client.get(f"/drawing?symbol={ticker}&timeframe=d1&adjusted=yes") as got:
                drawing = await got.json()
            opens = drawing["bars"]["open"]
            assert opens[2] > 2 * opens[1] > 0
            marks = {one["time"]: one["text"] for one in drawing["marks"] if one["kind"] == "split"}
            assert marks == {1730851200: "split 4:1", 1730937600: "split 3:1"}


async def test_what_lacks_before_the_oldest_bar_is_shown_with_it(
    database: Database, database_url: str
) -> None:
    run_id, (series,) = await claimed(database, TICKER, Timeframe.m1)
    hour = minutes(60)
    await write(database, run_id, chunk(series, hour.take(slice(3, 60)), claims=span_of(hour)))
    bad = bar(START + MINUTE_MS, high=1.0)
    await write(database, run_id, rejected(series, bad, Reason.high_low))
    await rows(database, KEPT)
    async with serving(database_url) as client:
        async with client.get("/drawing?symbol=X:BTCUSD&timeframe=m1") as got:
            whole = await got.json()
        async with client.get("/drawing?symbol=X:BTCUSD&timeframe=m1&bars=50") as got:
            newest = await got.json()
    first = START // 1000
    assert whole["blank"] == [first, first + 60, first + 120]
    assert {one["kind"] for one in whole["marks"]} == {"gap", "quarantined"}
    assert newest["marks"] == []


async def test_of_more_bad_bars_than_the_page_lists_it_says_that_there_are_more(
    database: Database, database_url: str
) -> None:
    await keep(database)
    path = "/symbols/X:BTCUSD?timeframe=m1"
    told = "The newest 200; all: <code>backfill quarantine list X:BTCUSD -t m1</code>"
    async with serving(database_url) as client:
        assert told not in (await seen(client, path))[1]
        await rows(database, MORE_BAD)
        assert told in (await seen(client, path))[1]


MORE_BAD: Final = """
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT symbol_id, timeframe, ts + make_interval(secs => more), reason, raw, run_id
    FROM quarantined_bars, generate_series(1, 200) AS more
"""


@pytest.mark.parametrize("close", ["NULL", "'NaN'", "'Infinity'"])
async def test_a_bar_without_a_close_is_passed_over_where_closes_are_shown(
    database: Database, close: str
) -> None:
    await keep(database)
    for constraint in await rows(database, NUMBERS):
        await rows(database, f"ALTER TABLE ohlc_bars DROP CONSTRAINT {constraint['conname']}")
    await rows(database, "ALTER TABLE ohlc_bars ALTER close DROP NOT NULL")
    newest = "ts = (SELECT max(ts) FROM ohlc_bars)"
    await rows(database, f"UPDATE ohlc_bars SET close = {close} WHERE {newest}")
    seen = await overview_in(database, Settings(), NOW, with_bars=True)
    assert seen.closes is not None
    ((at, closes),) = seen.closes.values()
    assert (to_ms(at), len(closes)) == (START + 58 * MINUTE_MS, 55)
    assert all(map(isfinite, closes))
    assert "55 closes up to" in render(facts_of(seen))


NUMBERS: Final = """
    SELECT conname FROM pg_constraint WHERE conrelid = 'ohlc_bars'::regclass AND contype = 'c'
"""


@pytest.mark.parametrize("ticker", ["BTC/USD", "X:BTCUSD", "BTC/USD@coinbase", "BRK.B"])
async def test_whatever_a_ticker_holds_its_page_is_found_under_its_address(
    database: Database, database_url: str, ticker: str
) -> None:
    await claimed(database, ticker, Timeframe.d1)
    async with serving(database_url) as client:
        status, page = await seen(client, URL(address(ticker), encoded=True))
        assert (status, f"<h1>{ticker}</h1>" in page) == (200, True)
        links = re.findall(r'href="(/symbols/[^"]+)"', page)
        assert len(links) >= 4
        for link in links:
            assert (await seen(client, URL(unescape(link), encoded=True)))[0] == 200


async def test_older_bars_are_a_page_of_their_own(database: Database, database_url: str) -> None:
    await keep(database)
    stamps: list[str] = []
    async with serving(database_url) as client:
        at: URL | None = URL("/symbols/X:BTCUSD?timeframe=m1&bars=20")
        while at is not None:
            async with client.get(at) as got:
                page = await got.text()
            stamps += re.findall(r'<th scope="row">([^<]+)</th><td class="n">', page)
            older = re.search(r'rel="prev" href="([^"]+)"', page)
            at = URL(unescape(older[1]), encoded=True) if older else None
    assert len(stamps) == 56
    assert stamps == sorted(stamps, reverse=True)


async def test_what_is_unknown_or_no_question_is_refused_in_a_line(
    database: Database, database_url: str
) -> None:
    await keep(database)
    async with serving(database_url) as client:
        for path, status, line in (
            ("/symbols/NOPE", 404, "NOPE is not known"),
            ("/symbols/X:BTCUSD?timeframe=m2", 400, "m2"),
            ("/symbols/X:BTCUSD?bars=0", 400, "bars"),
            ("/symbols/X:BTCUSD?bars=50001", 400, "50,000"),
            ("/symbols/X:BTCUSD?until=soon", 400, "soon"),
            (URL(f"/symbols/{HOSTILE_PATH}", encoded=True), 404, "is not known"),
        ):
            got, page = await seen(client, path)
            assert (got, line in page) == (status, True), path
            assert not EVIL.search(page)


async def test_whatever_others_wrote_is_shown_as_text(
    database: Database, database_url: str
) -> None:
    await keep(database)
    await rows(database, "UPDATE symbols SET ticker = $1 WHERE ticker = 'X:BTCUSD'", HOSTILE)
    await rows(
        database,
        """
        WITH raw AS (UPDATE quarantined_bars SET reason = $1, raw = jsonb_build_object($1, $1)),
        source AS (UPDATE backfill_progress SET provider = $1, feed = $1)
        INSERT INTO dividends (
            ticker, ex_dividend_date, dividend_type, cash_amount, currency, seen_at
        )
        VALUES (replace($1, '-', '.'), '2023-11-14', $1, 0.25, $1, now())
        """,
        HOSTILE,
    )
    async with serving(database_url) as client:
        status, page = await seen(
            client, URL(f"/symbols/{HOSTILE_PATH}?timeframe=m1", encoded=True)
        )
    assert status == 200
    assert page.count("&lt;script&gt;alert(") > 5
    assert not EVIL.search(page)


async def test_a_login_that_sees_no_row_is_refused_and_not_shown_an_empty_database(
    database: Database, database_url: str
) -> None:
    await keep(database)
    name = f"reader_{database_name(database_url)}"
    async with connection_to(database_url) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        await owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        reader = as_user(database_url, name, "x")
        try:
            async with serving(reader) as client:
                status, page = await seen(client, "/symbols/X:BTCUSD?timeframe=m1")
            assert status == 503
            assert "rows of backfill_changes" in page
            await owner.execute(POLICIES.format(role=name))
            async with serving(reader) as client:
                status, page = await seen(client, "/symbols/X:BTCUSD?timeframe=m1")
            assert (status, "3 bars missing" in page) == (200, True)
        finally:
            await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


POLICIES: Final = """
    DO $$
    DECLARE
        one text;
    BEGIN
        FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('CREATE POLICY {role} ON %I FOR SELECT TO {role} USING (true)', one);
        END LOOP;
    END
    $$
"""


async def test_the_token_is_shown_once_in_a_form_and_a_cookie_stands_for_it(
    database: Database, database_url: str
) -> None:
    await keep(database)
    path = "/symbols/X:BTCUSD?timeframe=m1"
    async with serving(database_url, token=TOKEN) as client:
        status, form = await seen(client, path)
        assert status == 401
        assert 'type="password"' in form
        leads_to = re.search(r'name="next" value="([^"]*)"', form)
        assert leads_to
        assert unescape(leads_to[1]) == path
        sent = {"token": f"{TOKEN}?", "next": path}
        async with client.post("/login", data=sent, allow_redirects=False) as got:
            assert (got.status, got.cookies) == (403, {})
        sent["token"] = TOKEN
        async with client.post("/login", data=sent, allow_redirects=False) as got:
            assert (got.status, got.headers["Location"]) == (303, path)
            cookie = got.cookies["backfill_serve"]
        assert TOKEN not in cookie.value
        assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Strict", "")
        assert (await seen(client, path))[0] == 200
        until, _, seal = cookie.value.partition(".")
        for wrong in (f"{int(until) + 1}.{seal}", f"{until}.{seal[:-1]}", f"1.{seal}"):
            client.cookie_jar.clear()
            shown = {"Cookie": f"backfill_serve={wrong}"}
            async with client.get(path, headers=shown) as got:
                assert got.status == 401


@pytest.mark.parametrize(
    "leads_to", ["//evil.example", "https://evil.example", "/\\evil.example", ""]
)
async def test_the_form_leads_to_no_other_server(database_url: str, leads_to: str) -> None:
    sent = {"token": TOKEN, "next": leads_to}
    async with (
        serving(database_url, token=TOKEN) as client,
        client.post("/login", data=sent, allow_redirects=False) as got,
    ):
        assert (got.status, got.headers["Location"]) == (303, "/")


async def test_a_page_that_has_not_changed_is_not_sent_again(
    database: Database, database_url: str
) -> None:
    await keep(database)
    async with serving(database_url) as client:
        for path in ("/symbols/X:BTCUSD?timeframe=m1", "/drawing?symbol=X:BTCUSD&timeframe=m1"):
            async with client.get(path) as got:
                tag = {"If-None-Match": got.headers["ETag"]}
            async with client.get(path, headers=tag) as got:
                assert (got.status, await got.read()) == (304, b"")
        await rows(database, "DELETE FROM ohlc_bars WHERE ts = (SELECT min(ts) FROM ohlc_bars)")
        async with client.get(path, headers=tag) as got:
            assert got.status == 200


async def test_a_database_that_is_away_is_told_in_a_line_until_it_is_back(
    database: Database, database_url: str, proxy: Proxy
) -> None:
    await keep(database)
    path = "/symbols/X:BTCUSD?timeframe=m1"
    async with serving(proxy.url(database_url)) as client:
        assert (await seen(client, path))[0] == 200
        proxy.refuse()
        proxy.cut()
        async with client.get(path) as got:
            assert (got.status, "Retry-After" in got.headers) == (503, True)
            assert (await got.json())["error"].startswith("the database")
        proxy.refuse(refusing=False)
        assert (await seen(client, path))[0] == 200


async def test_the_front_page_is_the_report_that_leads_to_every_series_and_asks_more_in_a_run(
    database: Database, database_url: str
) -> None:
    await keep(database)
    async with serving(database_url) as client:
        status, page = await seen(client, "/")
        assert status == 200
        assert '<meta name="refresh-seconds" content="30">' in page
        links = re.findall(r'href="(/symbols/[^"]+)"', page)
        (link,) = [one for one in links if "BTCUSD" in one]
        status, of_series = await seen(client, URL(unescape(link), encoded=True))
        assert (status, "<h1>X:BTCUSD</h1>" in of_series) == (200, True)
    await rows(
        database,
        """
        INSERT INTO backfill_runs (run_id, started_at, mode, provider)
        VALUES ($1, '2024-11-12 11:59Z', 'default', $2)
        """,
        uuid4(),
        HOSTILE,
    )
    async with serving(database_url) as client:
        _, page = await seen(client, "/")
    assert '<meta name="refresh-seconds" content="5">' in page
    assert "&lt;script&gt;" in page
    assert not EVIL.search(page)


@pytest.mark.parametrize("path", ["/", "/symbols/X:BTCUSD?timeframe=m1", "/nowhere", "/login"])
async def test_no_page_has_a_script_or_a_style_within_or_asks_another_server(
    database: Database, database_url: str, path: str
) -> None:
    await keep(database)
    async with serving(database_url) as client:
        _, page = await seen(client, path)
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
        for file in re.findall(r'<(?:script|link)[^>]*? (?:src|href)="(/[^"]*)"', page):
            async with client.get(file) as got:
                assert got.status == 200, file
        assert not re.findall(r'<(?:script|link|img|form|iframe)[^>]*="(?:https?:)?//', page)
