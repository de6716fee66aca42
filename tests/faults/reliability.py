"""What each test of a fault has seen, as the table of docs/reliability.md."""

import ast
import importlib
import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from backfill.simulator import Market
from tests.conftest import Ended
from tests.faults import tables

FOLDER: Final = Path(__file__).parent
_REQUIREMENT: Final = re.compile(r"(.*) \((R\d+)\)\.?")
_OWN_ADDRESS: Final = re.compile(r"127\.0\.0\.1[:, ']+\d+|/tmp/\S+")  # read, not used
_SHOWN: Final = 200

_HEAD: Final = """\
# What faults do

Each row is a test of `tests/faults` as it ran: a fault, what the user saw of it, and what became of
the data. `make reliability` runs them all, with the real command against a real Postgres and a
simulated provider, and writes this page. It holds what was seen in that run and nothing else.

*Saw* lists the commands of the test in the order in which they ended: the exit code, and the line
that says why. *Lost* holds the tables against the market that the provider simulates: whatever a
series claims to be covered for must be stored, and whatever is stored must be the market's; the
number is of the fullest table that the test looked at.
"""


@dataclass(frozen=True, slots=True)
class Observed:
    """One test: where it stands, the fault, what the user saw, and what was lost."""

    module: str
    line: int
    fault: str
    saw: str
    lost: str


def tests() -> Iterator[tuple[str, str]]:
    """Every test of a fault that there is, as (module, name)."""
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                yield path.stem, node.name


def sentence(name: str) -> str:
    """Return a test's name as the sentence that it is."""
    return name.removeprefix("test_").replace("_", " ")


def observe(item: pytest.Function) -> Observed:
    """Look at what a test that has just passed leaves behind."""
    given: dict[str, Any] = item.funcargs
    market: Market = given.get("market") or Market()
    own = given.get("own_server")
    url = own.url if own else given.get("database_url")
    kept = given.get("kept")
    saw = _saw(kept.ended) if kept else "the client was asked alone, without the command"
    return _observed(item, saw, _lost(url, market) if url else "nothing was stored")


def unseen(item: pytest.Function, reason: str) -> Observed:
    """Return the row of a test that did not come to its end, and why."""
    return _observed(item, _plain(reason), "–")


def _observed(item: pytest.Function, saw: str, lost: str) -> Observed:
    fault = sentence(item.originalname)
    if hasattr(item, "callspec"):
        fault += f" ({item.callspec.id})"
    module = item.module.__name__.rpartition(".")[2]
    return Observed(module, item.location[1] or 0, fault, saw, lost)


def _saw(ended: list[Ended]) -> str:
    parts = [_told(one) for one in ended]
    return "; ".join(
        part if number == 1 else f"{part} × {number}"
        for part, number in ((part, len(list(same))) for part, same in groupby(parts))
    )


def _told(ended: Ended) -> str:
    if ended.code < 0:
        return "killed"
    events = Counter(event["event"] for event in ended.events)
    lines = [line for line in ended.err.splitlines() if line and not line.startswith("{")]
    why = lines[-1] if lines else ""
    if not why and ended.code == 1:
        first, *more = ended.json["failures"]
        why = f"{first['symbol']} {first['timeframe']} {first['outcome']}: {first['message']}"
        why += f", and {len(more)} more" if more else ""
    elif not why and ended.code:
        why = next(one["error"] for one in ended.events if one["event"] == "run.finished")
    again = [
        f"{events[name]} × `{name}` logged"
        for name in ("database.retry", "fetch.retry", "quota.throttled")
        if events[name]
    ]
    if "Traceback" in ended.err:
        again.append("a traceback on stderr")
    told = ", ".join([f"exit {ended.code}", *again])
    return f"{told}: {_plain(why)}" if why else told


def _plain(text: str) -> str:
    """Leave out what is of one run only, and what would end a cell."""
    text = _OWN_ADDRESS.sub("…", text.removeprefix("backfill: ")).replace("|", "\\|")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _lost(url: str, market: Market) -> str:
    claimed = tables.last_check() or tables.covered_bars(url, market)
    aside = len(tables.quarantined(url))
    nothing = f"nothing: {claimed:,} bars claimed, all there" if claimed else "nothing was claimed"
    return f"{nothing}, and {aside} in quarantine as they came" if aside else nothing


def render(observed: Iterable[Observed]) -> str:
    """Return the page."""
    rows = sorted(observed, key=lambda one: (*_requirement(one.module), one.line, one.fault))
    parts = [_HEAD]
    for (_, number, about), group in groupby(rows, key=lambda one: _requirement(one.module)):
        parts.append(f"\n## {about} (R{number})\n\n| fault | saw | lost |\n| --- | --- | --- |\n")
        parts += [
            f"| [{one.fault}](../tests/faults/{one.module}.py) | {one.saw} | {one.lost} |\n"
            for one in group
        ]
    day = datetime.now(UTC).date()
    parts.append(f"\nSeen on {day}, Python {platform.python_version()}, {platform.system()}.\n")
    return "".join(parts)


def _requirement(module: str) -> tuple[int, int, str]:
    said = importlib.import_module(f"tests.faults.{module}").__doc__ or ""
    match = _REQUIREMENT.match(said)
    assert match is not None, f"{module} doesn't say which requirement it shows"
    number = int(match[2][1:])
    return number < 17, number, match[1]


def read(properties: Iterable[tuple[str, Any]]) -> Iterator[Observed]:
    """Return what a report of a test carries."""
    for name, value in properties:
        if name == "observed":
            yield Observed(**json.loads(value))
