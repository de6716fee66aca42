"""Every command and query of the operators' pages runs as it stands, in the order of the page."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from backfill.simulator import Simulator
from tests.conftest import Cli, query

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("quick-start.md", "github-actions.md", "runbook.md", "costs.md", "configuration.md")
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
    backfill = cli(simulate(plan="free", now=None), DATABASE_URL=empty_url)
    run_page("quick-start.md", backfill, empty_url, tmp_path)
    kept = query(empty_url, "SELECT timeframe::text, count(*) FROM ohlc_bars GROUP BY 1 ORDER BY 1")
    assert [timeframe for timeframe, _ in kept] == ["d1", "h1"]
    assert min(bars for _, bars in kept) > 40  # thirty days of one, twenty of the other


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
