"""What each test of a fault or an attack has seen, as the tables of docs/reliability.md."""

import ast
import importlib
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
_TESTS: Final = FOLDER.parent
_REQUIREMENT: Final = re.compile(r"(.*) \((R\d+)\)\.?")
_OWN_ADDRESS: Final = re.compile(r"127\.0\.0\.1[:, ']+\d+|/tmp/\S+")  # read, not used
_SHOWN: Final = 200
_FAULT_ROW: Final = re.compile(
    r"^\| \[(.*)\]\(\.\./tests/faults/(\w+)\.py\) \| (.*) \| (.*) \|$", re.MULTILINE
)
_ATTACK_ROW: Final = re.compile(r"^\| \[(.*)\]\(\.\./tests/(\S+\.py)\) \| (.*) \|$", re.MULTILINE)

_HEAD: Final = """\
# What faults do

Each row is a test of `tests/faults` as it ran: a fault, what the user saw of it, and what became of
the data. `make reliability` runs them all, with the real command against a real Postgres and a
simulated provider, and writes this page. It holds what was seen then and nothing else; of a test
that the last run left out (`make reliability ARGS=tests/faults/test_kill.py`) what was seen before.

*Saw* lists the commands of the test in the order in which they ended: the exit code, and the line
that says why. *Lost* holds the tables against the market that the provider simulates: whatever a
series claims to be covered for must be stored, and whatever is stored must be the market's; the
number is of the fullest table that the test looked at.
"""


_ATTACKS: Final = """
## Attacks

The command was attacked: by what others may put into its database, its answers, its settings and
its folders, and by whatever can end it half-way. Each row is a test that makes one kind of attack,
with harmless input, in so many cases; *saw* is how the commands in it ended.
"""
_POINTS: Final = {
    1: "Adoption survives being killed, and says no in time",
    2: "A first run that is killed between migrations is gone on with",
    3: "What somebody puts on the search path is never called",
    4: "Text of others is text everywhere",
    5: "Keys never leave",
    6: "Nothing sticks, whatever ends a run",
    7: "The data directory of the embedded server",
    8: "What ships, and what it is reached through",
    9: "What is deleted by hand is found, and rolled up from no hole",
    10: "No entry poisons the rest",
    11: "Connections are few, and the first is tried again like any other",
    12: "Large is ordinary",
}
_MOST_TOLD: Final = 4


@dataclass(frozen=True, slots=True)
class Attacked:
    """One case of an attack: its point, where its test stands, and how each command ended."""

    point: int
    path: str
    attack: str
    saw: list[str]


@dataclass(frozen=True, slots=True)
class Observed:
    """One test: where it stands, the fault, what the user saw, and what was lost."""

    module: str
    line: int
    fault: str
    saw: str
    lost: str


@dataclass(frozen=True, slots=True)
class Row:
    """All cases of an attack, as the page has them."""

    point: int
    path: str
    attack: str
    text: str


def tests() -> Iterator[tuple[str, str, int]]:
    """Every test of a fault that there is, as (module, name, line)."""
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                yield path.stem, node.name, node.lineno


def attacks() -> Iterator[tuple[str, str, int]]:
    """Every test that is marked as an attack, as (path below tests, name, point)."""
    for path in sorted(_TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    said = re.fullmatch(r"pytest\.mark\.attack\((\d+)\)", ast.unparse(decorator))
                    if said:
                        yield str(path.relative_to(_TESTS)), node.name, int(said[1])


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


def attacked(item: pytest.Function, point: int, ran: list[Ended], reason: str | None) -> Attacked:
    """Return the case of an attack that has just ended, and why if not as it should have."""
    given: dict[str, Any] = item.funcargs
    kept = given.get("kept")
    ended = kept.ended if kept else ran
    saw = [_told(one) for one in ended] or ["held in the tests' own process, without the command"]
    return Attacked(
        point,
        str(item.path.relative_to(_TESTS)),
        sentence(item.originalname),
        saw if reason is None else [_plain(reason)],
    )


def _observed(item: pytest.Function, saw: str, lost: str) -> Observed:
    fault = sentence(item.originalname)
    if hasattr(item, "callspec"):
        fault += f" ({item.callspec.id})"
    module = item.module.__name__.rpartition(".")[2]
    return Observed(module, (item.location[1] or 0) + 1, fault, saw, lost)


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
    said = [one["message"] for one in ended.events if one["event"] == "command.ended"]
    why = (lines or said or [""])[-1]
    if not why and ended.code == 1 and '"failures"' in ended.out:
        first, *more = ended.json["failures"]
        why = f"{first['symbol']} {first['timeframe']} {first['outcome']}: {first['message']}"
        why += f", and {len(more)} more" if more else ""
    elif not why and ended.code:
        ends = (one["error"] for one in ended.events if one["event"] == "run.finished")
        why = next(ends, "") or ""
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


def render(observed: Iterable[Observed], attacks: Iterable[Row]) -> str:
    """Return the page."""
    rows = sorted(observed, key=lambda one: (*_requirement(one.module), one.line, one.fault))
    parts = [_HEAD]
    for (_, number, about), group in groupby(rows, key=lambda one: _requirement(one.module)):
        parts.append(f"\n## {about} (R{number})\n\n| fault | saw | lost |\n| --- | --- | --- |\n")
        parts += [
            f"| [{one.fault}](../tests/faults/{one.module}.py) | {one.saw} | {one.lost} |\n"
            for one in group
        ]
    parts.append(_ATTACKS)
    shown = sorted(attacks, key=lambda one: (one.point, one.path, one.attack))
    for point, of_it in groupby(shown, key=lambda one: one.point):
        head = "| attack | cases | saw |\n| --- | --- | --- |"
        parts.append(f"\n### {point}. {_POINTS[point]}\n\n{head}\n")
        parts += [f"| [{one.attack}](../tests/{one.path}) | {one.text} |\n" for one in of_it]
    day = datetime.now(UTC).date()
    parts.append(f"\nSeen on {day}, Python {platform.python_version()}, {platform.system()}.\n")
    return "".join(parts)


def rows(attacks: Iterable[Attacked]) -> Iterator[Row]:
    """Yield the row of each attack, of all its cases."""
    cases = sorted(attacks, key=lambda one: (one.point, one.path, one.attack))
    for (point, path, attack), same in groupby(
        cases, key=lambda one: (one.point, one.path, one.attack)
    ):
        of_it = list(same)
        counts = Counter(told for one in of_it for told in one.saw)
        told = [
            part if number == 1 else f"{part} × {number}" for part, number in counts.most_common()
        ]
        if len(told) > _MOST_TOLD:
            told[_MOST_TOLD:] = [f"and {len(told) - _MOST_TOLD} other ends"]
        yield Row(point, path, attack, f"{len(of_it)} | {'; '.join(told)}")


def earlier(page: str) -> tuple[list[Observed], list[Row]]:
    """Return what a page holds of the tests that there still are."""
    lines = {(module, sentence(name)): line for module, name, line in tests()}
    marked = {(path, sentence(name), point) for path, name, point in attacks()}
    faults, _, attacked = page.partition("## Attacks")
    observed = [
        Observed(module, lines[key], fault, saw, lost)
        for fault, module, saw, lost in _FAULT_ROW.findall(faults)
        if (key := (module, fault.partition(" (")[0])) in lines
    ]
    held = [
        Row(int(point), path, attack, text)
        for point, part in re.findall(r"### (\d+)\.(.*?)(?=\n###|\Z)", attacked, re.DOTALL)
        for attack, path, text in _ATTACK_ROW.findall(part)
        if (path, attack, int(point)) in marked
    ]
    return observed, held


def _requirement(module: str) -> tuple[int, int, str]:
    said = importlib.import_module(f"tests.faults.{module}").__doc__ or ""
    match = _REQUIREMENT.match(said)
    assert match is not None, f"{module} doesn't say which requirement it shows"
    number = int(match[2][1:])
    return number < 17, number, match[1]
