"""The signal that ends a run early: everything that merely waits gives up at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from backfill.errors import Stopped

_T = TypeVar("_T")


class StopSignal:
    """Set once, by ``--deadline``, ``--max-calls`` or a signal; the first reason stays."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._branches = WeakSet[StopSignal]()
        self.reason: Stopped | None = None

    def branch(self) -> "StopSignal":
        """Return a signal that is set whenever this one is, and can be set alone."""
        branch = StopSignal()
        self._branches.add(branch)
        if self.reason is not None:
            branch.set(self.reason)
        return branch

    def set(self, reason: Stopped) -> None:
        """End every wait, now and later, with this reason."""
        if self.reason is None:
            self.reason = reason
            self._event.set()
            for branch in self._branches:
                branch.set(reason)

    async def wait(self) -> None:
        """Return once the signal is set."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the signal is set before the time is over.

        Raises
        ------
        Stopped
            The reason.
        """
        await self.unless_set(asyncio.sleep(seconds))

    async def unless_set(self, waiting: Coroutine[Any, Any, _T]) -> _T:
        """Await a coroutine that can be given up, and give it up when the signal is set.

        Where it is set already, nothing of the coroutine runs, however quick it would be.

        Raises
        ------
        Stopped
            The reason.
        """
        if self.reason is not None:
            waiting.close()
            raise self.reason
        work = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if self.reason is not None and not work.done():
                raise self.reason
            return await work
        finally:
            stop.cancel()
            work.cancel()
