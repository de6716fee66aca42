"""The pages of docs that are written by a program are up to date."""

import pytest

from tests.documents import DOCS, PAGES


@pytest.mark.parametrize(
    "name", ["configuration.md", pytest.param("costs.md", marks=pytest.mark.soak)]
)
def test_a_written_page_is_what_the_code_says_now(name: str) -> None:
    assert DOCS.joinpath(name).read_text("utf-8") == PAGES[name](), "run: make docs"


def test_every_written_page_is_compared() -> None:
    assert set(PAGES) == {"configuration.md", "costs.md"}
