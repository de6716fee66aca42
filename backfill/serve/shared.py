"""What is dear to look up: once for all who ask within some seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SHARE: Final = 4
"""No more than a quarter of the time goes into looking it up."""


class Shared(Generic[T]):
    """What ``look`` returned last; ``worth_s`` says for how many seconds at least it serves all."""

    def __init__(
        self, look: Callable[[], Awaitable[T]], worth_s: Callable[[T], float] = lambda _: 0.0
    ) -> None:
        self._look, self._worth_s = look, worth_s
        self._looking: asyncio.Task[T] | None = None
        self._seen: tuple[T, float] | None = None

    async def get(self) -> T:
        """Return what there is to see now, or was a moment ago.

        It is looked up for all who wait, and to the end also where those give up who asked first:
        else what takes longer than their patience would never be seen. All of them are told of what
        ``look`` raises; it looks again when it is asked next.
        """
        if self._seen is not None and self._seen[1] > asyncio.get_running_loop().time():
            return self._seen[0]
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_anew())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_anew(self) -> T:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        found = await self._look()
        took_s = clock() - began_s
        self._seen = found, clock() + max(self._worth_s(found), _SHARE * took_s)
        return found

    def _looked(self, looking: asyncio.Task[T]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # told to whom it may concern: the loop would tell of it, too
