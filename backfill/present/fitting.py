"""Tables as values, and which of their columns a screen has room for."""

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from backfill.core.dataclass import dataclass

BETWEEN: Final = 2
"""Blanks between two columns."""
_NUMBERS: Final = {
    "open",
    "high",
    "low",
    "close",
    "volume",
    "bars",
    "calls",
    "at most",
    "bars at most",
    "off the grid",
    "priority",
    "ranges",
    "rejected",
    "share",
    "slots",
    "stored twice",
    "trades",
    "vwap",
}
_WRAPPED: Final = {"", "why"}
_WORD: Final = 12
"""How narrow a column may become whose cells take several lines."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of strings that is laid out when it is printed.

    ``giving_way`` are the places of the columns that go first where a screen is too narrow.
    """

    columns: tuple[str, ...]
    giving_way: tuple[int, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)


def fitting(widths: Sequence[int], giving_way: Sequence[int], room: int) -> list[int]:
    """Return which columns are shown, in their order.

    Those of ``giving_way`` go, one by one in that order, until the rest fits into ``room``. All
    others stay, and so does every character of them: a row that is too long for the screen is
    wrapped by it, while a number that is cut is another number.

    >>> fitting([4, 9, 16, 5], giving_way=[2, 1], room=80)
    [0, 1, 2, 3]
    >>> fitting([4, 9, 16, 5], giving_way=[2, 1], room=24)
    [0, 1, 3]
    >>> fitting([4, 9, 16, 5], giving_way=[2, 1], room=5)
    [0, 3]
    """
    shown = list(range(len(widths)))
    for column in giving_way:
        if needed([widths[at] for at in shown]) <= room:
            break
        shown.remove(column)
    return shown


def narrowest(columns: Sequence[str], widths: Sequence[int]) -> list[int]:
    """Return how narrow columns may become in which something is so wide."""
    return [
        min(width, _WORD) if is_wrapped(name) else width
        for name, width in zip(columns, widths, strict=True)
    ]


def needed(widths: Sequence[int]) -> int:
    """Return how wide a row of such columns is."""
    return sum(widths) + BETWEEN * max(0, len(widths) - 1)


def places(columns: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return where columns stand that may give way: no numbers.

    Raises
    ------
    ValueError
        If there is no such column, or it holds numbers.
    """
    if numbers := [name for name in names if is_numeric(name)]:
        raise ValueError(f"a number never gives way: {numbers}")
    return tuple(columns.index(name) for name in names)


def is_numeric(column: str) -> bool:
    """Whether a column holds numbers, which stand to the right."""
    return column in _NUMBERS


def is_wrapped(column: str) -> bool:
    """Whether the cells of a column may take several lines."""
    return column in _WRAPPED
