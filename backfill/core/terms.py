"""What a provider's plan allows: how often it may be asked, how deep, and when bars are final."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

from backfill.errors import UsageError

_WINDOW = re.compile(r"(\d+)/(\d+(?:\.\d+)?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_CALLS = 1_000_000
_LONGEST_S = 366 * 86400


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any ``period_s`` seconds."""

    limit: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """The sliding windows that hold at once; without any, calls are unlimited.

    >>> Quota.parse("8/60s,800/1d").windows
    (Window(limit=8, period_s=60.0), Window(limit=800, period_s=86400.0))
    """

    windows: tuple[Window, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``5/60s``, several windows as ``8/60s,800/1d``, or ``unlimited``.

        Raises
        ------
        UsageError
            If the text is none of these, or a window allows no call.
        """
        if text.strip() == "unlimited":
            return cls()
        windows = []
        for part in text.split(","):
            match = _WINDOW.fullmatch(part.strip())
            if match is None or not _is_window(int(match[1]), float(match[2]), match[3]):
                raise UsageError(
                    f"quota {text!r} is not a list of calls/period like 5/60s or 8/60s,800/1d, "
                    "nor 'unlimited'"
                )
            windows.append(Window(int(match[1]), float(match[2]) * _UNIT_S[match[3]]))
        return cls(tuple(windows))

    @property
    def pace(self) -> Window | None:
        """The shortest window: calls are spread evenly over it. None for no window."""
        return min(self.windows, key=lambda window: window.period_s, default=None)

    @property
    def longer(self) -> tuple[Window, ...]:
        """The other windows: each bounds how many calls its period holds, however they fall."""
        return tuple(window for window in self.windows if window is not self.pace)

    @property
    def seconds_per_call(self) -> float:
        """The fastest lasting pace that every window allows, in seconds per call."""
        return max((window.period_s / window.limit for window in self.windows), default=0.0)


def _is_window(limit: int, length: float, unit: str) -> bool:
    """Whether it allows a call, and no more than a ledger can hold for as long as it lasts."""
    return 1 <= limit <= _MOST_CALLS and 0 < length * _UNIT_S[unit] <= _LONGEST_S


@dataclass(frozen=True, slots=True)
class Settling:
    """How long after its end a closed bar may still change, in milliseconds.

    ``end_of_day`` marks a plan whose intraday bars arrive with their session's d1.
    """

    intraday_ms: int
    daily_ms: int
    end_of_day: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """A provider's plan: its quota, when its bars are final, and how deep it may be read.

    ``depth`` is the length of history before today that the plan may read, None for all of it;
    ``earliest`` the day on which the provider's own history begins.
    """

    name: str
    quota: Quota
    settling: Settling
    depth: timedelta | None
    earliest: date

    def window_start(self, today: date) -> date:
        """Return the first day that may be read; a day's margin, since the window recedes daily."""
        if self.depth is None:
            return self.earliest
        return max(self.earliest, today - self.depth + timedelta(days=1))
