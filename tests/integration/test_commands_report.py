"""The report after runs that met faults: what is wrong stands on it, with commands that mend it."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from backfill import api
from backfill.audit.overview import overview
from backfill.cli.main import app
from backfill.core.timeframe import Timeframe
from backfill.errors import LoginRefused
from backfill.report.facts import Cell, Facts, SeriesFacts
from backfill.report.making import facts_of
from backfill.simulator import Action, Fault, Simulator
from backfill.store.times import to_ms
from backfill.store.universe import WatchChange
from tests.conftest import NOW, Cli, _execute, blocking, query
from tests.integration.store_kit import as_user

pytestmark = pytest.mark.one_database

BAD: Final = datetime.fromisoformat("2024-11-06T00:00-05:00")
LATE: Final = datetime.fromisoformat("2024-11-08T00:00-05:00")
SINCE: Final = "2024-10-01"
LOST: Final = "ts >= '2024-10-15' AND ts < '2024-10-18'"


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    running = simulate(now=NOW)
    bad, end = to_ms(BAD), to_ms(NOW)
    running.inject(
        Fault(action=Action.EDIT_BARS, span_ms=(bad, bad + 1), bar={"h": 0.01}, ticker="MSFT")
    )
    running.inject(Fault(action=Action.LACKING, ticker="JPM", span_ms=(to_ms(LATE), end)))
    return running


def watch(settings: api.Settings, *tickers: str) -> None:
    change = WatchChange(timeframes=(Timeframe.d1,), since=SINCE)
    blocking(api.watchlist.add(settings, list(tickers), change, offline=True))


def run_all(settings: api.Settings) -> api.Summary:
    return blocking(api.run(settings, api.Job(as_of=NOW)))


def facts(settings: api.Settings) -> Facts:
    return facts_of(blocking(overview(settings, NOW)))


def lines(found: Facts) -> dict[str, SeriesFacts]:
    return {one.symbol: one for group in found.groups for one in group.listed}


def lose(url: str, ticker: str) -> int:
    """Delete three stored bars, as nobody should."""
    return len(
        query(
            url,
            f"""
            DELETE FROM ohlc_bars
            WHERE {LOST} AND symbol_id = (SELECT id FROM symbols WHERE ticker = $1)
            RETURNING 1
            """,
            ticker,
        )
    )


def test_what_is_wrong_stands_on_it_and_the_commands_that_it_names_mend_it(
    settings_here: Callable[..., api.Settings], simulator: Simulator, database_url: str
) -> None:
    settings = settings_here()
    watch(settings, "AAPL", "MSFT", "JPM", "SPY")
    nothing_yet = facts(settings)
    assert nothing_yet.next_run.calls > 0
    assert nothing_yet.next_run.bars > 100
    for line in lines(nothing_yet).values():
        assert set(line.cells.strip(Cell.nothing)) == {Cell.uncovered}

    assert run_all(settings).exit_code == 1
    assert lose(database_url, "AAPL") == 3
    watch(settings, "NOPEX")
    assert run_all(settings).exit_code == 1

    found = facts(settings)
    titles = [one.title for one in found.problems]
    assert titles == [
        "1 series failed in the last run: unknown_symbol",
        "2 series are stale",
        "1 series lacks bars that were answered for",
        "1 series lacks bars that the provider didn't have",
        "1 series has bars in quarantine",
    ]
    lost = found.problems[2]
    assert [(one.name, one.told, one.command) for one in lost.cases] == [
        ("AAPL d1", "3 bars missing", "backfill gaps AAPL -t d1 --repair")
    ]
    shown = lines(found)
    assert (found.missing, shown["AAPL"].missing, shown["AAPL"].lacks) == (3, 3, "3 missing")
    assert Cell.gap in shown["AAPL"].cells
    assert Cell.quarantined in shown["MSFT"].cells
    assert Cell.unconfirmed in shown["JPM"].cells
    assert set(shown["SPY"].cells) <= {Cell.stored, Cell.nothing}
    assert [one.status for one in found.runs] == ["partial", "partial"]
    assert found.runs[1].rejected == 1
    assert sum(day.calls for day in found.days) == sum(
        one.calls + one.lookups for one in found.runs
    )
    assert found.next_run.refused is None

    # Every command is one that the command line takes.
    for problem in found.problems:
        for command in (problem.command, *(one.command for one in problem.cases)):
            assert command is not None
            words = shlex.split(command)[1:]
            assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, command

    scope = api.Scope(tickers=("AAPL",), timeframes=(Timeframe.d1,))
    simulator.clear_faults()
    assert blocking(api.repair(settings, NOW, scope)).exit_code == 0
    mended = facts(settings)
    assert lost.title not in [one.title for one in mended.problems]
    assert set(lines(mended)["AAPL"].cells) <= {Cell.stored, Cell.nothing}


class Text(HTMLParser):
    """The text of a page, and its elements with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_a_login_that_only_reads_sees_the_same_page_and_one_that_sees_nothing_is_told(
    settings_here: Callable[..., api.Settings], simulator: Simulator, database_url: str
) -> None:
    settings = settings_here()
    watch(settings, "SPY")
    run_all(settings)
    seen = facts(settings)
    name = "report_looker"
    blocking(
        _execute(
            database_url,
            f"DROP ROLE IF EXISTS {name}",
            f"CREATE ROLE {name} LOGIN BYPASSRLS",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
            f"ALTER ROLE {name} SET default_transaction_read_only = on",
        )
    )
    try:
        reader = settings_here(DATABASE_URL=as_user(database_url, name))
        told = facts(reader)
        assert replace(told, queue=seen.queue) == seen
        assert "doesn't see the schema bf_jobs" in str(told.queue)
        # Of the schema it is shown that it is there, and no row of the rest.
        shown = f"CREATE POLICY looker ON backfill_migrations FOR SELECT TO {name} USING (true)"
        blocking(_execute(database_url, f"ALTER ROLE {name} NOBYPASSRLS", shown))
        with pytest.raises(LoginRefused, match="doesn't see the rows of"):
            facts(reader)
    finally:
        blocking(_execute(database_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}"))


def test_the_command_writes_a_page_and_a_badge_at_once_and_refuses_what_it_must(
    cli: Callable[..., Cli],
    settings_here: Callable[..., api.Settings],
    simulator: Simulator,
    database_url: str,
    tmp_path: Path,
) -> None:
    settings = settings_here()
    watch(settings, "AAPL")
    run_all(settings)
    run, as_of = cli(simulator), ("--as-of", NOW.isoformat())
    page, badge = tmp_path / "look.html", tmp_path / "badge.json"

    wrote = run("report", "--out", str(page), "--badge", str(badge), *as_of)
    assert (wrote.code, wrote.out) == (0, f"{page}\n"), wrote.err
    assert sorted(tmp_path.iterdir()) == [badge, page]
    told = {"label": "backfill", "message": "1 series fresh", "color": "brightgreen"}
    assert json.loads(badge.read_text()) == {"schemaVersion": 1, **told}
    shown = Text(page.read_text("utf-8"))
    assert "Nothing needs seeing to." in shown.said
    closes = query(database_url, "SELECT close FROM ohlc_bars ORDER BY ts DESC")
    prices = {f"{row['close']:.6g}" for row in closes}
    assert not prices & set(re.findall(r"[\d.]+", " ".join(shown.said)))

    page.chmod(0o600)
    with_bars = run("report", "--out", str(page), "--with-bars", *as_of)
    assert (with_bars.code, page.stat().st_mode & 0o777) == (0, 0o600)
    before = page.read_text("utf-8")
    assert f"{closes[0]['close']:.6g}" in Text(before).said

    # Others can read what GitHub Actions keeps.
    there = run("report", "--out", str(page), "--with-bars", *as_of, GITHUB_ACTIONS="true")
    assert (there.code, there.out) == (2, "")
    nowhere = run("report", "--out", str(tmp_path / "no" / "x.html"), *as_of)
    folder = run("report", "--out", str(tmp_path), *as_of)
    same = run("report", "--out", str(page), "--badge", str(page), *as_of)
    for refused in (there, nowhere, folder, same):
        assert refused.code == 2
        assert len([line for line in refused.err.splitlines() if "backfill: " in line]) == 1
    assert page.read_text("utf-8") == before
    assert sorted(tmp_path.iterdir()) == [badge, page]
