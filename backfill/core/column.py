"""Columns of numbers that are lists, and arrays for who computes with all of them.

A list is enough to look something up in, and numpy takes longer to load than most commands take.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn

_FEW: Final = 8
"""Of so many values in a row one may lie behind another edge than the one before it."""


def column(name: str) -> "cached_property[IntColumn]":
    """Return an attribute that is an array: the list of that name in the object's ``lists``."""

    def array(holder: Any) -> "IntColumn":
        import numpy as np

        return np.array(getattr(holder.lists, name), np.int64)

    return cached_property(array)


def last_not_after(edges: "IntColumn", values: "IntColumn") -> "IntColumn":
    """Return for each value the index of the last edge that isn't after it, -1 if all are.

    Edges are in order. Where values are, too, the few edges among them are looked up, and not each
    value among the edges.

    >>> import numpy as np
    >>> last_not_after(np.array([10, 20, 30]), np.array([5, 10, 15, 20, 25] * 2)).tolist()
    [-1, 0, 0, 1, 1, -1, 0, 0, 1, 1]
    >>> last_not_after(np.array([10, 20, 30]), np.repeat([5, 10, 25], 9))[::9].tolist()
    [-1, 0, 1]
    """
    import numpy as np

    if len(values):
        low, high = np.searchsorted(edges, (values[0], values[-1]), side="right").tolist()
        is_worth_it = 0 <= (high - low) * _FEW < len(values)
        if is_worth_it and (values[1:] >= values[:-1]).all():
            begins = np.searchsorted(values, edges[low:high])
            counts = np.diff(begins, prepend=0, append=len(values))
            return np.repeat(np.arange(low - 1, high), counts)
    return np.searchsorted(edges, values, side="right") - 1
