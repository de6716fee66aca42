"""rich's console and table, to which every text is only text: no markup, emoji, escape or link."""

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table


class PlainConsole(Console):
    """A console that prints strings as they are, but for what a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings, and what rich renders."""
        super().print(*(_shown(one) for one in objects), **options)


class PlainTable(Table):
    """A table whose cells are strings."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of strings, each on one line."""
        super().add_row(*(_shown(one, line_ends="") for one in cells), **options)


def _shown(one: Any, line_ends: str = "\n") -> Any:
    """Return a string with a space for each character that can't be printed."""
    if not isinstance(one, str):
        return one
    return "".join(sign if sign.isprintable() or sign in line_ends else " " for sign in one)
