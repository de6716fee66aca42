"""A strict quota: no sliding window ever holds more than it may, in the provider's unit."""

import re
from collections import deque
from typing import Final, Self

_WINDOW: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class SlidingWindows:
    """Counts what admitted calls cost in windows that slide with every call.

    A refused call does not count: a client that keeps asking is not locked out for longer.
    """

    def __init__(self, windows: tuple[tuple[int, float], ...] = ()) -> None:
        self._windows = windows
        self._longest_s = max((period_s for _, period_s in windows), default=0.0)
        self._admitted: deque[tuple[float, int]] = deque()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``5/60s``, several windows as ``8/60s,800/1d``, or ``unlimited``."""
        if text == "unlimited":
            return cls()
        windows = []
        for part in text.split(","):
            match = _WINDOW.fullmatch(part.strip())
            if match is None or int(match[1]) < 1 or float(match[2]) <= 0:
                raise ValueError(f"{text!r} is not a list of windows like 5/60s, nor 'unlimited'")
            windows.append((int(match[1]), float(match[2]) * _UNIT_S[match[3]]))
        return cls(tuple(windows))

    def admit(self, at_s: float, cost: int = 1) -> float:
        """Count a call, and return 0; or return the seconds until it would be admitted."""
        while self._admitted and self._admitted[0][0] <= at_s - self._longest_s:
            self._admitted.popleft()
        wait_s = max((self._wait_s(at_s, cost, *window) for window in self._windows), default=0.0)
        if wait_s > 0:
            return wait_s
        if self._windows:
            self._admitted.append((at_s, cost))
        return 0.0

    def used(self, at_s: float) -> int:
        """Return what of the first window is used at an instant."""
        period_s = self._windows[0][1] if self._windows else 0.0
        return sum(cost for when_s, cost in self._admitted if when_s > at_s - period_s)

    def _wait_s(self, at_s: float, cost: int, limit: int, period_s: float) -> float:
        """Return how long a window has no room for a call: all of it for one too many for it."""
        if cost > limit:
            return period_s
        within = [one for one in self._admitted if one[0] > at_s - period_s]
        over = sum(held for _, held in within) + cost - limit
        for when_s, held in within:
            if over <= 0:
                break
            over -= held
            if over <= 0:
                return when_s + period_s - at_s
        return 0.0
