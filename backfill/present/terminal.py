"""rich's console and table, to which every text is only text: no markup, emoji, escape or link.

The only way by which what rich draws gets to stdout.
"""

from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backfill.core.plain import lines, printable


class PlainConsole(Console):
    """A console that prints strings as they are, but for what a reader of stdout would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings and tables; no line of what is drawn is an order to a runner."""
        with self.capture() as drawn:
            super().print(*(_shown(one, "\n") for one in objects), **options)
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


class PlainTable(Table):
    """A table whose cells are strings."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings, each on one line."""
        super().add_row(*(_shown(one, "") for one in cells), **options)


def _shown(one: Any, kept: str) -> Any:
    return printable(one, kept) if isinstance(one, str) else one
