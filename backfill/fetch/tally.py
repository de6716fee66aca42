"""What a run has sent so far, and how much it may send."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from backfill.core.wire import Kind
from backfill.errors import LimitReached
from backfill.fetch.gauge import Gauge


@dataclass(slots=True)
class Budget:
    """How many requests may be sent, over all providers; None for no bound.

    ``reserved`` counts those that queue for a slot too, so that the last ones go to who asked
    first; ``sending`` those that are not answered yet.
    """

    limit: int | None = None
    reserved: int = 0
    sending: int = 0
    _all_answered: asyncio.Event = field(default_factory=asyncio.Event)

    def reserve(self) -> None:
        """Set a request aside that is about to queue for a slot.

        Raises
        ------
        LimitReached
            If the limit doesn't allow another.
        """
        if self.limit is not None and self.reserved >= self.limit:
            raise LimitReached(f"--max-calls {self.limit} is used up")
        self.reserved += 1

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Take a request that was set aside as one that is sent meanwhile."""
        self.sending += 1
        try:
            yield
        finally:
            self.sending -= 1
            if not self.sending:
                self._all_answered.set()

    async def all_answered(self) -> None:
        """Wait until none is under way, whichever provider it was sent to."""
        while self.sending:
            self._all_answered.clear()
            await self._all_answered.wait()


@dataclass(slots=True)
class Tally:
    """What one provider was sent so far: every request counts once, a ``call`` or a ``lookup``.

    ``rate_limited_by_others`` are the 429s that came although every run which shares the database
    kept the quota. The ``gauge`` measures how long it all takes.
    """

    budget: Budget = field(default_factory=Budget, compare=False)
    gauge: Gauge = field(default_factory=Gauge, compare=False)
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
