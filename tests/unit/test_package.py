"""What makes a release: one version, a changelog that has a section for each, a page for `man`."""

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from shutil import which
from typing import Final

import pytest
from packaging.version import Version

from backfill import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
_RELEASED: Final = re.compile(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d\d-\d\d)\)")


def sections(text: str) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return the released versions of a changelog in its order, and what is wrong with its heads.

    It begins with what is unreleased; a release is `## 1.2.0 (2026-12-01)`, the newest first.
    """
    heads = re.findall(r"^## (.*)$", text, re.M)
    wrong = [] if heads[:1] == ["Unreleased"] else ["it doesn't begin with ## Unreleased"]
    found = []
    for head in heads[1:]:
        read = _RELEASED.fullmatch(head)
        if read is None:
            wrong.append(f"## {head}")
            continue
        found.append((date.fromisoformat(read[4]), tuple(map(int, read.groups()[:3]))))
    days, versions = [day for day, _ in found], [version for _, version in found]
    if versions != sorted(set(versions), reverse=True) or days != sorted(days, reverse=True):
        wrong.append("the newest release doesn't come first")
    return versions, wrong


def test_the_changelog_has_a_section_for_each_release_and_one_for_what_comes() -> None:
    versions, wrong = sections(ROOT.joinpath("CHANGELOG.md").read_text("utf-8"))
    assert wrong == []
    assert not versions or Version(__version__).release >= versions[0]


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        (["1.0.0 (2026-12-01)"], "it doesn't begin with ## Unreleased"),
        (["Unreleased", "1.0.0"], "## 1.0.0"),
        (["Unreleased", "Unreleased"], "## Unreleased"),
        (
            ["Unreleased", "1.0.0 (2026-12-01)", "1.1.0 (2026-12-02)"],
            "the newest release doesn't come first",
        ),
        (
            ["Unreleased", "1.0.0 (2026-12-01)", "1.0.0 (2026-12-01)"],
            "the newest release doesn't come first",
        ),
    ],
)
def test_a_changelog_that_lacks_that_is_told(heads: list[str], said: str) -> None:
    text = "# Changelog\n" + "".join(f"\n## {head}\n\n- something\n" for head in heads)
    assert sections(text)[1][0] == said


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "backfill/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.skipif(which("groff") is None, reason="there is no groff")
def test_roff_has_nothing_to_say_against_the_man_page() -> None:
    page = ROOT / "docs" / "backfill.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "WATCH APPLY" in re.sub(".\b", "", done.stdout)  # bold is a letter struck over itself
