"""Columns of text as numbers; what can't be read is named by its row."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from backfill.core.bars import NO_COUNT, FloatColumn, IntColumn

ABSENT: Final = frozenset({"", "nan", "null", "none", "n/a", "na", "\\n"})
"""How files spell that there is no value, in small letters; the last is psql's."""

_SHOWN: Final = 40


class BadRow(Exception):
    """A row that can't be read; ``row`` is its index in the column that was given."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


def quoted(cell: str) -> str:
    """Return a cell as a message shows it."""
    return repr(cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}…")


def numbers(name: str, cells: Sequence[str]) -> FloatColumn:
    """Return a column of decimal numbers; NaN where there is no value.

    Raises
    ------
    BadRow
        If a cell is no number, such as one with separators between its thousands.

    >>> numbers("close", ["1.5", "", "2e3"]).tolist()
    [1.5, nan, 2000.0]
    """
    if "_" not in "".join(cells):
        with suppress(ValueError):
            return np.fromiter((float(cell or "nan") for cell in cells), np.float64, len(cells))
    found = (_number(name, row, cell) for row, cell in enumerate(cells))
    return np.fromiter(found, np.float64, len(cells))


def counts(name: str, cells: Sequence[str]) -> IntColumn:
    """Return a column of whole numbers, `NO_COUNT` where there is no value.

    Raises
    ------
    BadRow
        If a cell is no whole number below 2^63.

    >>> counts("trade_count", ["7", "", "8.0"]).tolist()
    [7, -1, 8]
    """
    return whole(name, numbers(name, cells))


def whole(name: str, values: FloatColumn) -> IntColumn:
    """Return numbers as whole ones, `NO_COUNT` for each NaN.

    Raises
    ------
    BadRow
        If one isn't whole, or too large.
    """
    known = ~np.isnan(values)
    wrong = known & ~((np.abs(values) < 2.0**63) & (np.floor(values) == values))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BadRow(row, f"{name} {values[row]:g} is no whole number")
    return np.where(known, values, NO_COUNT).astype(np.int64)


def _number(name: str, row: int, cell: str) -> float:
    text = cell.strip()
    if text.lower() in ABSENT:
        return float("nan")
    if "_" not in text:  # Python's numbers may have them, nobody else's
        with suppress(ValueError):
            return float(text)
    why = f"{name} {quoted(cell)} is no number"
    if "," in text:
        why += ": write it with a decimal point, and nothing between its thousands"
    raise BadRow(row, why)
