"""What a run is asked to do, and what a check is asked to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is asked to do.

    Parameters
    ----------
    symbols
        Tickers, or None for the watchlist's unpaused entries.
    timeframes
        Timeframes, or None for a watched symbol's own, otherwise d1.
    as_watched
        Of ``timeframes`` only those that a symbol is watched in.
    mode
        All that is missing, only what is new, or all again.
    first, last
        The range, each end None for the default: a date names a session, inclusive; a datetime an
        instant of a half-open range.
    as_of
        The clock of planning and finality, aware; None for the real one.
    max_calls
        How many requests may be sent, retries and look-ups included.
    deadline_s
        Seconds after which the run stops.
    """

    symbols: tuple[str, ...] | None = None
    timeframes: tuple[Timeframe, ...] | None = None
    as_watched: bool = False
    mode: Mode = Mode.default
    first: Bound | None = None
    last: Bound | None = None
    as_of: datetime | None = None
    max_calls: int | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of the series that are kept, and which part of them; None for no bound."""

    tickers: Sequence[str] | None = None
    timeframes: Sequence[Timeframe] | None = None
    first: Bound | None = None
    last: Bound | None = None

    def holds(self, series: Series) -> bool:
        """Whether a series is in it."""
        symbol, timeframe = series
        return (self.tickers is None or symbol.ticker in self.tickers) and (
            self.timeframes is None or timeframe in self.timeframes
        )


EVERYTHING: Final = Scope()
