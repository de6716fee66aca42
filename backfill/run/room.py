"""Room for answers: how many bytes of them are under way at once, over all streams of a run.

A page is asked for when there is room to hold it until it is written, so that a run whose provider
is faster than its database holds no more than one whose isn't, however many series it has. First
come, first served; what is waited for here is given back by writes, which wait for no room.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from backfill.core.paging import Chunk

ROOM: Final = 48 * 2**20
"""In bytes, of bars as columns and what is kept beside them until they are written."""

PER_BAR: Final = 128
"""In bytes: eight columns of eight, as they came and as they are stored."""

PER_PAGE: Final = 64 * 2**10
"""In bytes: what an answer takes besides its bars."""


def size_of(chunks: Iterable[Chunk]) -> int:
    """Return how much room chunks take until they are written, in bytes."""
    return sum(PER_PAGE + (len(one.bars) + len(one.rejected)) * PER_BAR for one in chunks)


class Share:
    """Some of the room, until it is given back."""

    def __init__(self, room: "Room", size: int) -> None:
        self._room = room
        self._size = size
        self._keeper: asyncio.Task[Any] | None = None

    def shrink(self, size: int) -> None:
        """Give back what turns out not to be needed: ``size`` is what is."""
        spare = max(self._size - size, 0)
        self._size -= spare
        self._room.give_back(spare)

    def release(self) -> None:
        """Give all of it back, unless a task keeps it; a second time there is nothing to give."""
        if self._keeper is None or self._keeper.done():
            self.shrink(0)

    def until_done(self, task: "asyncio.Task[Any]") -> None:
        """Have a task keep it until it ends."""
        self._keeper = task
        task.add_done_callback(lambda _: self.release())


class Room:
    """A bounded number of bytes, lent in the order in which it is asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How many bytes are lent."""
        return self._taken

    async def take(self, bars: int) -> Share:
        """Wait for the room of an answer of so many bars; one that exceeds it all comes alone."""
        size = min(PER_PAGE + bars * PER_BAR, self._size)
        if self._waiting or self._taken + size > self._size:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                self._leave(size, turn)
                raise
        else:
            self._taken += size
        return Share(self, size)

    def give_back(self, size: int) -> None:
        """Take back what was lent, and let in who waits for it."""
        self._taken -= size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.cancelled() and self._taken + wanted > self._size:
                return
            self._waiting.popleft()
            if not turn.cancelled():
                self._taken += wanted
                turn.set_result(None)

    def _leave(self, size: int, turn: "asyncio.Future[None]") -> None:
        """Leave the line; who was let in while it was cancelled gives its room back."""
        let_in = turn.done() and not turn.cancelled()
        turn.cancel()
        self.give_back(size if let_in else 0)
