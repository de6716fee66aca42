"""Taking turns: as many connections as there is use for, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_PATIENCE_S: Final = 0.05


class Turns:
    """Permission to use a connection, for one piece of work each.

    There is one turn at first. Who waits longer for one than a short transaction takes brings
    another, up to ``most``: so work that comes in drops shares a connection, and work that waits
    for a distant or busy database spreads over several.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turns = 1
        self._given_up = 0
        self._free = asyncio.Semaphore(1)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._free.acquire()
        except TimeoutError:
            if self._turns < self._most:
                self._turns += 1
            else:
                await self._free.acquire()
        try:
            yield
        finally:
            if self._given_up:
                self._given_up -= 1
            else:
                self._free.release()

    def give_one_up(self) -> None:
        """Have one turn less from now on, if there is another: there is no connection for it."""
        if self._turns > 1:
            self._turns -= 1
            self._most = self._turns
            self._given_up += 1
