"""Shapes of SVG paths, made of facts: numbers only, so nothing of another's text is in one."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

from backfill.report.facts import Cell

COLUMNS: Final = 96
"""How many columns a strip has."""
WIDTH: Final = 4
"""How wide a column of a strip is, in units of its drawing."""
HEIGHT: Final = 14
_MIX_HEIGHT: Final = 40
_DAY_WIDTH: Final = 12
_DAYS_HEIGHT: Final = 60

# Where a state's shapes begin and end, from the top: by these they differ without any colour.
_EXTENTS: Final[Mapping[Cell, tuple[tuple[int, int], ...]]] = {
    Cell.stored: ((0, 14),),
    Cell.gap: ((0, 14),),
    Cell.quarantined: ((0, 5), (9, 14)),
    Cell.unconfirmed: ((7, 14),),
    Cell.empty: ((6, 8),),
    Cell.uncovered: ((12, 14),),
}
STACKED: Final = (
    Cell.stored, Cell.empty, Cell.uncovered, Cell.unconfirmed, Cell.quarantined, Cell.gap,
)  # fmt: skip
"""The states in the order in which a mix stacks them, from the bottom."""


@lru_cache(maxsize=4096)
def strip(cells: str) -> tuple[tuple[str, str], ...]:
    """Return the states of a strip, each with the path that fills where it is.

    >>> strip("ssg")
    (('stored', 'M0 0h8v14h-8z'), ('gap', 'M8 0h4v14h-4z'))
    """
    paths: dict[Cell, list[str]] = {}
    at = 0
    for sign, run in groupby(cells):
        wide = sum(1 for _ in run) * WIDTH
        for top, bottom in _EXTENTS.get(Cell(sign), ()):
            paths.setdefault(Cell(sign), []).append(_box(at, top, wide, bottom - top))
        at += wide
    return tuple((cell.name, "".join(boxes)) for cell, boxes in paths.items())


def mix(columns: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    """Yield the states of a group, each with the path of its part of every column, stacked."""
    paths: dict[Cell, list[str]] = {}
    for place, counts in enumerate(columns):
        total, below = sum(counts.values()), 0
        for cell in STACKED:
            if not (number := counts.get(cell, 0)):
                continue
            bottom, top = (_MIX_HEIGHT * part / total for part in (below, below + number))
            # However few of many series lack something, a pixel tells of it.
            tall = max(top - bottom, 1.0)
            begins = min(max(_MIX_HEIGHT - top, 0), _MIX_HEIGHT - tall)
            paths.setdefault(cell, []).append(_box(place * WIDTH, begins, WIDTH, tall))
            below += number
    yield from ((cell.name, "".join(paths[cell])) for cell in STACKED if cell in paths)


def columns(numbers: Sequence[int]) -> str:
    """Return the path of a column for each number, as high as its part of the greatest."""
    most = max(numbers, default=0)
    return "".join(
        _box(place * _DAY_WIDTH + 1, _DAYS_HEIGHT - tall, _DAY_WIDTH - 2, tall)
        for place, number in enumerate(numbers)
        if number and (tall := max(_DAYS_HEIGHT * number / most, 1.0))
    )


def line(values: Sequence[float], width: int = 120, height: int = HEIGHT) -> str:
    """Return the points of a line through values, from the left to the right."""
    least, most = min(values), max(values)
    across = width / max(len(values) - 1, 1)
    tall = (height - 2) / (most - least) if most > least else 0.0
    return " ".join(
        f"{place * across:.4g},{height - 1 - (value - least) * tall:.4g}"
        for place, value in enumerate(values)
    )


def _box(left: float, top: float, wide: float, tall: float) -> str:
    return f"M{left:.4g} {top:.4g}h{wide:.4g}v{tall:.4g}h-{wide:.4g}z"
