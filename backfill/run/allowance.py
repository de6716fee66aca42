"""How many pages of everybody's lists one run reads: what a rested key carries at once."""

import math
from dataclasses import dataclass
from typing import Self

from backfill.core.terms import Quota


@dataclass(slots=True)
class Allowance:
    """The pages that the lists of one run may still cost, together.

    They go out when the key has rested once after the run's bars. What they can't hold is left to
    another run, rather than waited for at the end of this one.
    """

    left: float

    @classmethod
    def of(cls, quota: Quota) -> Self:
        """Return what a rested key carries at once."""
        return cls(math.inf if quota.burst is None else quota.burst)

    def share(self, lists: int) -> float:
        """Return how many pages the first of so many lists may cost; one if any is left."""
        return self.left if math.isinf(self.left) else math.ceil(max(self.left, 0) / lists)
