"""The thread in which long answers are read, so that calls leave in their slots meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")


class Reader:
    """One thread for all answers of a run: several would take as long, and hold as much each."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def apart(self, work: Callable[[], _T]) -> _T:
        """Do what takes long with an answer in the thread, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
