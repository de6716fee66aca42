"""The thread in which long answers are read, so that calls leave in their slots meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from queue import PriorityQueue
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

_T = TypeVar("_T")
_Job: TypeAlias = tuple[bool, int, Callable[[], Any], Future[Any]]


class Reader:
    """One thread for all answers of a run: several would take as long, and hold as much each.

    Of those that wait the one comes first that is nearest to the table.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._line: PriorityQueue[_Job] = PriorityQueue()
        self._number = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def apart(self, work: Callable[[], _T], *, last: bool = False) -> _T:
        """Do what takes long with an answer in the thread, and return its result.

        ``last`` tells that it is the last before the answer is written: it is done before what
        isn't, or the database had nothing to do while one answer after another is unpacked.
        """
        done: Future[_T] = Future()
        self._line.put((not last, next(self._number), work, done))
        self._thread.submit(self._do_first)
        return await asyncio.wrap_future(done)

    def _do_first(self) -> None:
        *_, work, done = self._line.get()
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # whoever awaits it gets it
            done.set_exception(error)
