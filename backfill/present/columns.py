"""Tables of any length: short ones laid out by rich, long ones a row at a time as they come.

rich looks at every cell several times before it prints the first: a minute for 40,000 rows.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Final

from backfill.core.plain import printable
from backfill.present.tables import console, is_numeric, table_of

_SHORT: Final = 1000
_BETWEEN: Final = "  "


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of strings.

    Of a long one the columns are as wide as the first thousand rows need, and no more than these
    are held.
    """
    coming = iter(rows)
    first = list(islice(coming, _SHORT + 1))
    if len(first) <= _SHORT:
        table = table_of(*columns)
        for row in first:
            table.add_row(*row)
        console().print(table)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *first, strict=True)]
    to_right = [is_numeric(column) for column in columns]
    for row in chain([columns], first, coming):
        cells = (
            printable(cell).rjust(width) if right else printable(cell).ljust(width)
            for cell, width, right in zip(row, widths, to_right, strict=True)
        )
        sys.stdout.write(_BETWEEN.join(cells).rstrip() + "\n")
