"""How much time things of a kind take: those that were done, and those under way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from backfill.core.estimate import BAR_S

RECENT: Final = 64
"""About so many of the newest measurements count."""
_BARS: Final = 50_000
"""What is taken for the writers' pace weighs as much as so many bars: small pages mislead."""


class Busy:
    """How much time is spent on things of a kind, and how many of them were done.

    ``together`` counts the time in which any is under way; otherwise each one's own adds up.
    """

    def __init__(self, clock: Callable[[], float], *, together: bool) -> None:
        self._clock = clock
        self._together = together
        self._under_way = 0
        self._since_s = clock()
        self._spent_s = 0.0
        self._done = 0.0

    def change(self, by: int) -> None:
        """Note that some more are under way, or fewer."""
        self._catch_up()
        self._under_way += by

    def count(self, done: float, most: float) -> None:
        """Count what was done; once it is more than ``most``, what was earlier fades."""
        self._catch_up()
        self._done += done
        if self._done > most:
            self._spent_s *= most / self._done
            self._done = most

    @property
    def under_way(self) -> int:
        """How many are under way."""
        return self._under_way

    def each_s(self, expected_s: float, weight: float) -> float:
        """Return what one takes, those under way taken for half done once others were.

        Before anything was measured it is what was expected, which weighs as so many.
        """
        self._catch_up()
        going = 0 if self._together else self._under_way
        halves = going / 2 * self._done / (self._done + going) if going else 0.0
        return (self._spent_s + expected_s * weight) / (self._done + going - halves + weight)

    def _catch_up(self) -> None:
        now_s = self._clock()
        at_once = min(self._under_way, 1) if self._together else self._under_way
        self._spent_s += at_once * (now_s - self._since_s)
        self._since_s = now_s


class Writes:
    """How fast bars are written: one for all lanes of a run, which share the writers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._busy = Busy(clock, together=True)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Note that a transaction writes meanwhile."""
        self._busy.change(1)
        try:
            yield
        finally:
            self._busy.change(-1)

    def count(self, bars: int) -> None:
        """Count what it wrote."""
        self._busy.count(bars, most=RECENT * 50_000)

    @property
    def bar_s(self) -> float:
        """What the writers take for a bar, in seconds."""
        return self._busy.each_s(BAR_S, _BARS)
