"""The served pages in a browser, judged by their structure: what is drawn, and where marks lie."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import pytest

from backfill.serve import front, symbol
from tests.browser.test_report import violations
from tests.conftest import NOW, query
from tests.integration.serve_kit import server_in_thread

pytestmark = pytest.mark.browser

TOKEN: Final = "correct-horse-battery-staple"
MANY: Final = 50_000
DRAWN_MS: Final = 120_000
MINUTE: Final = timedelta(minutes=1)
_SIZE: Final = {"width": 1280, "height": 1000}
_HOSTILE: Final = "<script>document.title='taken'</script>"

# Fifty thousand minutes of a pair up to NOW, and the days and an early morning of a share, each
# covered as far as there are bars; another symbol is watched, so nobody keeps them up to date.
_KEPT: Final = """
    WITH s AS (
        INSERT INTO symbols (ticker, asset_type, calendar, confirmed_at)
        VALUES ('X:BTCUSD', 'crypto', '24/7', now()), ('AAPL', 'stock', 'XNYS', now()),
            ('X:ETHUSD', 'crypto', '24/7', now())
        RETURNING id, ticker
    ),
    slots AS (
        SELECT s.id, 'm1'::timeframe AS timeframe, ts
        FROM s, generate_series($1::timestamptz - $2::integer * interval '1 minute',
            $1::timestamptz - interval '1 minute', '1 minute') AS ts
        WHERE s.ticker = 'X:BTCUSD'
        UNION ALL
        SELECT s.id, 'd1', m.session::timestamp AT TIME ZONE 'America/New_York'
        FROM s, market_sessions AS m
        WHERE s.ticker = 'AAPL' AND m.calendar = 'XNYS'
            AND m.session BETWEEN '2024-09-03' AND '2024-11-11'
        UNION ALL
        SELECT s.id, 'm1', ts
        FROM s, generate_series('2024-11-11 14:00Z'::timestamptz, '2024-11-11 14:59Z', '1 minute')
            AS ts
        WHERE s.ticker = 'AAPL'
    ),
    progress AS (
        INSERT INTO backfill_progress (
            symbol_id, timeframe, provider, feed, adjustment, wanted_from, coverage
        )
        SELECT id, timeframe, 'massive', 'sip', 'raw', min(ts), tstzmultirange(tstzrange(
            min(ts), max(ts) + CASE timeframe WHEN 'm1' THEN interval '1 minute'
                ELSE interval '1 day' END
        ))
        FROM slots
        GROUP BY id, timeframe
    ),
    watched AS (
        INSERT INTO watchlist (symbol_id, timeframes)
        SELECT id, '{d1}' FROM s WHERE ticker = 'X:ETHUSD'
    ),
    bad AS (
        INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
        SELECT id, 'd1', '2024-10-15 04:00Z', 'high_low', jsonb_build_object($3::text, 1),
            gen_random_uuid()
        FROM s WHERE ticker = 'AAPL'
    ),
    actions AS (
        INSERT INTO splits (
            ticker, execution_date, split_from, split_to, first_seen_at, status, tested
        )
        VALUES ('AAPL', '2024-10-31', 1, 4, now(), 'applied', true)
    ),
    paid AS (
        INSERT INTO dividends (
            ticker, ex_dividend_date, dividend_type, cash_amount, currency, seen_at
        )
        VALUES ('AAPL', '2024-11-08', 'CD', 0.25, $3::text, now())
    )
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume)
    SELECT id, timeframe, ts, 100 + p, 103 + p, 98 + p,
        100.5 + 2 * cos(p)::double precision + p, 10 + 5 * abs(p)
    FROM (SELECT *, sin(extract(epoch FROM ts) / 9e5)::double precision * 9 AS p FROM slots) AS b
"""
_LOSE: Final = """
    DELETE FROM ohlc_bars AS b
    USING symbols AS s
    WHERE s.id = b.symbol_id AND s.ticker = $1 AND b.ts = ANY ($2::timestamptz[])
"""
_MARKS: Final = "() => document.getElementById('chart').marks()"
_PLACES: Final = """
    (times) => times.map((time) => document.getElementById('chart').coordinate_of(time))
"""


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that its pages ask again soon."""
    monkeypatch.setattr(symbol, "REFRESH_S", 5)
    monkeypatch.setattr(front, "RESTING_S", 1)
    query(database_url, _KEPT, NOW, MANY, _HOSTILE)
    with server_in_thread(database_url) as address:
        yield address


def drawn(page: Any) -> int:
    """How many bars are drawn, once they are."""
    page.wait_for_selector("#chart[data-drawn]", timeout=DRAWN_MS)
    return int(page.get_attribute("#chart", "data-drawn"))


def assert_own(shown: Any, url: str) -> None:
    """Nothing on the console, and no request to another server."""
    assert shown.complaints == []
    assert [one for one in shown.asked if not one.startswith((url, "data:,"))] == []


def lose(database_url: str, ticker: str, *starts: datetime) -> None:
    """Delete bars, in a thread: the browser's driver keeps a loop running in this one."""
    with ThreadPoolExecutor() as threads:
        threads.submit(query, database_url, _LOSE, ticker, starts).result()


def point_at(page: Any, mark: dict[str, Any]) -> None:
    """Have the mouse where a mark should be drawn: what is drawn there is told."""
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + mark["x"], box["y"] + 5)
    page.mouse.move(box["x"] + mark["x"], box["y"] + mark["y"])


def second(at: datetime) -> int:
    return int(at.timestamp())


def test_fifty_thousand_minutes_are_drawn_and_a_gap_that_is_made_appears_where_it_lies(
    url: str, database_url: str, opened: Callable[..., Any]
) -> None:
    address = f"{url}/symbols/X%3ABTCUSD?timeframe=m1&bars={MANY}"
    with opened(address, viewport=_SIZE) as shown:
        page = shown.page
        assert drawn(page) == MANY
        assert page.evaluate(_MARKS) == []
        lost = [NOW - 2000 * MINUTE, NOW - 1999 * MINUTE]
        lose(database_url, "X:BTCUSD", *lost)
        page.wait_for_selector('#chart[data-marked="1"]', timeout=DRAWN_MS)
        (mark,) = page.evaluate(_MARKS)
        assert (mark["time"], mark["text"]) == (second(lost[0]), "2 bars missing")
        around = [lost[0] - MINUTE, *lost, lost[1] + MINUTE]
        page.focus("#chart")
        for key in (*["PageUp"] * 200, *["+"] * 9):
            page.keyboard.press(key)
        places = page.evaluate(_PLACES, [second(at) for at in around])
        steps = [after - before for before, after in pairwise(places)]
        assert min(steps) > 0
        assert max(steps) - min(steps) <= 0.02 * max(steps)
        assert page.get_by_text("2 bars missing").first.is_visible()
        assert violations(page) == []
        assert_own(shown, url)


def test_marks_of_a_share_lie_on_their_bars_and_what_others_wrote_is_text(
    url: str, opened: Callable[..., Any], picture: Callable[[Any, str], None]
) -> None:
    for scheme in ("light", "dark"):
        with opened(f"{url}/symbols/AAPL", viewport=_SIZE, color_scheme=scheme) as shown:
            page = shown.page
            assert drawn(page) == 50
            marks = {one["text"]: one for one in page.evaluate(_MARKS)}
            assert marks.keys() == {"S", "D", "high low"}
            told = {
                "S": "2024-10-31: split 4:1",
                "D": f"2024-11-08: dividend 0.25 {_HOSTILE}",
                "high low": "2024-10-15: high low",
            }
            for sign, words in told.items():
                point_at(page, marks[sign])
                assert page.text_content("#said") == words
            assert page.title() == "AAPL d1 · backfill"
            assert violations(page) == []
            assert_own(shown, url)
            if scheme == "light":
                picture(page, "symbol-light.png")


def test_bars_are_read_by_keyboard_and_told_to_a_screen_reader(
    url: str, opened: Callable[..., Any]
) -> None:
    with opened(f"{url}/symbols/AAPL?timeframe=m1", viewport=_SIZE) as shown:
        page = shown.page
        assert drawn(page) == 60
        while page.evaluate("document.activeElement.id") != "chart":
            page.keyboard.press("Tab")
        page.keyboard.press("Home")
        assert page.text_content("#said").startswith("2024-11-11 14:00: open ")
        page.keyboard.press("ArrowRight")
        assert page.text_content("#said").startswith("2024-11-11 14:01: open ")
        page.keyboard.press("End")
        assert page.text_content("#said").startswith("2024-11-11 14:59: open ")
        sessions = page.locator("table.bars td:last-child").all_text_contents()
        assert sessions == ["regular"] * 30 + ["extended"] * 30
        assert_own(shown, url)


def test_without_scripts_the_page_has_the_same_bars_in_a_table(
    url: str, opened: Callable[..., Any]
) -> None:
    with opened(f"{url}/symbols/AAPL", java_script_enabled=False) as shown:
        assert shown.page.locator("table.bars tbody tr").count() == 50
        assert shown.page.get_by_text("split 4:1").is_visible()
        assert shown.page.get_by_text("A script draws them").is_visible()
        shown.page.click("text=adjusted for splits")
        first = shown.page.locator("table.bars tbody tr").last.locator("td").first
        assert float(first.text_content()) < 30
        assert_own(shown, url)


def test_the_front_page_shows_a_new_gap_by_itself_and_keeps_what_was_opened(
    url: str, database_url: str, opened: Callable[..., Any]
) -> None:
    with opened(f"{url}/", viewport=_SIZE) as shown:
        page = shown.page
        group = page.locator("details.group").first
        was_open = group.evaluate("one => one.open")
        group.locator("summary").first.click()
        lost = [datetime.fromisoformat("2024-10-22T00:00-04:00")]
        lose(database_url, "AAPL", *lost)
        page.get_by_text("backfill gaps AAPL -t d1 --repair").wait_for(
            state="attached", timeout=DRAWN_MS
        )
        assert group.evaluate("one => one.open") is not was_open
        page.locator("a", has_text="AAPL").first.evaluate("one => one.click()")
        assert drawn(page) in {49, 60}
        assert_own(shown, url)


def test_the_token_opens_the_pages_once_it_was_typed(
    database_url: str, opened: Callable[..., Any]
) -> None:
    query(database_url, _KEPT, NOW, 10, _HOSTILE)
    with (
        server_in_thread(database_url, token=TOKEN) as url,
        opened(f"{url}/login") as shown,
    ):
        page = shown.page
        assert violations(page) == []
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        page.goto(f"{url}/symbols/AAPL")
        assert drawn(page) == 50
        assert page.evaluate("document.cookie") == ""
        assert_own(shown, url)
