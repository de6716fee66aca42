"""Every statement says what it answers, and by which index where that isn't plain."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import backfill

STORE: Final = Path(backfill.__file__).parent / "store"
_BEGINS: Final = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|DROP|LOCK|COPY|SET|LISTEN|TRUNCATE)\b"
)


def statements() -> Iterator[tuple[str, str]]:
    """Every constant of the store that holds SQL, with the line above it."""
    for path in sorted(STORE.glob("*.py")):
        lines = path.read_text().splitlines()
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.AnnAssign | ast.Assign) or node.value is None:
                continue
            texts = [
                one.value
                for one in ast.walk(node.value)
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            if texts and _BEGINS.match(texts[0]):
                yield f"{path.name}:{node.lineno}", lines[node.lineno - 2]


def test_each_statement_has_a_line_that_says_what_it_answers() -> None:
    found = list(statements())
    assert len(found) > 100
    assert [where for where, above in found if not above.startswith("# ")] == []
