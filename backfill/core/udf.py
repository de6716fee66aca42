"""TradingView's Universal Data Feed: its words for timeframes, symbols, sessions and times.

https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF/
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backfill.core.bars import Bars
from backfill.core.calendar import FX, ZONES, day_begins, trade_date
from backfill.core.coverage import Span
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError

RESOLUTIONS: Final = {
    "1": Timeframe.m1,
    "5": Timeframe.m5,
    "15": Timeframe.m15,
    "30": Timeframe.m30,
    "60": Timeframe.h1,
    "240": Timeframe.h4,
    "1D": Timeframe.d1,
    "1W": Timeframe.w1,
    "1M": Timeframe.mn1,
}
"""Each timeframe by its name there."""
EXCHANGES: Final = frozenset(ZONES)
TYPES: Final = {"stock": "stock", "crypto": "crypto", "currency": "forex"}
_ALSO: Final = {"D": "1D", "W": "1W", "M": "1M", "1H": "60", "4H": "240"}
_SESSIONS: Final = {"XNYS": "0400-2000", FX: "1700-1700:23456"}
_MOST_DECIMALS: Final = 8
_FEWEST_DECIMALS: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).date()
_DAY_S: Final = 86_400
_LAST_S: Final = 253_402_300_799
"""The last second of the year 9999."""


def timeframe_of(resolution: str) -> Timeframe:
    """Return the timeframe of a resolution.

    >>> timeframe_of("D")
    <Timeframe.d1: 'd1'>

    Raises
    ------
    UsageError
        If there is none.
    """
    named = resolution.upper()
    found = RESOLUTIONS.get(_ALSO.get(named, named))
    if found is None:
        raise UsageError(f"resolution {resolution!r} is not one of: {' '.join(RESOLUTIONS)}")
    return found


def config() -> dict[str, Any]:
    """Return what can be asked for."""
    return {
        "supported_resolutions": list(RESOLUTIONS),
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": False,
        "supports_timescale_marks": False,
        "supports_time": True,
        "exchanges": [{"value": "", "name": "All", "desc": ""}],
        "symbols_types": [
            {"name": "All", "value": ""},
            *({"name": name.capitalize(), "value": name} for name in TYPES.values()),
        ],
    }


def symbol_info(
    ticker: str,
    asset_type: str,
    calendar: str,
    timeframes: Sequence[Timeframe],
    closes: Iterable[float],
) -> dict[str, Any]:
    """Return what a chart has to know of a symbol, by some of its closes.

    Only what is stored is offered: finer bars are made of no coarser ones, nor weeks of days.
    """
    intraday = [name for name, one in RESOLUTIONS.items() if one in timeframes and one.is_intraday]
    zone = ZONES.get(calendar, "UTC")
    return {
        "name": ticker,
        "ticker": ticker,
        "description": ticker,
        "type": TYPES.get(asset_type, asset_type),
        "exchange": calendar,
        "listed_exchange": calendar,
        "session": _SESSIONS.get(calendar, "24x7"),
        "timezone": "Etc/UTC" if zone == "UTC" else zone,
        "format": "price",
        "minmov": 1,
        "pricescale": 10 ** decimals(closes),
        "volume_precision": 0 if asset_type == "stock" else _MOST_DECIMALS,
        "has_intraday": bool(intraday),
        "intraday_multipliers": intraday,
        "has_daily": Timeframe.d1 in timeframes,
        "has_weekly_and_monthly": {Timeframe.w1, Timeframe.mn1} <= set(timeframes),
        "supported_resolutions": [name for name, one in RESOLUTIONS.items() if one in timeframes],
        "data_status": "endofday",
    }


def decimals(prices: Iterable[float]) -> int:
    """Return how many decimals prices have, from two to eight.

    >>> decimals([1.5, 2.125]), decimals([7.0]), decimals([1 / 3])
    (3, 2, 8)
    """
    most = _FEWEST_DECIMALS
    for price in prices:
        text = f"{price:.{_MOST_DECIMALS}f}".rstrip("0")
        most = max(most, len(text) - text.index(".") - 1)
    return most


def span_of(calendar: str, timeframe: Timeframe, from_s: int, to_s: int) -> Span:
    """Return the time in which bars begin whose times there lie from one second to before another.

    A bar of a day or longer has the midnight of its date, by UTC, for its time there.
    """
    if timeframe.is_intraday:
        return Span(_held(from_s) * 1000, _held(to_s) * 1000)
    begins, ends = (
        day_begins(calendar, _EPOCH + timedelta(days=-(-_held(at_s) // _DAY_S)), timeframe)
        for at_s in (from_s, to_s)
    )
    return Span(begins, ends)


def times_of(calendar: str, timeframe: Timeframe, ts_ms: Sequence[int]) -> list[int]:
    """Return the times there of bars that begin then, in seconds."""
    if timeframe.is_intraday:
        return [ms // 1000 for ms in ts_ms]
    return [(trade_date(calendar, ms) - _EPOCH).days * _DAY_S for ms in ts_ms]


def history(calendar: str, timeframe: Timeframe, bars: Bars) -> dict[str, Any]:
    """Return bars as columns, oldest first."""
    return {
        "s": "ok",
        "t": times_of(calendar, timeframe, bars.ts_ms.tolist()),
        "o": bars.open.tolist(),
        "h": bars.high.tolist(),
        "l": bars.low.tolist(),
        "c": bars.close.tolist(),
        "v": bars.volume.tolist(),
    }


def no_data(calendar: str, timeframe: Timeframe, before_ms: int | None) -> dict[str, Any]:
    """Return that a range has no bars, and where the newest one before it begins, if there is."""
    if before_ms is None:
        return {"s": "no_data"}
    return {"s": "no_data", "nextTime": times_of(calendar, timeframe, [before_ms])[0]}


def _held(at_s: int) -> int:
    """Return a time within those that a date can have, with a day to spare."""
    return min(max(at_s, 0), _LAST_S - 2 * _DAY_S)
