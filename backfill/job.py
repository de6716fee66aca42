"""What a run is asked to do."""

from dataclasses import dataclass
from datetime import datetime

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
    mode: Mode = Mode.default
    first: Bound | None = None
    last: Bound | None = None
    as_of: datetime | None = None
    max_calls: int | None = None
    deadline_s: float | None = None
