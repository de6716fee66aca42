"""How far a run is, in lines that fit: what matters less gives way, no number is cut."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backfill.present.tables import bytes_text, duration_text

if TYPE_CHECKING:
    from datetime import datetime

    from backfill.run.pace import Progress

_BETWEEN: Final = " · "


def progress(of: "Progress", left_s: float, bars_per_s: float, width: int) -> str:
    """Return two lines: how much is done, and how long the rest takes, which is ``left_s``."""
    if not of.calls_in_all:
        return "starting…"
    done = [
        f"{of.symbols_done:,} of {of.symbols:,} symbols",
        f"{of.calls:,} of about {of.calls_in_all:,} calls",
        f"{of.bars:,} bars",
    ]
    if of.failed:
        done.insert(1, f"{of.failed:,} series failed")
    left = [
        f"about {duration_text(left_s)} left" if left_s else "ending",
        f"{bytes_text(of.stored_bytes)} written",
        f"{bars_per_s:,.0f} bars/s",
    ]
    if (slowest := of.slowest) is not None:
        left.insert(
            2, f"slowest: {slowest.name}, {slowest.calls:,} of {slowest.calls_in_all:,} calls"
        )
    return f"{_fitting(done, width)}\n{_fitting(left, width)}"


def waiting(until: "datetime | None", left_s: float | None, width: int) -> str:
    """Return a line that says when the next round of a watch is."""
    parts = ["waiting for the watchlist to change"]
    if until is not None and left_s is not None:
        parts = [f"next round in {duration_text(max(left_s, 1.0))}", f"at {until:%H:%M:%S} UTC"]
        parts.append("sooner if the watchlist changes")
    return _fitting(parts, width)


def _fitting(parts: Sequence[str], width: int) -> str:
    """Return as many parts as fit, the first ones first; the first in any case."""
    for upto in range(len(parts), 1, -1):
        line = _BETWEEN.join(parts[:upto])
        if len(line) <= width:
            return line
    return parts[0]
