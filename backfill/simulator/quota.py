"""A strict quota: no sliding window ever holds more calls than it may."""

import re
from collections import deque
from typing import Final, Self

_WINDOW: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class SlidingWindows:
    """Counts admitted calls in windows that slide with every call.

    A refused call does not count: a client that keeps asking is not locked out for longer.
    """

    def __init__(self, windows: tuple[tuple[int, float], ...] = ()) -> None:
        self._windows = windows
        self._admitted: deque[float] = deque(maxlen=max((n for n, _ in windows), default=0))

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

    def admit(self, at_s: float) -> float:
        """Count a call, and return 0; or return the seconds until one would be admitted."""
        waits = [
            self._admitted[-limit] + period_s - at_s
            for limit, period_s in self._windows
            if len(self._admitted) >= limit
        ]
        wait_s = max(waits, default=0.0)
        if wait_s > 0:
            return wait_s
        self._admitted.append(at_s)
        return 0.0
