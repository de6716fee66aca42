"""Markdown as GitHub shows it, of text that others wrote: every character means only itself."""

import re
from typing import Final

from backfill.core.plain import one_line

# A colon or the point of www. would make a link.
_MEANS_SOMETHING: Final = re.compile(r"[^\w\s,;()/'.+=-]|_|(?<=www)\.")


def text(of: str) -> str:
    """Return a text in which nothing is markup, on one line."""
    return _MEANS_SOMETHING.sub(lambda found: f"&#{ord(found[0])};", one_line(of))


def code(of: str) -> str:
    """Return a text set as code."""
    return f"<code>{text(of)}</code>"


def head(*columns: str) -> list[str]:
    """Return the lines that begin a table."""
    return [row(*columns), f"|{' --- |' * len(columns)}"]


def row(*cells: str) -> str:
    """Return a line of a table; what stands in the cells is Markdown already."""
    return f"| {' | '.join(cells)} |"
