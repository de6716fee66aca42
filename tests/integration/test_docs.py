"""Every command and query of the operators' pages runs as it stands, in the order of the page."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import KEY, Cli, query

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("quick-start.md", "github-actions.md", "runbook.md", "costs.md", "configuration.md"),
    "moving.md",
)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of a page as (language, text)."""
    text = ROOT.joinpath("docs", page).read_text("utf-8")
    found = [(language, textwrap.dedent(block)) for _, language, block in BLOCK.findall(text)]
    assert len(found) * 2 == text.count("```"), page
    return found


def test_a_page_holds_nothing_that_is_not_run() -> None:
    assert {language for page in PAGES for language, _ in blocks(page)} == {"sh", "sql"}


@pytest.mark.parametrize("page", ["github-actions.md", "runbook.md", "costs.md"])
def test_the_commands_and_queries_of_a_page_run_as_they_stand(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
    tmp_path: Path,
    page: str,
) -> None:
    backfill = cli(simulate(plan="free", now=None))
    watched = backfill("watch", "add", "--offline", "AAPL", "X:BTCUSD", "--since", "30d")
    assert (watched.code, backfill("run", "--all").code) == (0, 0)
    run_page(page, backfill, database_url, tmp_path)


def test_the_quick_start_leads_from_an_empty_database_to_bars(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    empty_url: str,
    tmp_path: Path,
) -> None:
    binance, alpaca = (simulate(provider=one, now=None) for one in ("binance", "alpaca"))
    backfill = cli(
        simulate(plan="free", now=None),
        DATABASE_URL=empty_url,
        BINANCE_URL=binance.url,
        ALPACA_URL=alpaca.url,
        APCA_API_BASE_URL=alpaca.url,
        APCA_API_KEY_ID=KEY,
        APCA_API_SECRET_KEY=KEY,
    )
    run_page("quick-start.md", backfill, empty_url, tmp_path)
    firsts = "SELECT s.ticker, p.provider FROM backfill_progress AS p JOIN symbols AS s"
    assert [tuple(row) for row in query(empty_url, f"{firsts} ON id = symbol_id ORDER BY id")][
        :2
    ] == [("BTC/USDT", "binance"), ("MSFT", "alpaca")]
    kept = query(empty_url, "SELECT timeframe::text, count(*) FROM ohlc_bars GROUP BY 1 ORDER BY 1")
    assert [timeframe for timeframe, _ in kept] == ["d1", "h1"]
    assert min(bars for _, bars in kept) > 40  # thirty days of one, twenty of the other


def test_the_embedded_database_moves_to_a_server_in_the_middle_of_a_run(
    simulate: Callable[..., Simulator], empty_url: str, tmp_path: Path
) -> None:
    simulator = simulate(plan="free", now=None)
    given = {
        "BACKFILL_DATA_DIR": str(tmp_path / "data"),
        "BACKFILL_PROVIDER_URL": simulator.url,
        "BACKFILL_PLAN": "free",
        "BACKFILL_QUOTA": "unlimited",
        "MASSIVE_API_KEY": KEY,
        "NEW_URL": empty_url,
    }
    backfill = Cli(given)
    watched = backfill("watch", "add", "--offline", "AAPL", "MSFT", "X:BTCUSD", "--since", "550d")
    assert (watched.code, backfill("run", "AAPL").code) == (0, 0)
    simulator.inject(Fault(action=Action.STALL, stall_s=300, times=1, ticker="X:BTCUSD"))
    busy = backfill.start("run", "--all")
    try:
        # Of the run's other calls any may be the last when it is looked.
        while not any(call.fault for call in simulator.calls):
            assert busy.poll() is None
            time.sleep(0.1)
        busy.send_signal(signal.SIGSTOP)  # as long as the page takes
        run_page("moving.md", backfill, empty_url, tmp_path)
    finally:
        busy.kill()
        busy.communicate()

    runs = "SELECT status::text, count(*) FROM backfill_runs GROUP BY 1 ORDER BY 1"
    assert query(empty_url, runs) == [("interrupted", 1), ("ok", 2)]
    stored = "SELECT ticker, min(ts) > now() - interval '367 days' FROM ohlc_bars JOIN symbols ON"
    assert query(empty_url, f"{stored} id = symbol_id GROUP BY 1 ORDER BY 1") == [
        ("AAPL", True),
        ("X:BTCUSD", False),
    ]
    moved = replace(backfill, environment=given | {"DATABASE_URL": empty_url})
    simulator.key = "another"
    simulator.clear_faults()
    again = ("run", "X:BTCUSD", "--reload", "--from", "3d")
    assert (moved(*again).code, moved(*again, MASSIVE_API_KEY="another").code) == (3, 0)
    asked = query(empty_url, "SELECT count(DISTINCT key_id) FROM provider_quota")
    assert asked == [(2,)]


def run_page(page: str, backfill: Cli, database_url: str, tmp_path: Path) -> None:
    """Run all that a page says, one block after the other."""
    command = tmp_path / "bin" / "backfill"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backfill "$@"\n')
    command.chmod(0o755)
    environment = os.environ | backfill.environment | {"PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"

    for language, text in blocks(page):
        if language == "sql":
            query(database_url, text)
            continue
        ended = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", text],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
