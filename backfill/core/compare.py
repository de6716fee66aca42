"""Where stored bars and a provider's bars of the same range differ."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, IntColumn, is_among
from backfill.core.precision import EXACT, Precision

Alike: TypeAlias = Callable[[str, NDArray[Any], NDArray[Any]], NDArray[np.bool_]]
"""Whether two columns of values of the field named are alike, value by value."""
VALUES: Final = tuple(field.name for field in fields(Bars) if field.name != "ts_ms")
"""The fields of a bar."""


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


def exactly(precision: Precision = EXACT, *, may_lack_vwap: bool = False) -> Alike:
    """Return what takes values for alike that are the same to the last bit that the columns hold.

    One that isn't given is like another that isn't, and a vwap that one side may lack like any.
    """
    return partial(_same, precision, may_lack_vwap)


def compare(
    stored: Bars, provided: Bars, rejected_ms: IntColumn, alike: Alike | None = None
) -> list[Difference]:
    """Return the differences by slot; both sides are sorted and hold one bar a slot.

    ``rejected_ms`` are the slots of which the provider's bar failed a check. Values are to be
    ``alike``, by default to the last bit.
    """
    lacking = provided.ts_ms[~_has_like(provided, stored, alike or exactly())]
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


def held(
    bars: Bars, stored: Bars, precision: Precision = EXACT, *, may_lack_vwap: bool = False
) -> NDArray[np.bool_]:
    """Whether each bar is among the stored ones as `exactly` has it; both are sorted."""
    return _has_like(bars, stored, exactly(precision, may_lack_vwap=may_lack_vwap))


def of_both(bars: Bars, others: Bars) -> tuple[Bars, Bars]:
    """Return the bars of the slots that both have, from either side; both are sorted."""
    mine = bars.take(is_among(bars.ts_ms, others.ts_ms))
    return mine, others.take(is_among(others.ts_ms, bars.ts_ms))


def _has_like(bars: Bars, others: Bars, alike: Alike) -> NDArray[np.bool_]:
    same = is_among(bars.ts_ms, others.ts_ms)
    mine, theirs = of_both(bars, others)
    equal = np.ones(len(mine), bool)
    for name in VALUES:
        equal &= alike(name, getattr(mine, name), getattr(theirs, name))
    same[same] = equal
    return same


def _same(
    precision: Precision,
    may_lack_vwap: bool,  # noqa: FBT001  # bound by place
    name: str,
    one: NDArray[Any],
    other: NDArray[Any],
) -> NDArray[np.bool_]:
    alike: NDArray[np.bool_] = one == other
    if rounded := precision.rounds(name):
        alike |= np.abs(one - other) <= rounded
    if may_lack_vwap and name == "vwap":
        alike |= np.isnan(one) | np.isnan(other)
    alike |= (one != one) & (other != other)  # noqa: PLR0124  # NaN
    return alike


def _values(bars: Bars, ts_ms: int) -> dict[str, Any] | None:
    row = int(np.searchsorted(bars.ts_ms, ts_ms))
    if row == len(bars) or bars.ts_ms[row] != ts_ms:
        return None
    values = {name: getattr(bars, name)[row].item() for name in VALUES}
    if values["vwap"] != values["vwap"]:  # NaN
        values["vwap"] = None
    if values["trade_count"] == NO_COUNT:
        values["trade_count"] = None
    return values
