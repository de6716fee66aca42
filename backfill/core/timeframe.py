"""The nine timeframes: their names, their order and the length of the intraday ones."""

from enum import StrEnum
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


class Timeframe(StrEnum):
    """The length of a bar; no other spelling enters the core.

    >>> Timeframe("m15").length_ms
    900000
    >>> Timeframe.w1.is_intraday
    False
    """

    m1 = "m1"
    m5 = "m5"
    m15 = "m15"
    m30 = "m30"
    h1 = "h1"
    h4 = "h4"
    d1 = "d1"
    w1 = "w1"
    mn1 = "mn1"

    @property
    def is_intraday(self) -> bool:
        """Whether bars of this timeframe have a fixed length within a session."""
        return self in _LENGTH_MS

    @property
    def length_ms(self) -> int:
        """Length of an intraday bar in milliseconds.

        Raises
        ------
        ValueError
            For d1, w1 and mn1, whose length the calendar decides.
        """
        try:
            return _LENGTH_MS[self]
        except KeyError:
            raise ValueError(f"{self} has no fixed length") from None

    @property
    def most_base(self) -> int:
        """The most base aggregates in a bar: minutes of an intraday one, days of any other.

        >>> Timeframe.h1.most_base, Timeframe.w1.most_base
        (60, 7)
        """
        return self.length_ms // MINUTE_MS if self.is_intraday else _MOST_DAYS[self]


_LENGTH_MS: Final = {
    Timeframe.m1: MINUTE_MS,
    Timeframe.m5: 5 * MINUTE_MS,
    Timeframe.m15: 15 * MINUTE_MS,
    Timeframe.m30: 30 * MINUTE_MS,
    Timeframe.h1: HOUR_MS,
    Timeframe.h4: 4 * HOUR_MS,
}
_MOST_DAYS: Final = {Timeframe.d1: 1, Timeframe.w1: 7, Timeframe.mn1: 31}
