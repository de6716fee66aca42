"""Tables of Markdown as GitHub shows it."""

from backfill.core.plain import markdown as text
from backfill.core.plain import one_line

__all__ = ["code", "head", "readable", "row", "text"]


def readable(of: str) -> str:
    """Return a text for who reads a page as it is written: only what would end a cell is marked."""
    return one_line(of).replace("|", r"\|")


def code(of: str) -> str:
    """Return a text set as code."""
    return f"<code>{text(of)}</code>"


def head(*columns: str) -> list[str]:
    """Return the lines that begin a table."""
    return [row(*columns), f"|{' --- |' * len(columns)}"]


def row(*cells: str) -> str:
    """Return a line of a table; what stands in the cells is Markdown already."""
    return f"| {' | '.join(cells)} |"
