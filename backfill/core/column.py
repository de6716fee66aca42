"""Columns of numbers that are lists, and arrays for who computes with all of them.

A list is enough to look something up in, and numpy takes longer to load than most commands take.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn


def column(name: str) -> "cached_property[IntColumn]":
    """Return an attribute that is an array: the list of that name in the object's ``lists``."""

    def array(holder: Any) -> "IntColumn":
        import numpy as np

        return np.array(getattr(holder.lists, name), np.int64)

    return cached_property(array)
