"""How many turns a lane takes at once: as many as help, whatever its quota and its answers' times.

A turn sends a call at a time, so six turns of five seconds are 72 calls a minute, whatever the plan
allows. So their number grows by one with each turn that ends, as long as there is something to do
for another, and most of those under way work rather than wait for the quota or for room: then more
of them would only wait beside them. A round is as many turns as were under way when it began: one
in which the number grew is followed by one that tells whether that helped. If more turns end no
faster, the provider, the link or this machine takes no more, and the number goes back and rests. It
is halved when calls fail, or when answers take twice as long as a round before.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

FIRST: Final = 6
"""So many turns are under way from the start."""
_MOST: Final = 256
"""Each has a socket; a process may have about a thousand files open."""
_HELPS: Final = 1.25
"""How many times as fast turns have to end for twice as many of them to be of use."""
_SLOWER: Final = 2.0
_NOTICED_S: Final = 0.05
"""By how much answers have to slow down for that to be more than chance."""
_WAITING: Final = 0.5
"""Where more than this part of the turns waits for the quota, another would wait, too."""
_RESTS: Final = 8
"""So many rounds pass before growth is tried again that didn't help."""


class Flight:
    """How many turns may be under way, and how many are.

    Parameters
    ----------
    most
        How many calls the provider is sent at once at most; None for no bound of its own.
    clock
        Seconds, of any origin.
    """

    def __init__(
        self, most: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = min(most or _MOST, _MOST)
        self._clock = clock
        self.limit = min(FIRST, self._most)
        self._under_way = 0
        self._changed = asyncio.Event()
        self._failures = 0
        self._rests = 0
        self._is_tried = False
        self._earlier = self.limit
        self._rate = 0.0
        self._head_s = 0.0
        self._begin()

    def _begin(self) -> None:
        """Begin a round."""
        self._round = self.limit
        self._ended = 0
        self._began_s = self._clock()
        self._is_halved = False

    async def place(self) -> None:
        """Wait until another turn may begin."""
        while self._under_way >= self.limit:
            self._changed.clear()
            await self._changed.wait()

    def begin(self) -> None:
        """Note that a turn begins."""
        self._under_way += 1

    def end(self, *, more: bool, idle: int, head_s: float, failures: int) -> None:
        """Note that a turn has ended, and see how many are to be under way from now on.

        Parameters
        ----------
        more
            Whether a stream waits for its turn.
        idle
            How many turns wait for the quota, or for room.
        head_s
            How long calls took lately from their leave to the head of the answer, in seconds.
        failures
            How many calls of this lane have failed so far, 429s among them.
        """
        self._under_way -= 1
        self._ended += 1
        if failures > self._failures and not self._is_halved:
            self._halve()
        self._failures = failures
        is_bound = idle > _WAITING * self.limit
        if self._ended >= self._round:
            self._end_round(head_s, is_bound=is_bound)
        grows = not (is_bound or self._is_tried or self._rests)
        if more and grows and self.limit < self._most:
            self.limit += 1
        self._changed.set()

    def _end_round(self, head_s: float, *, is_bound: bool) -> None:
        rate = self._ended / max(self._clock() - self._began_s, 1e-9)
        if self._is_tried:
            self._is_tried = False
            if rate < _HELPS * self._rate and not is_bound:
                self.limit, self._rests = self._earlier, _RESTS
        elif self.limit > self._round:
            self._earlier, self._rate, self._is_tried = self._round, rate, True
        else:
            self._rests = max(self._rests - 1, 0)
        if self._head_s and head_s > max(_SLOWER * self._head_s, self._head_s + _NOTICED_S):
            self._halve()
        self._head_s = head_s
        self._begin()

    def _halve(self) -> None:
        self.limit, self._rests = max(self.limit // 2, 1), max(self._rests, 1)
        self._is_halved, self._is_tried = True, False
