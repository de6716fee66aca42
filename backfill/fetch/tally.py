"""What a run has sent so far, and how much it may send."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Self

from backfill.core.dataclass import dataclass
from backfill.core.wire import Kind
from backfill.errors import LimitReached
from backfill.fetch.flight import Flight
from backfill.fetch.gauge import Gauge
from backfill.fetch.stop import StopSignal


@dataclass(slots=True)
class Budget:
    """How many requests may be sent, over all providers; None for no bound.

    ``reserved`` counts those that queue for a slot too, so that the last ones go to who asked
    first; ``under_way`` those that are not answered yet.
    """

    limit: int | None = None
    reserved: int = 0
    under_way: int = 0
    _none_under_way: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def sending(self, stop: StopSignal) -> AsyncIterator[None]:
        """Set a request aside, which queues for a slot and is sent meanwhile.

        Raises
        ------
        LimitReached
            If the limit doesn't allow another, once those that are under way have been answered.
        Stopped
            If the run is to end before that.
        """
        if self.limit is not None and self.reserved >= self.limit:
            await stop.unless_set(self._all_answered())
            raise LimitReached(f"--max-calls {self.limit} is used up")
        self.reserved += 1
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._none_under_way.set()

    async def _all_answered(self) -> None:
        """Wait until none is under way, whichever provider it was sent to."""
        while self.under_way:
            self._none_under_way.clear()
            await self._none_under_way.wait()


@dataclass(slots=True)
class Tally:
    """What one provider was sent so far: every request counts once, a ``call`` or a ``lookup``.

    ``rate_limited_by_others`` are the 429s that came although every run which shares the database
    kept the quota. The ``gauge`` measures how long it all takes, and by that the ``flight`` decides
    how many turns are taken at once.
    """

    budget: Budget = field(default_factory=Budget, compare=False)
    gauge: Gauge = field(default_factory=Gauge, compare=False)
    flight: Flight = field(default_factory=Flight, compare=False)
    calls: int = 0
    lookups: int = 0
    retries: int = 0
    rate_limited: int = 0
    rate_limited_by_others: int = 0
    answers: int = 0

    @classmethod
    def of(cls, parts: Iterable["Tally"]) -> Self:
        """Return the sum of what several providers were sent."""
        total = cls()
        for part in parts:
            total.calls += part.calls
            total.lookups += part.lookups
            total.retries += part.retries
            total.rate_limited += part.rate_limited
            total.rate_limited_by_others += part.rate_limited_by_others
            total.answers += part.answers
        return total

    @property
    def is_unheard(self) -> bool:
        """Whether something was sent and nothing came back."""
        return bool(self.calls + self.lookups) and not self.answers

    def count(self, kind: Kind) -> None:
        """Count a request that is sent."""
        if kind is Kind.bars:
            self.calls += 1
        else:
            self.lookups += 1

    def uncount(self, kind: Kind) -> None:
        """Take back a request that was not written after all."""
        if kind is Kind.bars:
            self.calls -= 1
        else:
            self.lookups -= 1
