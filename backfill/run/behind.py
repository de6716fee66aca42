"""Pages on their way into the tables, behind the turns that fetched them.

A page is written as soon as the one before it is. Small pages that come meanwhile wait, and go in
one transaction: of a thousand bars it costs more than they do. Of a large one the rows go to the
table while those of the page before do, in a transaction of their own that waits for the other's
end before it locks or claims anything.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from backfill.core.archive import FileRead
from backfill.core.joining import joined, may_join
from backfill.core.paging import Chunk
from backfill.store.bars import Locked

MOST_WAITING: Final = 16_384
"""So many bars wait at most: they are asked for again if the run is killed."""


class Superseded(Exception):
    """The write before came to nothing, so this one is of no use."""


class Place:
    """The place of a write in the order of its stream.

    ``leaves`` tells, while the write is under way, what the tables say of its series once it has
    ended: None if it came to nothing. ``before`` is the write before it, until that is known to
    have ended well.
    """

    def __init__(
        self, write: Callable[["Place"], Coroutine[Any, Any, bool]], before: "Place | None"
    ) -> None:
        self.leaves: asyncio.Future[Locked | None] = asyncio.get_running_loop().create_future()
        self.before = before
        self.task = asyncio.create_task(write(self))
        """The write: what it returns tells whether the next one may follow."""
        self.task.add_done_callback(lambda _: self.tell(None))

    def tell(self, leaves: Locked | None) -> None:
        """Tell what the tables will say, unless that was told."""
        if not self.leaves.done():
            self.leaves.set_result(leaves)

    async def expected(self) -> Locked | None:
        """Wait until it is known what the tables will say."""
        await asyncio.wait([self.leaves])
        return self.leaves.result()

    async def ended_well(self, within_s: float | None = None) -> bool | None:
        """Wait for the end of the write; whether the next one may follow, None if it isn't over."""
        await asyncio.wait([self.task], timeout=within_s)
        if not self.task.done():
            return None
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        return self.task.result()


Write: TypeAlias = Callable[[Sequence[Chunk], FileRead | None, Place], Coroutine[Any, Any, bool]]
"""Writes chunks, of a file maybe; returns whether what was fetched after them may follow.

Raises `Superseded` if the write before its place came to nothing.
"""


class Behind:
    """What a stream has fetched and not written yet.

    That is one write, and the next one ahead of its end, or pages that wait for it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._places: deque[Place] = deque()
        self._waiting: list[Sequence[Chunk]] = []

    def takes(self, chunks: Sequence[Chunk], file: FileRead | None = None) -> bool:
        """Whether a page may be put: it is written at once, or waits with others of its kind."""
        if not self._places:
            return True
        if is_large(chunks, file):
            return len(self._places) == 1 and not self._waiting
        if self._waiting:
            return bars_of(chunks) + sum(map(bars_of, self._waiting)) <= MOST_WAITING and may_join(
                self._waiting[-1], chunks
            )
        return len(self._places) == 1

    def put(self, chunks: Sequence[Chunk], file: FileRead | None = None) -> asyncio.Task[bool]:
        """Have a page written that it `takes`; return what ends with that."""
        if self._waiting:
            self._waiting.append(chunks)
            return self._places[-1].task
        before = self._places[-1] if self._places else None
        if before is None or is_large(chunks, file):
            write = partial(self._written, chunks, file)
        else:
            self._waiting = [chunks]
            write = partial(self._write_waiting, before)
        self._places.append(Place(write, before))
        return self._places[-1].task

    async def caught_up(self) -> None:
        """See how the writes ended that have.

        Raises
        ------
        BackfillError
            What went wrong with one.
        """
        while self._places and self._places[0].task.done():
            await self._places.popleft().task

    async def room_for(self, chunks: Sequence[Chunk], file: FileRead | None = None) -> None:
        """Wait until a page may be put.

        Raises
        ------
        BackfillError
            What went wrong with one before.
        """
        while not self.takes(chunks, file):
            await self._places.popleft().task

    async def done(self) -> None:
        """Wait until all is written.

        Raises
        ------
        BackfillError
            What went wrong with it.
        """
        while self._places:
            await self._places.popleft().task

    async def _write_waiting(self, before: Place, place: Place) -> bool:
        """Write what waits, if the write before it succeeded and it may follow."""
        goes_on = await before.ended_well()
        place.before = None
        pages, self._waiting = self._waiting, []
        return bool(goes_on) and await self._written(joined(pages), None, place)

    async def _written(self, chunks: Sequence[Chunk], file: FileRead | None, place: Place) -> bool:
        try:
            return await self._write(chunks, file, place)
        except Superseded:
            return False
        finally:
            place.before = None


def bars_of(chunks: Sequence[Chunk]) -> int:
    """Return how many bars a page holds, good or not."""
    return sum(len(one.bars) + len(one.rejected) for one in chunks)


def is_large(chunks: Sequence[Chunk], file: FileRead | None = None) -> bool:
    """Whether a page is written alone: what else its transaction costs is little beside it."""
    return file is not None or bars_of(chunks) > MOST_WAITING
