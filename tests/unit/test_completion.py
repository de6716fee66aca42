"""What a shell is told of the command line, and which version it is."""

import re
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from backfill.cli.main import app


@pytest.mark.parametrize(
    ("typed", "offered"), [("wat", {"watch"}), ("symbols re", {"retire", "restore"})]
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str, typed: str, offered: set[str]) -> None:
    words = f"backfill {typed}"
    told = CliRunner().invoke(
        app,
        prog_name="backfill",
        env={
            "_BACKFILL_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(typed.split())),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_WORD_TO_COMPLETE": typed.rsplit(maxsplit=1)[-1],
        },
    )
    assert set(re.findall(r"\b(?:watch|retire|restore|remove)\b", told.output)) == offered


def test_the_version_is_told_alone() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"backfill {version('ohlc-backfill')}\n")
