"""Massive's flat files: which there are, and what each holds.

Protocol: https://massive.com/docs/flat-files. `backfill.providers.massive_sessions` reads one.
"""

import re
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from backfill.core.archive import Archive, Held, Period
from backfill.core.coverage import Span
from backfill.core.timeframe import HOUR_MS, Timeframe

ARCHIVE: Final = Archive(
    timeframes=frozenset({Timeframe.m1, Timeframe.d1}),
    periods=(Period(Timeframe.d1, 11 * HOUR_MS),),
    requests=1,
    bar_bytes=14.0,
    # A bar of an answer takes 28 bytes, and about half of the slots of a trading day hold one.
    call_bar_bytes=14.0,
    of_market=True,
    lacks_vwap=True,
    # Ten thousand tickers, of which most trade in few minutes.
    market_bytes=((Timeframe.m1, 20_000_000), (Timeframe.d1, 250_000)),
)
"""There at eleven in New York on the day after the session."""

_ZONE: Final = ZoneInfo("America/New_York")
_PATH: Final = re.compile(r"us_stocks_sip/(\w+)/\d{4}/\d{2}/(\d{4}-\d{2}-\d{2})\.csv\.gz")
_FOLDER: Final = {Timeframe.m1: "minute_aggs_v1", Timeframe.d1: "day_aggs_v1"}


def path_of(day: date, timeframe: Timeframe) -> str:
    """Return where the file of a session's minutes or days is, below the bucket.

    >>> path_of(date(2025, 1, 2), Timeframe.m1)
    'us_stocks_sip/minute_aggs_v1/2025/01/2025-01-02.csv.gz'
    """
    return f"us_stocks_sip/{_FOLDER[timeframe]}/{day:%Y/%m}/{day}.csv.gz"


def held_in(path: str) -> Held | None:
    """Return what the file at a path holds.

    >>> held_in("us_stocks_sip/day_aggs_v1/2025/01/2025-01-02.csv.gz").span
    Span(start_ms=1735794000000, end_ms=1735880400000)
    """
    named = _PATH.fullmatch(path)
    timeframes = {folder: timeframe for timeframe, folder in _FOLDER.items()}
    if named is None or named[1] not in timeframes:
        return None
    day = date.fromisoformat(named[2])
    start, end = (
        round(datetime.combine(one, time(), _ZONE).timestamp() * 1000)
        for one in (day, day + timedelta(days=1))
    )
    return Held(None, timeframes[named[1]], Span(start, end))
