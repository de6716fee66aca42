"""Bars that come as JSON arrays, a row each: from the values as they came to columns.

Numbers may stand in quotes. What is no number costs its own bar and none of its neighbours (R11).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

import msgspec
import numpy as np

from backfill.core.bars import NO_COUNT, Bars, FloatColumn
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.raw import VALUES, Oddities, raw_values
from backfill.errors import BadAnswer, UnreadableAnswer

Row: TypeAlias = Sequence[msgspec.Raw] | Sequence[bytes]

_NUMBER: Final = re.compile(rb'"?(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"?')
_WHOLE: Final = re.compile(rb"-?[0-9]{1,15}")
_STAMP: Final = re.compile(rb'"?(-?[0-9]{1,15})"?')
_NULL: Final = b"null"
"""What stands for a vwap or a count that the provider has none of."""
NULL: Final = msgspec.Raw(_NULL)
"""The same, in a row whose values have names."""
IMPOSSIBLE_COUNT: Final = NO_COUNT - 1
"""Stands for a count that came and can't be one, which the checks reject."""
_LONGEST: Final = 200
"""Of what came in place of a number so many characters are kept."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a row its values stand; the stamp comes first."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    vwap: int | None = None
    trade_count: int | None = None

    @property
    def values(self) -> tuple[int | None, ...]:
        """The places, in the order in which bars have their values."""
        return tuple(getattr(self, name) for name in VALUES)

    @property
    def width(self) -> int:
        """How many values a row has at least."""
        return 1 + max(place for place in self.values if place is not None)


class PricedRow(msgspec.Struct):
    """A row whose values have names: what is no number costs its own bar alone."""

    open: msgspec.Raw = NULL
    high: msgspec.Raw = NULL
    low: msgspec.Raw = NULL
    close: msgspec.Raw = NULL
    volume: msgspec.Raw = NULL


def read_rows(rows: Sequence[Row], places: Places, unit_ms: int = 1000) -> tuple[Bars, Oddities]:
    """Return rows as bars, and what came in them that is no number.

    They are stamped in epoch seconds, or in units of so many milliseconds.

    Raises
    ------
    UnreadableAnswer
        If a row is too short, or its stamp is no whole number.
    BadAnswer
        If it is stamped in another unit.
    """
    stamps = []
    for row in rows:
        if len(row) < places.width:
            raise UnreadableAnswer(f"a row holds {len(row)} values, not {places.width}")
        if not (stamp := _STAMP.fullmatch(row[0])):
            raise UnreadableAnswer("the time stamp of a row is no whole number")
        stamps.append(int(stamp[1]) * unit_ms)
    given = [[None if at is None else bytes(row[at]) for at in places.values] for row in rows]
    bars = Bars.of(
        [
            (ts_ms, *map(_number, prices), _vwap(vwap), _count(count))
            for ts_ms, (*prices, vwap, count) in zip(stamps, given, strict=True)
        ]
    )
    if len(bars) and not EARLIEST_MS <= bars.ts_ms.min() <= bars.ts_ms.max() <= LATEST_MS:
        raise BadAnswer("the stamps of the answer are of another unit")
    oddities = {
        json.dumps(read): dict(zip(VALUES, map(came, values), strict=True))
        for read, values in zip(raw_values(bars), given, strict=True)
        if not all(value is None or _NUMBER.fullmatch(value) for value in values)
    }
    return bars, oddities


def with_paid(bars: Bars, oddities: Oddities, rows: Sequence[Row], paid: int) -> Bars:
    """Return bars with their vwap, of which the rows tell what was paid, at a place.

    What is quarantined for another value keeps none, so that it is told as it came.

    Raises
    ------
    UnreadableAnswer
        If a row is too short.
    """
    if any(len(row) <= paid for row in rows):
        raise UnreadableAnswer(f"a row holds no more than {paid} values")
    vwap = vwap_of(np.array([_number(bytes(row[paid])) for row in rows]), bars.volume)
    vwap[[json.dumps(read) in oddities for read in raw_values(bars)]] = np.nan
    return replace(bars, vwap=vwap)


def first_day_in(bars: Bars) -> date | None:
    """Return the day of the first bar there is, by UTC; None where there is none.

    Raises
    ------
    BadAnswer
        If more than one came, or one that can't be.
    """
    first = bars.ts_ms.tolist()
    if len(first) > 1 or not all(EARLIEST_MS <= at_ms <= LATEST_MS for at_ms in first):
        raise BadAnswer("what came for a pair's first day can't be one")
    days = [datetime.fromtimestamp(at_ms / 1000, UTC).date() for at_ms in first]
    return days[0] if days else None


def vwap_of(paid: FloatColumn, volume: FloatColumn) -> FloatColumn:
    """Return what was paid for one in the mean; infinite where that was no number."""
    vwap = np.full(len(paid), np.nan)
    np.divide(paid, volume, out=vwap, where=volume > 0)
    vwap[~np.isfinite(paid)] = np.inf
    return vwap


def _number(value: bytes | None) -> float:
    match = _NUMBER.fullmatch(value) if value is not None else None
    return float(match[1]) if match else np.nan


def _vwap(value: bytes | None) -> float | None:
    """Return a vwap; infinite is one that is no number, which the checks reject."""
    if value is None or value == _NULL:
        return None
    return float(match[1]) if (match := _NUMBER.fullmatch(value)) else np.inf


def _count(value: bytes | None) -> int | None:
    if value is None or value == _NULL:
        return None
    return int(value) if _WHOLE.fullmatch(value) and int(value) >= 0 else IMPOSSIBLE_COUNT


def came(value: bytes | None) -> float | str | None:
    """Return a value as it came, or its text where JSON's own values can't hold it."""
    if value is None:
        return None
    text = value.decode(errors="replace")[:_LONGEST]
    try:
        return msgspec.json.decode(text, type=float | int | str | None)
    except (msgspec.DecodeError, ValueError):
        return text
