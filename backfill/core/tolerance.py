"""How far two providers' bars of one instrument may lie apart and still tell the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, FloatColumn
from backfill.core.compare import VALUES, of_both
from backfill.errors import UsageError

_PRICE: Final = 0.001
_AMOUNT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Apart:
    """Of one field: how many values were compared, how many lie too far apart, and the farthest.

    ``largest`` is the difference as a share of the larger value, ``largest_ms`` the bar's start.
    """

    compared: int = 0
    differ: int = 0
    largest: float = 0.0
    largest_ms: int | None = None

    def __add__(self, other: "Apart") -> "Apart":
        farther = max(self, other, key=lambda one: one.largest)
        return Apart(
            self.compared + other.compared,
            self.differ + other.differ,
            farther.largest,
            farther.largest_ms,
        )


@dataclass(frozen=True, slots=True)
class Tolerances:
    """By which share of the larger value a field may differ; None: it isn't compared.

    A value that one of the providers doesn't tell is not compared, either.
    """

    shares: Mapping[str, float | None]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Tolerances":
        """Return the usual tolerances, with those changed that texts name.

        Raises
        ------
        UsageError
            If one can't be read.

        >>> Tolerances.parse(["close=0.5%", "volume=any"]).shares["close"]
        0.005
        """
        shares = dict(USUAL.shares)
        for text in texts:
            name, _, share = (part.strip() for part in text.partition("="))
            if name not in shares:
                raise UsageError(f"--tolerance {text!r}: name one of {', '.join(VALUES)}")
            shares[name] = None if share == "any" else _share(text, share)
        return cls(shares)

    def alike(self, name: str, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether values of a field agree; see `backfill.core.compare.Alike`."""
        return ~self._too_far(name, _shares_apart(one, other))

    def apart(self, bars: Bars, others: Bars) -> dict[str, Apart]:
        """Return how the fields differ in the slots that both have; both are sorted."""
        mine, theirs = of_both(bars, others)
        return {
            name: self._apart(name, mine, theirs)
            for name, share in self.shares.items()
            if share is not None
        }

    def _apart(self, name: str, mine: Bars, theirs: Bars) -> Apart:
        shares = _shares_apart(getattr(mine, name), getattr(theirs, name))
        compared = int(np.count_nonzero(~np.isnan(shares)))
        if not compared:
            return Apart()
        farthest = int(np.nanargmax(shares))
        largest = float(shares[farthest])
        return Apart(
            compared,
            int(np.count_nonzero(self._too_far(name, shares))),
            largest,
            int(mine.ts_ms[farthest]) if largest else None,
        )

    def _too_far(self, name: str, shares: FloatColumn) -> NDArray[np.bool_]:
        most = self.shares[name]
        return shares > (np.inf if most is None else most)


USUAL: Final = Tolerances(
    MappingProxyType(
        {name: _AMOUNT if name in {"volume", "trade_count"} else _PRICE for name in VALUES}
    )
)
"""A thousandth of a price, a twentieth of a volume or count: trades that one reports and another
doesn't, or later, are rarely more; another split, day or instrument always is."""


def _shares_apart(one: NDArray[Any], other: NDArray[Any]) -> FloatColumn:
    """By which share of the larger each two values differ; NaN where one isn't told."""
    mine, theirs = _told(one), _told(other)
    larger = np.maximum(np.abs(mine), np.abs(theirs))
    shares = np.where(larger == 0, 0.0, np.abs(mine - theirs) / np.where(larger == 0, 1.0, larger))
    return np.where(np.isnan(larger), np.nan, shares)


def _told(values: NDArray[Any]) -> FloatColumn:
    told = values.astype(np.float64)
    return np.where(values == NO_COUNT, np.nan, told) if values.dtype.kind == "i" else told


def _share(text: str, share: str) -> float:
    try:
        value = float(share.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not share.endswith("%") or not 0 <= value < 1:
        raise UsageError(f"--tolerance {text!r}: write FIELD=PERCENT, as close=0.5%, or FIELD=any")
    return value
