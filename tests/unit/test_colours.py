"""Escape codes only where somebody sees colours: on a terminal, or by order."""

import os
import subprocess
import sys

import pytest

from backfill.cli.main import settle_colours


@pytest.mark.parametrize(
    "said", [{"FORCE_COLOR": "0"}, {"FORCE_COLOR": "0", "GITHUB_ACTIONS": "true"}, {"CI": "1"}]
)
def test_help_in_a_pipe_has_no_escape_codes(said: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backfill", "run", "--help"],
        env={name: value for name, value in os.environ.items() if "COLOR" not in name} | said,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert b"\x1b" not in done.stdout
    assert b"--incremental" in done.stdout


TYPER_OFF = {"_TYPER_FORCE_DISABLE_TERMINAL": "1"}
NEVER = {"NO_COLOR": "1", "TTY_COMPATIBLE": "0"} | TYPER_OFF


@pytest.mark.parametrize(
    ("terminal", "said", "settled"),
    [
        (True, {}, {}),
        (True, {"FORCE_COLOR": "0"}, NEVER),
        (False, {"FORCE_COLOR": "false"}, NEVER),
        (False, {}, TYPER_OFF),
        (False, {"FORCE_COLOR": ""}, {"FORCE_COLOR": ""} | TYPER_OFF),
        (False, {"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1"}),
        (True, {"NO_COLOR": "1"}, {"NO_COLOR": "1"} | TYPER_OFF),
    ],
)
def test_colours_are_for_terminals_or_by_order(
    terminal: bool, said: dict[str, str], settled: dict[str, str]
) -> None:
    settle_colours(said, terminal=terminal)
    assert said == settled
