"""What there is of a series over time, column by column: the worst of what lies in each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from backfill.core.coverage import Span, Spans
from backfill.core.grid import Grid
from backfill.report.facts import Cell


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of time in columns of one length, the last of which may reach beyond its end.

    Times are in epoch ms. ``slots`` has for each column how many slots of the ``grid`` it holds:
    the regular one, so that closed hours show nowhere.
    """

    start_ms: int
    width_ms: int
    grid: Grid
    slots: tuple[int, ...]

    @classmethod
    def over(cls, span: Span, columns: int, grid: Grid) -> "Axis":
        """Return the axis that shows a span in so many columns."""
        width_ms = max(1, -((span.start_ms - span.end_ms) // columns))
        edges = [span.start_ms + place * width_ms for place in range(columns + 1)]
        return cls(span.start_ms, width_ms, grid, tuple(map(grid.count, pairwise(edges))))

    @property
    def end_ms(self) -> int:
        """Where the last column ends."""
        return self.start_ms + len(self.slots) * self.width_ms

    def touched(self, span: tuple[int, int]) -> range:
        """Return the columns that a span touches."""
        first = max(0, (span[0] - self.start_ms) // self.width_ms)
        last = min(len(self.slots), -((self.start_ms - span[1]) // self.width_ms))
        return range(first, max(first, last))

    def column(self, place: int) -> Span:
        """Return the time of a column."""
        begins = self.start_ms + place * self.width_ms
        return Span(begins, begins + self.width_ms)


@dataclass(frozen=True, slots=True)
class Lot:
    """What is known of a series: what is ``wanted``, and what became of that.

    ``uncovered`` is not answered for, ``settled`` is rightly empty; ``holes`` are the spans of
    slots without a bar, by what is shown of them.
    """

    wanted: Spans
    uncovered: Spans
    settled: Spans
    holes: Mapping[Cell, Sequence[Span]]


def cells(axis: Axis, lot: Lot) -> str:
    """Return a series' strip on an axis: a `Cell` for each column, the worst of what lies there.

    A column with a slot that is wanted, and that lacks none, is stored. Where all is closed, a
    column goes on with what is better of both sides.
    """
    marks = [
        _holding(axis, lot.wanted),
        _empty(axis, lot.settled),
        _holding(axis, lot.uncovered),
        *(_holding(axis, lot.holes.get(cell, ())) for cell in _HOLES),
    ]
    ranks = [_NOTHING] * len(axis.slots)
    for rank, places in enumerate(marks, start=_NOTHING + 1):
        for place in places:
            ranks[place] = rank
    return "".join(_WORSE[rank] for rank in _bridged(ranks, axis.slots))


def _bridged(ranks: list[int], slots: Sequence[int]) -> Iterator[int]:
    """Yield ranks; columns without a slot have the lesser of the ranks on both sides."""
    before = _NOTHING
    for place, (rank, number) in enumerate(zip(ranks, slots, strict=True)):
        if number:
            before = rank
            yield rank
        else:
            after = next((at for at in range(place, len(slots)) if slots[at]), None)
            yield min(before, ranks[after]) if after is not None else _NOTHING


_HOLES: Final = (Cell.unconfirmed, Cell.quarantined, Cell.gap)
_WORSE: Final = (Cell.nothing, Cell.stored, Cell.empty, Cell.uncovered, *_HOLES)
_NOTHING: Final = 0


def mixed(strips: Iterable[str], columns: int) -> tuple[dict[str, int], ...]:
    """Return for each column how many of some strips show which `Cell` there.

    >>> mixed(["sg", "ss", ".s"], 2)
    ({'s': 2}, {'g': 1, 's': 2})
    """
    alike: dict[str, int] = {}
    for strip in strips:
        alike[strip] = alike.get(strip, 0) + 1
    counts: tuple[dict[str, int], ...] = tuple({} for _ in range(columns))
    for strip, number in alike.items():
        for count, sign in zip(counts, strip, strict=True):
            if sign != Cell.nothing:
                count[sign] = count.get(sign, 0) + number
    return counts


def _holding(axis: Axis, spans: Iterable[Span]) -> Iterator[int]:
    """Yield the columns in which a slot of some spans starts."""
    for span in spans:
        places = axis.touched(span)
        for place in places:
            is_inside = places.start < place < places.stop - 1
            if axis.slots[place] if is_inside else axis.grid.count(_both(axis, place, span)):
                yield place


def _both(axis: Axis, place: int, span: Span) -> Span:
    column = axis.column(place)
    return Span(max(span.start_ms, column.start_ms), min(span.end_ms, column.end_ms))


def _empty(axis: Axis, settled: Spans) -> list[int]:
    """Return the columns all of whose slots are rightly empty."""
    slots: dict[int, int] = {}
    for span in settled:
        for place in axis.touched(span):
            slots[place] = slots.get(place, 0) + axis.grid.count(_both(axis, place, span))
    return [place for place, number in slots.items() if 0 < number == axis.slots[place]]
