"""What every table and sentence on stdout shares: the console, the columns, the spellings.

rich is loaded when something is printed: JSON needs none.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from backfill.present.fitting import Rows, places

if TYPE_CHECKING:
    from backfill.present.terminal import PlainConsole
    from backfill.run.outcomes import Summary

_UNBOUNDED: Final = 1000


def console() -> "PlainConsole":
    """Return the console of stdout."""
    from backfill.present.terminal import PlainConsole

    # A file or a pipe has no width to cut a table to.
    width = None if on_screen() else _UNBOUNDED
    return PlainConsole(soft_wrap=True, width=width)


def on_screen() -> bool:
    """Whether stdout is a terminal, so that somebody reads it as it is."""
    return sys.stdout.isatty()


def table_of(*columns: str, giving_way: Sequence[str] = ()) -> Rows:
    """Return a table without lines; numbers stand to the right, reasons may be wrapped.

    ``giving_way`` names columns in the order in which they go where a screen is too narrow.
    """
    return Rows(columns, places(columns, giving_way))


def amount(number: int, one: str, many: str = "") -> str:
    """Return a number of things.

    >>> amount(1, "call"), amount(1200, "call"), amount(0, "retry", "retries")
    ('1 call', '1,200 calls', '0 retries')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def sent_text(result: "Summary") -> str:
    """Say what a run sent to its providers."""
    parts = (
        amount(result.calls, "call"),
        amount(result.lookups, "look-up"),
        amount(result.retries, "retry", "retries"),
        f"{amount(result.rate_limited, 'time')} rate-limited",
    )
    return ", ".join(parts)


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


def percent_text(share: float | None) -> str:
    """Return a part of what is wanted: none that lacks something is all of it, or none of it.

    >>> percent_text(0.9999), percent_text(0.0001), percent_text(1.0)
    ('99%', '<1%', '100%')
    """
    if share is None:
        return ""
    return "<1%" if 0 < share < 0.01 else f"{int(share * 100)}%"


def bytes_text(size: float) -> str:
    """Return a number of bytes in the unit that people count it in.

    >>> [bytes_text(size) for size in (0, 999_499, 1_000_000, 168_000_000, 2_340_000_000)]
    ['0 kB', '999 kB', '1.0 MB', '168 MB', '2.3 GB']
    """
    for unit, each in (("GB", 1e9), ("MB", 1e6)):
        if size >= each:
            return f"{size / each:.1f} {unit}" if size < 10 * each else f"{size / each:,.0f} {unit}"
    return f"{size / 1e3:.0f} kB"
