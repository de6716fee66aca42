"""Where stored bars and the provider's bars of the same range differ."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np

from backfill.core.bars import NO_COUNT, Bars, IntColumn, is_among


class Kind(StrEnum):
    """How a stored bar and the provider's differ."""

    changed = "changed"
    """Both have the bar, with other values."""
    not_stored = "not_stored"
    """The provider has a bar that is not stored."""
    gone = "gone"
    """A bar is stored that the provider does not have."""
    rejected = "rejected"
    """A bar is stored, and the provider's fails a check today."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One slot by its start in epoch ms, and the values of either bar by column, if there is one.

    A vwap or count that was not given is None.
    """

    ts_ms: int
    kind: Kind
    stored: dict[str, Any] | None
    provided: dict[str, Any] | None


def compare(stored: Bars, provided: Bars, rejected_ms: IntColumn) -> list[Difference]:
    """Return the differences by slot; both sides are sorted and hold one bar a slot.

    ``rejected_ms`` are the slots of which the provider's bar failed a check.
    """
    slots = np.union1d(stored.ts_ms, provided.ts_ms)
    here, there = is_among(slots, stored.ts_ms), is_among(slots, provided.ts_ms)
    both = here & there
    other = np.zeros(len(slots), bool)
    mine = stored.take(is_among(stored.ts_ms, slots[both]))
    theirs = provided.take(is_among(provided.ts_ms, slots[both]))
    other[both] = ~_same(mine, theirs)
    rejected = is_among(slots, rejected_ms)
    found = []
    for index in np.flatnonzero(other | ~both).tolist():
        ts_ms = int(slots[index])
        if both[index]:
            kind = Kind.changed
        elif there[index]:
            kind = Kind.not_stored
        else:
            kind = Kind.rejected if rejected[index] else Kind.gone
        found.append(Difference(ts_ms, kind, _values(stored, ts_ms), _values(provided, ts_ms)))
    return found


def _same(mine: Bars, theirs: Bars) -> np.typing.NDArray[np.bool_]:
    """Whether bars of the same slots are equal to the last bit."""
    same = np.ones(len(mine), bool)
    for field in fields(Bars):
        one, other = getattr(mine, field.name), getattr(theirs, field.name)
        same &= (one == other) | ((one != one) & (other != other))  # noqa: PLR0124  # NaN
    return same


def _values(bars: Bars, ts_ms: int) -> dict[str, Any] | None:
    row = int(np.searchsorted(bars.ts_ms, ts_ms))
    if row == len(bars) or bars.ts_ms[row] != ts_ms:
        return None
    values = {
        field.name: getattr(bars, field.name)[row].item()
        for field in fields(Bars)
        if field.name != "ts_ms"
    }
    if values["vwap"] != values["vwap"]:  # NaN
        values["vwap"] = None
    if values["trade_count"] == NO_COUNT:
        values["trade_count"] = None
    return values
