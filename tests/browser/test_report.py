"""The report in a browser, judged by its structure: with scripts and without, in light and dark."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from backfill import api
from backfill.audit.overview import overview
from backfill.core.timeframe import Timeframe
from backfill.report.facts import Facts
from backfill.report.making import facts_of
from backfill.report.page import render
from backfill.simulator import Action, Fault, Simulator
from backfill.store.times import to_ms
from backfill.store.universe import WatchChange
from tests.conftest import NOW, blocking, query
from tests.unit.test_report_page import TROUBLED, facts, group, series

pytestmark = [pytest.mark.browser, pytest.mark.one_database]

TICKERS: Final = ("AAPL", "AMZN", "JPM", "MSFT", "NVDA", "SPY", "TSLA")
BAD: Final = to_ms(datetime.fromisoformat("2024-09-18T00:00-04:00"))
LATE: Final = to_ms(datetime.fromisoformat("2024-11-08T00:00-05:00"))
LOST: Final = (
    datetime.fromisoformat("2024-08-20T00:00Z"),
    datetime.fromisoformat("2024-08-23T00:00Z"),
)
_SIZE: Final = {"width": 1280, "height": 1100}
_CONTRAST: Final = """
    () => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    running = simulate(now=NOW)
    bad = Fault(action=Action.EDIT_BARS, span_ms=(BAD, BAD + 1), bar={"h": 0.01}, ticker="MSFT")
    running.inject(bad)
    running.inject(Fault(action=Action.LACKING, ticker="JPM", span_ms=(LATE, to_ms(NOW))))
    return running


@pytest.fixture
def settings(settings_here: Callable[..., api.Settings]) -> api.Settings:
    """The settings of a database in which a run met a bad bar, a silence and an unknown ticker."""
    found = settings_here()
    kept = WatchChange(timeframes=(Timeframe.d1, Timeframe.h1), since="2024-06-03")
    blocking(api.watchlist.add(found, [*TICKERS, "NOPEX"], kept, offline=True))
    blocking(api.run(found, api.Job(as_of=NOW)))
    return found


def looked_up(settings: api.Settings) -> Facts:
    return facts_of(blocking(overview(settings, NOW)))


def violations(page: Any) -> list[str]:
    """What axe-core finds fault with: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def strip_of(page: Any, symbol: str, timeframe: str) -> Any:
    return page.locator(f'svg.strip[aria-label^="{symbol} {timeframe}:"]')


def test_a_gap_that_is_made_in_the_database_appears_where_it_lies(
    settings: api.Settings,
    database_url: str,
    opened: Callable[..., Any],
    picture: Callable[[Any, str], None],
    tmp_path: Path,
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(looked_up(settings)), "utf-8")
    with opened(page.as_uri()) as shown:
        assert strip_of(shown.page, "AAPL", "d1").locator(".gap").count() == 0
        assert strip_of(shown.page, "MSFT", "d1").locator(".quarantined").count() == 1
        assert strip_of(shown.page, "JPM", "d1").locator(".unconfirmed").count() == 1

    query(
        database_url,
        """
        DELETE FROM ohlc_bars
        WHERE timeframe = 'd1' AND ts >= $1 AND ts < $2
            AND symbol_id = (SELECT id FROM symbols WHERE ticker = 'AAPL')
        """,
        *LOST,
    )
    found = looked_up(settings)
    page.write_text(render(found), "utf-8")
    (days,) = (one for one in found.groups if one.timeframe == "d1")
    for scheme in ("light", "dark"):
        with opened(page.as_uri(), color_scheme=scheme, viewport=_SIZE) as shown:
            gap = strip_of(shown.page, "AAPL", "d1").locator(".gap").bounding_box()
            strip = strip_of(shown.page, "AAPL", "d1").bounding_box()
            whole = (days.until - days.since).total_seconds()
            column = strip["width"] / 96
            begins, ends = (
                strip["x"] + (at - days.since).total_seconds() / whole * strip["width"]
                for at in LOST
            )
            assert begins - column <= gap["x"] <= begins + column
            assert ends - column <= gap["x"] + gap["width"] <= ends + column
            case = shown.page.get_by_text("backfill gaps AAPL -t d1 --repair")
            assert case.count() == 1
            assert case.is_visible()
            assert violations(shown.page) == []
            shown.assert_quiet(page.as_uri())
            if scheme == "dark":
                shown.page.locator("#coverage").evaluate("one => one.scrollIntoView()")
            picture(shown.page, f"report-{scheme}.png")


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without"])
def test_it_reads_the_same_with_scripts_and_without_by_mouse_and_by_keyboard(
    opened: Callable[..., Any], scripts: bool, tmp_path: Path
) -> None:
    whole = tuple(series(f"S{number:02}") for number in range(60))
    path = tmp_path / "report.html"
    path.write_text(render(facts(group(TROUBLED, *whole, timeframe="h1"), group(*whole))), "utf-8")
    grounds = []
    for scheme in ("light", "dark"):
        with opened(path.as_uri(), java_script_enabled=scripts, color_scheme=scheme) as shown:
            page = shown.page
            groups = page.locator("details.group")
            assert groups.count() == 2
            line = groups.last.get_by_role("rowheader", name="S07")
            assert not line.is_visible()
            groups.last.locator(":scope > summary").click()
            assert line.is_visible()
            groups.last.locator(":scope > summary").focus()
            page.keyboard.press("Enter")
            assert not line.is_visible()
            headings = page.get_by_role("heading", level=2).all_inner_texts()
            assert headings == [
                "Problems", "Coverage", "Runs of the last four weeks", "The next run",
            ]  # fmt: skip
            shown.assert_quiet(path.as_uri())
            if scripts:
                grounds.append(sum(page.evaluate(_CONTRAST)))
    assert not scripts or (grounds[0] > 600 and grounds[1] < 200)


def test_every_state_has_a_shape_and_what_is_wide_scrolls_in_its_own_place(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(facts(group(TROUBLED))), "utf-8")
    with opened(path.as_uri(), viewport={"width": 360, "height": 640}) as shown:
        across = "() => [document.scrollingElement.scrollWidth, innerWidth]"
        inside, window = shown.page.evaluate(across)
        assert inside <= window
        strip = strip_of(shown.page, "AAPL", "d1")
        boxes = [one.bounding_box() for one in strip.locator("path").all()]
        assert len({(round(box["y"]), round(box["height"]), round(box["x"])) for box in boxes}) == 6
        assert violations(shown.page) == []


def test_ten_thousand_series_are_opened_and_found(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    listed = tuple(series(f"S{number:05}") for number in range(2_000))
    others = tuple(f"T{number:05}" for number in range(8_000))
    many = group(TROUBLED, *listed, series=10_001, unlisted=others)
    path = tmp_path / "report.html"
    path.write_text(render(replace(facts(many), series=10_001)), "utf-8")
    with opened(path.as_uri()) as shown:
        shown.page.locator("details.group > summary").click()
        assert shown.page.get_by_role("rowheader", name="S01999").is_visible()
        assert strip_of(shown.page, "AAPL", "d1").is_visible()
        shown.assert_quiet(path.as_uri())
