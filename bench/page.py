"""Measurements as they are kept, and their tables in the page that tells of them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.results import FOLDER


def publish(name: str, measured: Sequence[object], table: str, document: Path) -> str:
    """Keep every measurement of ``python -m bench NAME``, write its table, and return that.

    Raises
    ------
    ValueError
        If the page has no marks for it.
    """
    FOLDER.mkdir(exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(list(measured)), indent=1)
    (FOLDER / f"{name}.json").write_bytes(encoded + b"\n")
    begins, ends = (
        f"<!-- {name}: written by `python -m bench {name}` -->",
        f"<!-- end of {name} -->",
    )
    fill_between(document, begins, ends, table)
    return table


def fill_between(document: Path, begins: str, ends: str, text: str) -> None:
    """Write a text between two marks of a page, in place of what stood there.

    Raises
    ------
    ValueError
        If the page has no such marks.
    """
    before, begin, rest = document.read_text().partition(begins)
    _, end, after = rest.partition(ends)
    if not begin or not end:
        raise ValueError(f"{document} lacks the line {begins!r} or {ends!r}")
    document.write_text(f"{before}{begins}\n\n{text}\n\n{ends}{after}")
