"""Bars as they came, for quarantine: in JSON's own values, what is no number included."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.plain import json_text, storable

VALUES = ("open", "high", "low", "close", "volume", "vwap", "trade_count")

Oddities: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What came of bars that hold something else than numbers, by `spelled` of what was read of it."""


def raw_values(bars: Bars) -> Iterator[dict[str, Any]]:
    """Return the values that were read of bars; what JSON can't hold is spelled out.

    >>> next(raw_values(Bars.of([(0, 1.0, 2.0, 1.0, float("inf"), 10.0, None, None)])))["close"]
    'inf'
    """
    for stamp, *values, count in zip(
        bars.ts_ms.tolist(),
        *(getattr(bars, name).tolist() for name in VALUES),
        strict=True,
    ):
        vwap = values.pop()
        numbers = [
            *map(_spelled, values),
            None if vwap != vwap else _spelled(vwap),  # noqa: PLR0124  # NaN
            None if count == NO_COUNT else count,
        ]
        yield {"ts_ms": stamp, **dict(zip(VALUES, numbers, strict=True))}


def spelled(bars: Bars, oddities: Oddities) -> list[str]:
    """Return each bar as JSON, as it came, but for what Postgres can't hold of a text."""
    read = [(values, json.dumps(values)) for values in raw_values(bars)]
    return [
        json_text({**values, **_storable(oddities[key])}) if key in oddities else key
        for values, key in read
    ]


def _storable(came: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: storable(value) if isinstance(value, str) else value for name, value in came.items()
    }


def _spelled(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)
