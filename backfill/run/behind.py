"""Pages on their way into the tables, behind the turns that fetched them.

A page is written as soon as the one before it is. Small pages that come meanwhile wait, and go in
one transaction: of a thousand bars it costs more than they do.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from backfill.core.archive import FileRead
from backfill.core.joining import joined, may_join
from backfill.core.paging import Chunk

_MOST: Final = 16_384
"""So many bars wait at most: they are asked for again if the run is killed."""

Write: TypeAlias = Callable[[Sequence[Chunk], FileRead | None], Coroutine[Any, Any, bool]]
"""Writes chunks, of a file maybe; returns whether what was fetched after them may follow."""


class Behind:
    """What a stream has fetched and not written yet: one write, and pages that wait for its end."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._tasks: deque[asyncio.Task[bool]] = deque()
        self._waiting: list[Sequence[Chunk]] = []

    def takes(self, chunks: Sequence[Chunk], file: FileRead | None = None) -> bool:
        """Whether a page may be put: it is written at once, or waits with others of its kind."""
        if not self._tasks:
            return True
        if file is not None or _bars(chunks) + sum(map(_bars, self._waiting)) > _MOST:
            return False
        if self._waiting:
            return may_join(self._waiting[-1], chunks)
        return len(self._tasks) == 1

    def put(self, chunks: Sequence[Chunk], file: FileRead | None = None) -> asyncio.Task[bool]:
        """Have a page written that it `takes`; return what ends with that."""
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._write(chunks, file)))
        elif self._waiting:
            self._waiting.append(chunks)
        else:
            self._waiting = [chunks]
            self._tasks.append(asyncio.create_task(self._write_after(self._tasks[-1])))
        return self._tasks[-1]

    async def caught_up(self) -> None:
        """See how the writes ended that have.

        Raises
        ------
        BackfillError
            What went wrong with one.
        """
        while self._tasks and self._tasks[0].done():
            await self._tasks.popleft()

    async def done(self) -> None:
        """Wait until all is written.

        Raises
        ------
        BackfillError
            What went wrong with it.
        """
        while self._tasks:
            await self._tasks.popleft()

    async def _write_after(self, before: asyncio.Task[bool]) -> bool:
        """Write what waits, if the write before it succeeded and it may follow."""
        await asyncio.wait([before])
        pages, self._waiting = self._waiting, []
        if before.cancelled() or before.exception() is not None or not before.result():
            return False
        return await self._write(joined(pages), None)


def _bars(chunks: Sequence[Chunk]) -> int:
    return sum(len(one.bars) + len(one.rejected) for one in chunks)
