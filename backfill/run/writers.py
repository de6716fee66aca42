"""Turns to write a page: how many are written side by side, by what their time is made of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from backfill.core.work import Rules
from backfill.fetch.gauge import Gauge
from backfill.run.outcomes import Outcomes
from backfill.store.pool import CONNECTIONS, Database

_LEAST: Final = 2
_TRIPS: Final = 2
"""How often a page waits for the database, at least."""
_FAR_S: Final = 0.005
"""A round trip that takes less is made of a server's work sooner than of a link's delay."""
_SHARE: Final = 0.25
"""How much the newest page counts in what a page takes."""


def useful(page_s: float, trip_s: float) -> int:
    """Return how many pages are best written at once, by what one and a round trip take.

    Two keep a server and this process busy; of more, each waits for the locks and the processor of
    the others, and all take longer. While one is under way on a link, another has its place.

    >>> useful(page_s=0.2, trip_s=0.001), useful(page_s=0.2, trip_s=0.06)
    (2, 4)
    """
    works_s = page_s - _TRIPS * trip_s
    if trip_s < _FAR_S:
        return _LEAST
    if works_s * CONNECTIONS <= _LEAST * page_s:
        return CONNECTIONS
    return max(int(_LEAST * page_s / works_s), _LEAST)


class Writers:
    """As many turns to write as are useful: it is measured while the run goes on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(_LEAST)
        self._most = _LEAST
        self._page_s: float | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while a page is written."""
        await self._turns.acquire()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        try:
            yield
        finally:
            self._measure(clock() - began_s)

    def _measure(self, page_s: float) -> None:
        """Give a turn back, and others that have become useful; or keep one that no longer is."""
        before_s = page_s if self._page_s is None else self._page_s
        self._page_s = before_s + (page_s - before_s) * _SHARE
        most = useful(self._page_s, self._database.trip_s)
        if most < self._most:
            self._most -= 1
            return
        for _ in range(most - self._most + 1):
            self._turns.release()
        self._most = most


@dataclass(frozen=True, slots=True)
class Writer:
    """What it takes to write a provider's bars and count them; ``now_ms`` is the run's clock.

    ``writers`` bound how many write at once. ``rules`` are those by which the provider can be asked
    again; None where nobody is.
    """

    provider: str
    run_id: UUID
    database: Database
    outcomes: Outcomes
    writers: Writers
    gauge: Gauge
    now_ms: int
    rules: Rules | None = None
