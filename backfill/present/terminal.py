"""rich's console and table, to which every text is only text: no markup, emoji, escape or link.

The only way by which what rich draws gets to stdout.
"""

from textwrap import wrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfill.core.plain import lines, printable
from backfill.present.fitting import (
    BETWEEN,
    Rows,
    fitting,
    is_numeric,
    is_wrapped,
    narrowest,
    needed,
)


class PlainConsole(Console):
    """A console that prints strings as they are, but for what a reader of stdout would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings and tables; no line of what is drawn is an order to a runner."""
        with self.capture() as drawn:
            for one in objects:
                if isinstance(one, Rows):
                    self._print_table(one)
                else:
                    super().print(printable(one, "\n") if isinstance(one, str) else one, **options)
        self.file.write(lines(drawn.get()))
        self.file.flush()

    def print_wrapped(self, text: str, indent: int = 0) -> None:
        """Print a sentence, on a terminal in lines that end between words."""
        left = " " * indent
        wide = wrap(
            printable(text),
            self.width,
            initial_indent=left,
            subsequent_indent=left or "  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        self.print("\n".join(wide if self.is_terminal else [left + text]))

    def print_head(self, word: str, style: str, rest: str) -> None:
        """Print a line that begins with a word in a style."""
        self.print(Text.assemble((printable(word), style), printable(rest)))

    def _print_table(self, rows: Rows) -> None:
        """Draw the columns that there is room for, none of them cut; numbers to the right."""
        cells = [[printable(cell) for cell in row] for row in rows.rows]
        widths = [max(map(cell_len, column)) for column in zip(rows.columns, *cells, strict=True)]
        least = narrowest(rows.columns, widths)
        # rich pads the last column too.
        shown = fitting(least, rows.giving_way, self.width - BETWEEN)
        table = Table(box=None, pad_edge=False, padding=(0, BETWEEN, 0, 0), header_style="dim")
        for at in shown:
            name = rows.columns[at]
            table.add_column(
                name,
                justify="right" if is_numeric(name) else "left",
                no_wrap=not is_wrapped(name),
                min_width=least[at],
            )
        for row in cells:
            table.add_row(*(row[at] for at in shown))
        wide = needed([least[at] for at in shown]) + BETWEEN
        table.width = wide if wide > self.width else None
        super().print(table)
