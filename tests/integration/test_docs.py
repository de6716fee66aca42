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
PAGES = ("github-actions.md", "runbook.md", "costs.md", "configuration.md")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of a page as (language, text)."""
    text = ROOT.joinpath("docs", page).read_text("utf-8")
    found = [(language, textwrap.dedent(block)) for _, language, block in BLOCK.findall(text)]
    assert len(found) * 2 == text.count("```"), page
    return found


def test_a_page_holds_nothing_that_is_not_run() -> None:
    assert {language for page in PAGES for language, _ in blocks(page)} == {"sh", "sql"}


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        text = ROOT.joinpath("docs", page).read_text("utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if path.startswith("https:"):
                continue
            target = ROOT.joinpath("docs", path or page)
            assert target.exists(), link
            heads = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            named = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
            assert not anchor or anchor in named, link


@pytest.mark.parametrize("page", ["github-actions.md", "runbook.md", "costs.md"])
def test_the_commands_and_queries_of_a_page_run_as_they_stand(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
    tmp_path: Path,
    page: str,
) -> None:
    backfill = cli(simulate(plan="free", now=None))
    watched = backfill("watch", "add", "AAPL", "X:BTCUSD", "--since", "30d")
    assert (watched.code, backfill("run", "--all").code) == (0, 0)
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
