"""rich's console and table, to which every text is only text: no markup, emoji, escape or link."""

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from backfill.core.plain import printable


class PlainConsole(Console):
    """A console that prints strings as they are, but for what a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings, and what rich renders."""
        super().print(*(_shown(one, "\n") for one in objects), **options)


class PlainTable(Table):
    """A table whose cells are strings."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of strings, each on one line."""
        super().add_row(*(_shown(one, "") for one in cells), **options)


def _shown(one: Any, kept: str) -> Any:
    return printable(one, kept) if isinstance(one, str) else one
