"""The grid of a timeframe: where its slots start and end, and which of them a span holds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple, Self

from backfill.core.column import column, last_not_after
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backfill.core.bars import IntColumn


class _Blocks(NamedTuple):
    """The columns of a grid as lists: one slot is found in them several times as fast."""

    starts: list[int]
    steps: list[int]
    counts: list[int]
    first_index: list[int]
    leads: list[int]


@dataclass(frozen=True, eq=False)
class Grid:
    """The slots of one timeframe on one calendar, in order.

    Slots come in blocks of ``counts[i]`` slots, ``steps[i]`` ms long, from ``starts[i]`` on: one
    block a session for an intraday timeframe, one a slot for d1, w1 and mn1. Memory does not grow
    with the number of slots. ``leads[i]`` ms before a block belong to it without being slots: a
    night that nobody keeps.
    """

    lists: _Blocks

    starts = column("starts")
    steps = column("steps")
    counts = column("counts")
    first_index = column("first_index")

    @classmethod
    def of_blocks(
        cls,
        starts: list[int],
        steps: list[int],
        counts: list[int],
        leads: list[int] | None = None,
    ) -> Self:
        """Build a grid from its blocks, which must be sorted and must not overlap."""
        first_index = list(accumulate(chain([0], counts)))[:-1]
        return cls(_Blocks(starts, steps, counts, first_index, leads or [0] * len(starts)))

    def __len__(self) -> int:
        return self.lists.first_index[-1] + self.lists.counts[-1] if self.lists.counts else 0

    def index_from(self, ts_ms: int) -> int:
        """Index of the first slot that starts at ``ts_ms`` or later; ``len`` if there is none."""
        starts, steps, counts, first_index, _ = self.lists
        block = bisect_right(starts, ts_ms) - 1
        if block < 0:
            return 0
        into = -((starts[block] - ts_ms) // steps[block])
        return first_index[block] + min(into, counts[block])

    def start_of(self, index: int) -> int:
        """Start of the slot with this index, in epoch ms."""
        starts, steps, _, first_index, _ = self.lists
        block = bisect_right(first_index, index) - 1
        return starts[block] + (index - first_index[block]) * steps[block]

    def end_of(self, index: int) -> int:
        """End of the slot with this index, in epoch ms."""
        starts, steps, _, first_index, _ = self.lists
        block = bisect_right(first_index, index) - 1
        return starts[block] + (index + 1 - first_index[block]) * steps[block]

    def count(self, span: tuple[int, int]) -> int:
        """Count the slots that start within the span."""
        return max(0, self.index_from(span[1]) - self.index_from(span[0]))

    def count_all(self, bounds_ms: IntColumn) -> int:
        """Count the slots that start within spans, of which there may be many, by their bounds."""
        import numpy as np

        first, last = (self._indices_from(bounds_ms[:, side]) for side in (0, 1))
        return int(np.maximum(last - first, 0).sum())

    def _indices_from(self, ts_ms: IntColumn) -> IntColumn:
        """Return what `index_from` does, of each of many instants."""
        import numpy as np

        if not len(self):
            return np.zeros(len(ts_ms), np.int64)
        blocks = np.searchsorted(self.starts, ts_ms, side="right") - 1
        safe = np.maximum(blocks, 0)
        into = -((self.starts[safe] - ts_ms) // self.steps[safe])
        found = self.first_index[safe] + np.minimum(into, self.counts[safe])
        return np.where(blocks < 0, 0, found)

    def starts_of(self, indices: IntColumn) -> IntColumn:
        """Starts of the slots with these indices, in epoch ms."""
        blocks = last_not_after(self.first_index, indices)
        return self.starts[blocks] + (indices - self.first_index[blocks]) * self.steps[blocks]

    def ends_of(self, indices: IntColumn) -> IntColumn:
        """Ends of the slots with these indices, in epoch ms."""
        blocks = last_not_after(self.first_index, indices)
        return self.starts[blocks] + (indices + 1 - self.first_index[blocks]) * self.steps[blocks]

    def slots(self, span: tuple[int, int]) -> IntColumn:
        """Starts of the slots that start within the span, in epoch ms."""
        import numpy as np

        first, last = self.index_from(span[0]), self.index_from(span[1])
        return self.starts_of(np.arange(first, max(first, last), dtype=np.int64))

    def blocks(self, span: tuple[int, int]) -> list[tuple[Span, int]]:
        """The blocks that touch the span, with the number of slots of each."""
        starts, steps, counts, _, _ = self.lists
        first = max(bisect_right(starts, span[0]) - 1, 0)
        if starts and starts[first] + steps[first] * counts[first] <= span[0]:
            first += 1
        return [
            (Span(starts[at], starts[at] + steps[at] * counts[at]), counts[at])
            for at in range(first, bisect_left(starts, span[1]))
        ]

    def floor(self, ts_ms: IntColumn) -> tuple[IntColumn, NDArray[np.bool_]]:
        """Start of the slot that each instant lies in, and whether it lies in one at all."""
        import numpy as np

        blocks = last_not_after(self.starts, ts_ms)
        safe = np.maximum(blocks, 0)
        into = (ts_ms - self.starts[safe]) // self.steps[safe]
        inside = (blocks >= 0) & (into < self.counts[safe])
        return self.starts[safe] + into * self.steps[safe], inside

    def around(self, ts_ms: IntColumn) -> Spans:
        """Return the whole slots that instants lie in; what lies in none is passed over."""
        return Spans(tuple(map(Span, *self.bounds_around(ts_ms).T.tolist())))

    def bounds_around(self, ts_ms: IntColumn) -> IntColumn:
        """Return what `around` does, of which there may be much, as pairs of bounds."""
        import numpy as np

        starts, inside = self.floor(ts_ms)
        starts = np.unique(starts[inside])
        ends = starts + self.steps[np.searchsorted(self.starts, starts, side="right") - 1]
        begins = np.ones(len(starts), bool)
        begins[1:] = starts[1:] != ends[:-1]
        return np.stack((starts[begins], ends[np.roll(begins, -1)]), axis=1)

    def widen(self, span: tuple[int, int]) -> Span:
        """Grow a span to the whole slots that it touches, keeping its ends outside of slots."""
        start, end = span
        first, last = self.index_from(start), self.index_from(end) - 1
        if first > 0 and self.end_of(first - 1) > start:
            start = self.start_of(first - 1)
        if last >= 0 and self.end_of(last) > end:
            end = self.end_of(last)
        return Span(start, end)

    def narrow(self, span: tuple[int, int]) -> Span | None:
        """Shrink a span to the whole slots inside it, and their lead; None if there is none."""
        first, last = self.index_from(span[0]), self.index_from(span[1]) - 1
        if last >= first and self.end_of(last) > span[1]:
            last -= 1
        if last < first:
            return None
        return Span(max(span[0], self._start_with_lead(first)), self.end_of(last))

    def _start_with_lead(self, index: int) -> int:
        starts, steps, _, first_index, leads = self.lists
        block = bisect_right(first_index, index) - 1
        into = index - first_index[block]
        return starts[block] + into * steps[block] - (0 if into else leads[block])

    def inside(self, spans: Spans) -> Spans:
        """Shrink every span to the whole slots inside it."""
        return Spans.union(span for item in spans if (span := self.narrow(item)))
