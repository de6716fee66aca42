"""Stored bars as text: a table for people, CSV and JSON for programs, which get every digit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text
from backfill.present.columns import Columns

if TYPE_CHECKING:
    from backfill.store.history import StoredBar

FORMATS: Final = ("table", "csv", "json")
_COLUMNS: Final = ("ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")
_SHOWN: Final = ("ts", "open", "high", "low", "close", "volume", "vwap", "trades")
_WHOLE: Final = 1000
"""From here on a volume is shown without fractions."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How bars are written: what comes first and last, each bar, what parts it from the one before.

    ``between`` goes at the beginning of a line.
    """

    head: str
    line: Callable[["StoredBar"], str]
    between: str = ""
    tail: str = ""


def shape_of(form: str, symbol: str, timeframe: str, *, adjusted: bool) -> Shape:
    """Return how the bars of a series are written for programs, as ``csv`` or ``json``."""
    if form == "csv":
        return Shape(",".join(_COLUMNS), _csv)
    of = {"symbol": symbol, "timeframe": timeframe, "adjusted": adjusted}
    return Shape(f'{json_text(of)[:-1]}, "bars": [', _json, ",", "]}")


def table(*, intraday: bool) -> tuple[Columns, Callable[["StoredBar"], tuple[str, ...]]]:
    """Return a table for people, and what makes a row of a bar: numbers are rounded there."""
    time = "%Y-%m-%d %H:%M" if intraday else "%Y-%m-%d"

    def row(bar: "StoredBar") -> tuple[str, ...]:
        prices = (bar.open, bar.high, bar.low, bar.close)
        return (
            f"{bar.ts:{time}}",
            *(_rounded(price, ".10g") for price in prices),
            _rounded(bar.volume, ".0f" if (bar.volume or 0) >= _WHOLE else ".6g"),
            _rounded(bar.vwap, ".7g"),
            _rounded(bar.trade_count, "d"),
        )

    return Columns(_SHOWN), row


def _rounded(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:,{form}}"


def _csv(bar: "StoredBar") -> str:
    # The shortest text that is read back as the same double.
    return ",".join((bar.ts.isoformat(), *("" if one is None else repr(one) for one in bar[1:])))


def _json(bar: "StoredBar") -> str:
    return json_text({"ts": bar.ts.isoformat(), **dict(zip(_COLUMNS[1:], bar[1:], strict=True))})
