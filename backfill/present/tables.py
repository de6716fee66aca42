"""What every table and sentence on stdout shares: the console, the columns, the spellings.

rich is loaded when something is printed: JSON needs none.
"""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from backfill.present.terminal import PlainConsole, PlainTable

_UNBOUNDED: Final = 1000
_NUMBERS: Final = {
    "open",
    "high",
    "low",
    "close",
    "volume",
    "bars",
    "calls",
    "at most",
    "bars at most",
    "off the grid",
    "priority",
    "ranges",
    "rejected",
    "slots",
    "stored twice",
}


def console() -> "PlainConsole":
    """Return the console of stdout."""
    from backfill.present.terminal import PlainConsole

    # A file or a pipe has no width to cut a table to.
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return PlainConsole(soft_wrap=True, width=width)


def table_of(*columns: str) -> "PlainTable":
    """Return a table without lines; numbers stand to the right, reasons may be wrapped."""
    from backfill.present.terminal import PlainTable

    made = PlainTable(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        justify: Literal["left", "right"] = "right" if is_numeric(column) else "left"
        made.add_column(column, justify=justify, no_wrap=column != "why")
    return made


def is_numeric(column: str) -> bool:
    """Whether a column holds numbers, which stand to the right."""
    return column in _NUMBERS


def time_text(at: datetime | None) -> str:
    """Return an instant to the minute; nothing for none."""
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def duration_text(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
