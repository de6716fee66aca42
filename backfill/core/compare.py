"""Where stored bars and the provider's bars of the same range differ."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, IntColumn, is_among
from backfill.core.precision import EXACT, Precision


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


def compare(
    stored: Bars, provided: Bars, rejected_ms: IntColumn, precision: Precision = EXACT
) -> list[Difference]:
    """Return the differences by slot; both sides are sorted and hold one bar a slot.

    ``rejected_ms`` are the slots of which the provider's bar failed a check. What the columns can't
    hold of a value is no difference.
    """
    lacking = provided.ts_ms[~held(provided, stored, precision)]
    gone = stored.ts_ms[~is_among(stored.ts_ms, provided.ts_ms)]
    there = set(provided.ts_ms.tolist())
    rejected = set(rejected_ms.tolist())
    found = []
    for ts_ms in sorted((*lacking.tolist(), *gone.tolist())):
        mine, theirs = _values(stored, ts_ms), _values(provided, ts_ms)
        if ts_ms in there:
            kind = Kind.not_stored if mine is None else Kind.changed
        else:
            kind = Kind.rejected if ts_ms in rejected else Kind.gone
        found.append(Difference(ts_ms, kind, mine, theirs))
    return found


def held(bars: Bars, stored: Bars, precision: Precision = EXACT) -> NDArray[np.bool_]:
    """Whether each bar is among the stored ones as the columns hold it; both are sorted."""
    same = is_among(bars.ts_ms, stored.ts_ms)
    mine, theirs = bars.take(same), stored.take(is_among(stored.ts_ms, bars.ts_ms))
    equal = np.ones(len(mine), bool)
    for field in fields(Bars):
        one, other = getattr(mine, field.name), getattr(theirs, field.name)
        alike = one == other
        if rounded := precision.rounds(field.name):
            alike |= np.abs(one - other) <= rounded
        equal &= alike | ((one != one) & (other != other))  # noqa: PLR0124  # NaN
    same[same] = equal
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
