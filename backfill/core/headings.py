"""Which column of a file holds what of a bar, by its name, or as the user says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backfill.errors import UsageError

PRICES: Final = ("open", "high", "low", "close")
NEEDED: Final = ("ts", *PRICES, "volume")
FIELDS: Final = (*NEEDED, "vwap", "trade_count", "symbol", "timeframe")

_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "ts": (
        *("ts", "timestamp", "datetime", "date", "time", "t"),
        *("opentime", "starttime", "windowstart", "tsevent"),
    ),
    "open": ("open", "o", "openprice"),
    "high": ("high", "h", "highprice"),
    "low": ("low", "l", "lowprice"),
    "close": ("close", "c", "closeprice"),
    "volume": ("volume", "vol", "v"),
    "vwap": ("vwap", "vw"),
    "trade_count": ("tradecount", "trades", "numberoftrades", "transactions", "n"),
    "symbol": ("symbol", "ticker"),
    "timeframe": ("timeframe",),
}
"""By which names a column is known, in small letters, without what is no letter or digit."""
_FIXED_POINT: Final = {"rtype", "publisherid"}
"""Databento's CSV has these: its prices may be counted in 1e-9, and nothing in it tells."""
_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file by what they hold, as their places in a row.

    ``of_time`` is a second column for the time of the day that ``ts`` holds the date of.
    """

    at: Mapping[str, int]
    of_time: int | None = None

    @property
    def used(self) -> list[int]:
        """The places of all that are read, in their order in the file."""
        return sorted({*self.at.values(), *([] if self.of_time is None else [self.of_time])})


def columns_of(names: Sequence[str], said: Mapping[str, str]) -> Columns:
    """Return which of a file's columns hold what; ``said`` are names by what they are said to hold.

    Raises
    ------
    UsageError
        If something of a bar has no column, or may have several.

    >>> columns_of(["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume"], {}).at["ts"]
    0
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    if set(plain) >= _FIXED_POINT:
        raise UsageError(
            "a CSV of Databento doesn't tell whether its prices are counted in 1e-9: "
            "download it as DBN"
        )
    at: dict[str, int] = {}
    of_time = None
    for field in FIELDS:
        if field in said:
            at[field] = _named(names, field, said[field])
            continue
        found = [place for place, name in enumerate(plain) if name in _KNOWN[field]]
        if field == "ts" and sorted(plain[place] for place in found) == ["date", "time"]:
            at["ts"], of_time = sorted(found, key=lambda place: plain[place])
        elif len(found) > 1:
            raise UsageError(
                f"{' and '.join(repr(names[place]) for place in found)} may each hold {field}: "
                f"say which, --column {field}=NAME"
            )
        elif found:
            at[field] = found[0]
    if missing := [field for field in NEEDED if field not in at]:
        raise UsageError(
            f"no column is known for {', '.join(missing)}: name it, --column {missing[0]}=NAME; "
            f"the first line has {_listed(names)}"
        )
    for field, name in said.items():
        if others := [one for one in at if at[one] == at[field] and one != field]:
            raise UsageError(
                f"--column {field}={name}: {others[0]} is read from that one, too; "
                f"name another for it, --column {others[0]}=NAME"
            )
    return Columns(at, of_time)


def _named(names: Sequence[str], field: str, name: str) -> int:
    found = [place for place, one in enumerate(names) if one == name]
    if len(found) != 1:
        how = "has no" if not found else "has several"
        raise UsageError(
            f"--column {field}={name}: the file {how} {name!r}; it has {_listed(names)}"
        )
    return found[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one[:_SHOWN]) for one in names[:_SHOWN])
    return f"{shown}, …" if len(names) > _SHOWN else shown
