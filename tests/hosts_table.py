"""The table of docs/database.md that tells which host was tried with which setup: `make hosts`."""

import re
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

_BEGIN: Final = "<!-- what the tests of `make hosts` saw -->"
_END: Final = "<!-- end of what they saw -->"


def results(folder: Path) -> dict[str, dict[str, str]]:
    """Return what became of each test on each host, by the files that pytest wrote of them."""
    return {
        file.stem: {case.get("name", ""): _said(case) for case in _cases(file)}
        for file in sorted(folder.glob("*.xml"), key=lambda one: (one.stem[:4] != "Post", one.stem))
    }


def table(seen: dict[str, dict[str, str]]) -> str:
    """Return a table of a row for each test and a column for each host."""
    names = list(dict.fromkeys(name for tests in seen.values() for name in tests))
    rows = [
        ["setup", *seen],
        ["---"] * (len(seen) + 1),
        *([_sentence(name), *(tests.get(name, "–") for tests in seen.values())] for name in names),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def written(page: str, text: str) -> str:
    """Return a page with a text in the place that is marked for it."""
    place = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    return place.sub(lambda _: f"{_BEGIN}\n{text}\n{_END}", page)


def _cases(file: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(file).iter("testcase"))  # pytest wrote it


def _said(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "**no**"
    return "–" if case.find("skipped") is not None else "yes"


def _sentence(name: str) -> str:
    words, _, parameter = name.removeprefix("test_").partition("[")
    kind = f" ({parameter.rstrip(']')})" if parameter else ""
    return f"{words.replace('_', ' ')}{kind}"


if __name__ == "__main__":
    seen_in, page = Path(sys.argv[1]), Path(sys.argv[2])
    page.write_text(
        written(page.read_text(encoding="utf-8"), table(results(seen_in))), encoding="utf-8"
    )
