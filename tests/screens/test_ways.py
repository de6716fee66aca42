"""What newcomers see, command by command, on a terminal of 80 columns and 24 rows.

A page of `ways/` holds a newcomer's commands. Below each stands what the terminal showed, every
line behind a bar, and the exit code where it isn't 0. `make screens` runs the commands and writes
the pages anew, so a change of what people see is seen in review.
"""

import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from backfill.simulator import Simulator
from tests.conftest import FORKS, NOW, Cli
from tests.faults.command import eventually
from tests.screens.terminal import COLUMNS, terminal

WAYS: Final = Path(__file__).parent / "ways"
SHORT: Final = {"student"}
_LONG_S: Final = 120
_QUIETLY: Final = "2>/dev/null"
# What differs from run to run, and what stands for it; as wide, where columns may follow.
_VOLATILE: Final = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "0" * 36),
    (re.compile(r"\b(in|about) \d+(\.\d+)? s\b"), r"\1 0 s"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "127.0.0.1:8000"),
    (re.compile(r"^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z"), "2024-11-12T12:00:00.000000Z"),
    (re.compile(r"/tmp/\S+"), "/tmp/here"),
)


# What happens between two commands, by the words of the pages. The provider's clock stands at NOW.
EVENTS: Final[dict[str, Callable[[Simulator], None]]] = {
    "the provider goes on": lambda simulator: simulator.set_now(NOW + timedelta(days=30)),
}


@dataclass(frozen=True)
class Step:
    """A line of a page that does something: a command, or what happens to the provider.

    ``until`` is what a command shows before somebody presses Ctrl-C; empty where nobody does.
    """

    line: str
    until: str = ""


def steps(page: str) -> Iterator[Step | str]:
    """Read a page: what is done, and the lines that say why."""
    lines = page.splitlines()
    for at, line in enumerate(lines):
        if line.startswith(("$ ", "* ")):
            pressed = re.fullmatch(r"\^C after: (.*)", lines[at + 1] if at + 1 < len(lines) else "")
            yield Step(line, pressed[1] if pressed else "")
        elif not re.match(r"\||exit \d+$|\^C after: ", line):
            yield line


def settled(line: str) -> str:
    """Replace what differs from run to run."""
    for pattern, constant in _VOLATILE:
        line = pattern.sub(constant, line)
    return line


def shown(step: Step, cli: Cli) -> tuple[list[str], int]:
    """Run a command as a shell would, on a terminal; return what it shows, and its exit code."""
    words = [os.path.expandvars(word) for word in shlex.split(step.line[2:])]
    quiet = words[-1] == _QUIETLY
    words = [word for word in words if word != _QUIETLY]
    given = dict(word.split("=", 1) for word in words[: words.index("backfill")])
    environment = cli.environment_with(given | {"TERM": "xterm-256color"})
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    arguments = words[words.index("backfill") + 1 :]
    with terminal() as (screen, ended):
        with FORKS.start(arguments, environment, screen.path, quiet=quiet) as going:
            if step.until:
                eventually(lambda: step.until in "\n".join(screen.text()))
                os.kill(going.number, signal.SIGINT)
            code, _, _ = going.end(_LONG_S)
        return [settled(line) for line in ended()], code


def walked(page: str, cli: Cli, simulator: Simulator) -> str:
    """Walk a way; return its page with what was shown."""
    found = []
    for step in steps(page):
        if isinstance(step, str):
            found.append(step)
            continue
        found.append(step.line)
        if step.until:
            found.append(f"^C after: {step.until}")
        if step.line.startswith("* "):
            EVENTS[step.line[2:]](simulator)
            continue
        screen, code = shown(step, cli)
        assert all(len(line) <= COLUMNS for line in screen)
        found += [f"| {line}".rstrip() for line in screen]
        if code:
            found.append(f"exit {code}")
    return "\n".join(found) + "\n"


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(name, marks=() if name in SHORT else pytest.mark.wide)
        for name in sorted(path.stem for path in WAYS.glob("*.txt"))
    ],
)
def test_a_newcomer_sees_what_was_recorded(
    way: str,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("NOW", f"{NOW:%Y-%m-%dT%H:%MZ}")
    simulator = simulate()
    path = WAYS / f"{way}.txt"
    recorded = path.read_text("utf-8")
    now = walked(recorded, cli(simulator), simulator)
    if request.config.getoption("screens"):
        path.write_text(now, "utf-8")
    else:
        assert now == recorded, "`make screens` writes what is shown now"
