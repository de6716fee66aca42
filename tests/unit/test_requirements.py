"""requirements.txt is what ships: no package more, none less, each at its version, each hashed."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPS: Final = ("build", "embedded", "notify", "workers")
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
FILES: Final = ("requirements.txt", "requirements-sbom.txt")


def hashed(name: str) -> Iterator[Requirement]:
    """The requirements of a file; each has a hash, and nothing else is there."""
    text = (ROOT / name).read_text().replace(" \\\n", "")
    for line in text.splitlines():
        if not line.startswith("#"):
            said, *hashes = line.split("    --hash=")
            assert hashes, line
            assert all(_HASH.fullmatch(one) for one in hashes), line
            yield Requirement(said)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def closure(asked: Iterable[Requirement]) -> set[str]:
    """What is installed with these here, by what the installed packages say of themselves."""
    todo, seen = list(asked), set[tuple[str, frozenset[str]]]()
    while todo:
        one = todo.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        for needed in map(Requirement, requires(one.name) or ()):
            given = [{"extra": extra} for extra in (*one.extras, "")]
            if needed.marker is None or any(map(needed.marker.evaluate, given)):
                todo.append(needed)
    return {name for name, _ in seen}


@pytest.mark.attack(8)
def test_the_file_lists_what_ships_and_nothing_else() -> None:
    project = PROJECT["project"]
    extras = [one for name in SHIPS for one in project["optional-dependencies"][name]]
    wanted = closure(map(Requirement, [*project["dependencies"], *extras]))
    listed = list(hashed("requirements.txt"))
    here = [one for one in listed if one.marker is None or one.marker.evaluate()]
    assert {canonicalize_name(one.name) for one in here} == wanted, "run: make hashes"


@pytest.mark.parametrize("name", FILES)
def test_every_package_that_ships_has_the_version_that_the_tests_ran_with(name: str) -> None:
    listed = {canonicalize_name(one.name): str(one.specifier) for one in hashed(name)}
    assert listed
    known = pins()
    assert listed == {name: f"=={known[name]}" for name in listed}, "run: make hashes"


def test_the_build_backend_is_pinned_to_the_hashed_one() -> None:
    [backend] = PROJECT["build-system"]["requires"]
    assert PROJECT["project"]["optional-dependencies"]["build"] == [backend]
    assert backend == f"hatchling=={pins()['hatchling']}"


@pytest.mark.parametrize("name", ["constraints.txt", *FILES])
def test_no_file_of_versions_names_a_host(name: str) -> None:
    text = (ROOT / name).read_text().replace("    --hash=", "")
    assert not re.search(r"://|^\s*-", text, re.MULTILINE)


@pytest.mark.attack(8)
def test_workflows_install_nothing_that_has_no_hash() -> None:
    installs = [
        line.strip()
        for path in (ROOT / ".github/workflows").glob("*.yml")
        for job in workflow(path)["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").replace("\\\n", " ").splitlines()
        if "pip" in line and " install " in line
    ]
    assert len(installs) > 8
    for line in installs:
        assert ("--require-hashes" in line) != ("--no-deps" in line), line
        assert "--no-deps" not in line or re.search("--no-(build-isolation|index) ", line), line


def workflow(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    return values
