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
        self._looking = asyncio.Lock()
        self._seen: tuple[T, float] | None = None

    async def get(self) -> T:
        """Return what there is to see now, or was a moment ago.

        Raises whatever ``look`` does, and looks again when it is asked next.
        """
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if self._seen is None or self._seen[1] <= clock():
                began_s = clock()
                found = await self._look()
                took_s = clock() - began_s
                self._seen = found, clock() + max(self._worth_s(found), _SHARE * took_s)
            return self._seen[0]
