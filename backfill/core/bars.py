"""Bars as columns: the one shape in which bars travel from a provider's page to the table."""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

FloatColumn = NDArray[np.float64]
IntColumn = NDArray[np.int64]

NO_COUNT: Final = -1
"""Stands in ``trade_count`` for a provider that gave none; NULL in the table."""
NO_STAMPS: Final[IntColumn] = np.empty(0, np.int64)


def is_among(values: IntColumn, others: IntColumn) -> NDArray[np.bool_]:
    """Whether each value is among others, both in any order.

    Stamps mostly come in runs, which this sort takes in one pass; ``np.isin`` hashes them, at ten
    times the cost. Mostly they are all there, or none is.
    """
    if not len(values) or not len(others):
        return np.zeros(len(values), bool)
    known = np.sort(others, kind="stable")
    first, last = values.min(), values.max()
    known = known[np.searchsorted(known, first) : np.searchsorted(known, last, side="right")]
    if not len(known):
        return np.zeros(len(values), bool)
    if np.array_equal(known, values):
        return np.ones(len(values), bool)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    found: NDArray[np.bool_] = known[at] == values
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Bars:
    """Bars of one series, one array element per bar.

    ``ts_ms`` is the bar's start in epoch milliseconds. Prices and volume are the provider's own
    doubles. A NaN ``vwap`` and a ``trade_count`` of `NO_COUNT` mean that the provider gave none.
    """

    ts_ms: IntColumn
    open: FloatColumn
    high: FloatColumn
    low: FloatColumn
    close: FloatColumn
    volume: FloatColumn
    vwap: FloatColumn
    trade_count: IntColumn

    def __len__(self) -> int:
        return len(self.ts_ms)

    def equals(self, other: Self) -> bool:
        """Whether both hold the same bars in the same order, to the last bit."""
        return all(
            np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
            for mine, theirs in (
                (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
            )
        )

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Self:
        """Return the bars that a mask, an index array or a slice picks.

        A mask that picks them all costs no copy: most checks find nothing.
        """
        if not isinstance(rows, slice) and rows.dtype == np.bool_ and rows.all():
            return self
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def oldest(self, count: int) -> Self:
        """Return the oldest bars, so many at most, in their order, and hold no others in memory."""
        return self.take(np.sort(np.argsort(self.ts_ms, kind="stable")[:count]))

    def parted(self, at_ms: int) -> tuple[Self, Self]:
        """Part bars that are in order of time into those before an instant and the others."""
        at = int(np.searchsorted(self.ts_ms, at_ms))
        return self.take(slice(at)), self.take(slice(at, None))

    @classmethod
    def priced(
        cls,
        ts_ms: IntColumn,
        open_: FloatColumn,
        high: FloatColumn,
        low: FloatColumn,
        close: FloatColumn,
        volume: FloatColumn,
    ) -> Self:
        """Return bars of whoever tells neither a vwap nor a count."""
        vwap, trade_count = np.full(len(ts_ms), np.nan), np.full(len(ts_ms), NO_COUNT)
        return cls(ts_ms, open_, high, low, close, volume, vwap, trade_count)

    @staticmethod
    def empty() -> "Bars":
        """Return no bars: one object for all, since nothing of it can change."""
        return _NONE

    @classmethod
    def of(cls, rows: list[tuple[float | int | None, ...]]) -> Self:
        """Return bars from rows in the order of the fields; None marks an absent vwap or count.

        >>> len(Bars.of([(0, 1.0, 2.0, 1.0, 1.5, 10.0, None, None)]))
        1
        """
        columns = list(zip(*rows, strict=True)) or [()] * len(fields(cls))
        return cls(
            ts_ms=np.array(columns[0], np.int64),
            open=np.array(columns[1], np.float64),
            high=np.array(columns[2], np.float64),
            low=np.array(columns[3], np.float64),
            close=np.array(columns[4], np.float64),
            volume=np.array(columns[5], np.float64),
            vwap=np.array(columns[6], np.float64),  # None becomes NaN
            trade_count=np.array([NO_COUNT if n is None else n for n in columns[7]], np.int64),
        )

    @classmethod
    def concat(cls, parts: list["Bars"]) -> "Bars":
        """Return the bars of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            )
        )


_NONE: Final = Bars.of([])
