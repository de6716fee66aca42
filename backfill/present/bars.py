"""Stored bars as text: a table for people, CSV and JSON for programs, which get every digit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text

if TYPE_CHECKING:
    from backfill.store.history import StoredBar

FORMATS: Final = ("table", "csv", "json")
_COLUMNS: Final = ("ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")
_WIDTHS: Final = (16, 11, 11, 11, 11, 14, 11, 11)


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
    """Return how the bars of a series are written in one of the `FORMATS`."""
    if form == "csv":
        return Shape(",".join(_COLUMNS), _csv)
    if form == "json":
        of = {"symbol": symbol, "timeframe": timeframe, "adjusted": adjusted}
        return Shape(f'{json_text(of)[:-1]}, "bars": [', _json, ",", "]}")
    return Shape(_row(_COLUMNS), _table)


def _csv(bar: "StoredBar") -> str:
    # The shortest text that is read back as the same double.
    return ",".join((bar.ts.isoformat(), *("" if one is None else repr(one) for one in bar[1:])))


def _json(bar: "StoredBar") -> str:
    return json_text({"ts": bar.ts.isoformat(), **dict(zip(_COLUMNS[1:], bar[1:], strict=True))})


def _table(bar: "StoredBar") -> str:
    values = ("" if one is None else f"{one:,.10g}" for one in bar[1:])
    return _row((f"{bar.ts:%Y-%m-%d %H:%M}", *values))


def _row(cells: tuple[str, ...]) -> str:
    first, *rest = (cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return "  ".join((first.strip().ljust(_WIDTHS[0]), *rest)).rstrip()
