"""Interval sets: the ranges of time that a series is answered for, wants or misses."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

from backfill.core.column import last_not_after
from backfill.core.dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Span(NamedTuple):
    """A half-open range of time ``[start_ms, end_ms)`` in epoch milliseconds."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Spans:
    """A set of instants as sorted, disjoint, non-touching spans.

    Every operation returns such a set again, so equal sets compare equal.

    >>> Spans.of((0, 10), (10, 20), (30, 40)) - Spans.of((5, 35))
    Spans(items=(Span(start_ms=0, end_ms=5), Span(start_ms=35, end_ms=40)))
    """

    items: tuple[Span, ...] = ()

    @classmethod
    def of(cls, *spans: tuple[int, int]) -> Self:
        """Return the union of spans in any order; empty ones vanish."""
        return cls.union(spans)

    @classmethod
    def union(cls, spans: Iterable[tuple[int, int]]) -> Self:
        """Return the union of an iterable of spans in any order; empty ones vanish."""
        ordered = sorted(spans)
        if not ordered:
            return cls()
        merged: list[Span] = []
        for start, end in ordered:
            if start >= end:
                continue
            if merged and start <= merged[-1].end_ms:
                if end > merged[-1].end_ms:
                    merged[-1] = Span(merged[-1].start_ms, end)
            else:
                merged.append(Span(start, end))
        return cls(tuple(merged))

    def __bool__(self) -> bool:
        return bool(self.items)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __or__(self, other: Self) -> Self:
        if not self.items or not other.items:
            return self if self.items else other
        return self.union((*self.items, *other.items))

    def __and__(self, other: Self) -> Self:
        if len(other.items) == 1 and self.items:
            start, end = other.items[0]
            if start <= self.items[0].start_ms and self.items[-1].end_ms <= end:
                return self
        shared = (
            Span(max(start, mine.start_ms), min(end, mine.end_ms))
            for start, end in other.items
            for mine in self._touching(start, end)
        )
        return type(self)(tuple(span for span in shared if span.start_ms < span.end_ms))

    def __sub__(self, other: Self) -> Self:
        if not other.items:
            return self
        left: list[Span] = []
        for start, end in self.items:
            at = start
            for hole in other._touching(start, end):
                if hole.start_ms > at:
                    left.append(Span(at, hole.start_ms))
                at = max(at, hole.end_ms)
            if at < end:
                left.append(Span(at, end))
        return type(self)(tuple(left))

    def covers(self, start_ms: int, end_ms: int) -> bool:
        """Whether the whole of ``[start_ms, end_ms)`` is in the set."""
        return not type(self).of((start_ms, end_ms)) - self

    def holds(self, ts_ms: "NDArray[np.int64]") -> "NDArray[np.bool_]":
        """Whether each instant is in the set."""
        import numpy as np

        if not self.items:
            return np.zeros(len(ts_ms), bool)
        starts, ends = np.array(self.items, np.int64).T
        at = last_not_after(starts, ts_ms)
        inside: NDArray[np.bool_] = (at >= 0) & (ts_ms < ends[np.maximum(at, 0)])
        return inside

    @property
    def hull(self) -> Span | None:
        """The span from the first instant to the last; None for the empty set."""
        return Span(self.items[0].start_ms, self.items[-1].end_ms) if self.items else None

    def _touching(self, start_ms: int, end_ms: int) -> tuple[Span, ...]:
        first = bisect_left(self.items, (start_ms,))
        if first and self.items[first - 1].end_ms > start_ms:
            first -= 1
        return self.items[first : bisect_left(self.items, (end_ms,))]
