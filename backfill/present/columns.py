"""Tables of any length: short ones laid out by rich, long ones a row at a time as they come.

rich looks at every cell several times before it prints the first: a minute for 40,000 rows.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from backfill.core.plain import lines, printable
from backfill.present.fitting import BETWEEN, Rows, fitting, is_numeric, narrowest, places
from backfill.present.tables import console

_SHORT: Final = 1000


class Columns:
    """A table of strings that is printed once it ends, or from its thousandth row on as it grows.

    The columns of a long one are as wide as its first thousand rows need, and no more than those
    are held. ``giving_way`` names columns in the order in which they go where a screen is too
    narrow.
    """

    def __init__(self, columns: Sequence[str], giving_way: Sequence[str] = ()) -> None:
        self._columns = tuple(columns)
        self._giving_way = places(columns, giving_way)
        self._held: list[tuple[str, ...]] = []
        self._shown: list[tuple[int, int]] | None = None

    def add(self, *cells: str) -> None:
        """Add a row."""
        if self._shown is not None:
            self._write(cells, self._shown)
            return
        self._held.append(cells)
        if len(self._held) > _SHORT:
            held = [self._columns, *self._held]
            widths = [max(map(len, column)) for column in zip(*held, strict=True)]
            least = narrowest(self._columns, widths)
            kept = fitting(least, self._giving_way, console().width)
            self._shown = [(at, widths[at]) for at in kept]
            for row in held:
                self._write(row, self._shown)
            self._held = []

    def end(self) -> None:
        """Print what is still held."""
        if self._shown is None:
            console().print(Rows(self._columns, self._giving_way, self._held))

    def _write(self, row: Sequence[str], shown: Sequence[tuple[int, int]]) -> None:
        cells = [
            printable(row[at]).rjust(width)
            if is_numeric(self._columns[at])
            else printable(row[at]).ljust(width)
            for at, width in shown
        ]
        sys.stdout.write(lines((BETWEEN * " ").join(cells).rstrip()) + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], giving_way: Sequence[str] = ()
) -> None:
    """Print a table of strings."""
    table = Columns(columns, giving_way)
    for row in rows:
        table.add(*row)
    table.end()
