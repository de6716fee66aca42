"""What a run is asked to do, and what a check is asked to look at."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from backfill.core.archive import Use
from backfill.core.dataclass import dataclass
from backfill.core.series import Series
from backfill.core.ticker import spelling_of
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
    series
        Tickers with a timeframe each, in place of ``symbols`` and ``timeframes``: just these, where
        what one symbol lacks says nothing of another.
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
    archive
        Whether files are read where a provider has some.
    """

    symbols: tuple[str, ...] | None = None
    timeframes: tuple[Timeframe, ...] | None = None
    as_watched: bool = False
    series: tuple[tuple[str, Timeframe], ...] | None = None
    mode: Mode = Mode.default
    first: Bound | None = None
    last: Bound | None = None
    as_of: datetime | None = None
    max_calls: int | None = None
    deadline_s: float | None = None
    archive: Use = Use.auto

    @property
    def is_bounded(self) -> bool:
        """Whether it may end before all is fetched: at a deadline, or after so many calls."""
        return self.max_calls is not None or self.deadline_s is not None

    @property
    def tickers(self) -> tuple[str, ...] | None:
        """The tickers that are named, each once; None for the watchlist's."""
        named = self.symbols if self.series is None else [ticker for ticker, _ in self.series]
        return None if named is None else tuple(dict.fromkeys(named))

    def timeframes_of(self, ticker: str, own: Sequence[Timeframe]) -> list[Timeframe]:
        """Return which timeframes are asked of a ticker that has ``own`` where none are named."""
        if self.series is not None:
            return [timeframe for name, timeframe in self.series if name == ticker]
        asked = dict.fromkeys(self.timeframes or own)
        return [one for one in asked if one in own or not self.as_watched]


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
        return (self.timeframes is None or timeframe in self.timeframes) and (
            self.tickers is None or symbol.spelling in map(spelling_of, self.tickers)
        )


EVERYTHING: Final = Scope()
