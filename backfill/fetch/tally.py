"""What a run has sent so far, and how much it may send."""

from dataclasses import dataclass, field

from backfill.core.wire import Kind
from backfill.errors import LimitReached


@dataclass(slots=True)
class Tally:
    """What was sent so far: every request counts once, as ``calls`` or as ``lookups``.

    ``limit`` bounds their sum; None for no bound. ``reserved`` counts those that queue for a slot
    too, so that the last ones go to who asked first. ``rate_limited_by_others`` are the 429s that
    came although every run which shares the database kept the quota.
    """

    limit: int | None = None
    reserved: int = field(default=0, compare=False)
    calls: int = 0
    lookups: int = 0
    retries: int = 0
    rate_limited: int = 0
    rate_limited_by_others: int = 0
    answers: int = 0

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
