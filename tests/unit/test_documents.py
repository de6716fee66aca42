"""The pages say what the code says, and lead somewhere."""

import re
from pathlib import Path

import pytest

from backfill.core.checks import Reason
from tests.documents import DOCS, PAGES


@pytest.mark.parametrize(
    "name",
    [
        "backfill.1",
        "configuration.md",
        "providers.md",
        pytest.param("costs.md", marks=pytest.mark.soak),
    ],
)
def test_a_written_page_is_what_the_code_says_now(name: str) -> None:
    assert DOCS.joinpath(name).read_text("utf-8") == PAGES[name](), "run: make docs"


def test_every_written_page_is_compared() -> None:
    assert set(PAGES) == {"backfill.1", "configuration.md", "costs.md", "providers.md"}


def test_every_reason_of_the_quarantine_is_explained() -> None:
    text = DOCS.joinpath("validation.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| \S", text, re.M) == list(Reason)


@pytest.mark.parametrize(
    "page",
    [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"],
    ids=lambda page: page.name,
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        if path.startswith("https:"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        heads = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M) if anchor else []
        named = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
        assert not anchor or anchor in named, link
