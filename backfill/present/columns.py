"""Tables of any length: short ones laid out by rich, long ones a row at a time as they come.

rich looks at every cell several times before it prints the first: a minute for 40,000 rows.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from backfill.core.plain import lines, printable
from backfill.present.tables import console, is_numeric, table_of

_SHORT: Final = 1000
_BETWEEN: Final = "  "


class Columns:
    """A table of strings that is printed once it ends, or from its thousandth row on as it grows.

    The columns of a long one are as wide as its first thousand rows need, and no more than those
    are held.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._held: list[Sequence[str]] = []
        self._widths: list[int] | None = None

    def add(self, *cells: str) -> None:
        """Add a row."""
        if self._widths is not None:
            self._write(cells, self._widths)
            return
        self._held.append(cells)
        if len(self._held) > _SHORT:
            held = [self._columns, *self._held]
            self._widths = [max(map(len, column)) for column in zip(*held, strict=True)]
            for row in held:
                self._write(row, self._widths)
            self._held = []

    def end(self) -> None:
        """Print what is still held."""
        if self._widths is None:
            table = table_of(*self._columns)
            for row in self._held:
                table.add_row(*row)
            console().print(table)

    def _write(self, row: Sequence[str], widths: Sequence[int]) -> None:
        cells = (
            printable(cell).rjust(width) if is_numeric(column) else printable(cell).ljust(width)
            for column, cell, width in zip(self._columns, row, widths, strict=True)
        )
        sys.stdout.write(lines(_BETWEEN.join(cells).rstrip()) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of strings."""
    table = Columns(columns)
    for row in rows:
        table.add(*row)
    table.end()
