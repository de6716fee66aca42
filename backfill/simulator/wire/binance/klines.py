"""Binance's klines, as the service's answers and the archive's files have them."""

from typing import Any, Final

import numpy as np

from backfill.core.bars import Bars, IntColumn
from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.sessions import MONDAY, Grid, sessions_of
from backfill.simulator.wire.base import Ask
from backfill.simulator.wire.pairs import limited_bars

QUOTE: Final = "USDT"
_AT_MOST_SILENT: Final = 60
"""A silence of more minutes than this is the exchange's own, and no row tells of it."""

LENGTHS: Final = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
}
INTERVALS: Final = {*LENGTHS, "1d", "1w", "1M"}
Row = list[Any]


def klines(
    ask: Ask,
    ticker: str,
    interval: str,
    bounds_ms: tuple[int, int],
    limit: int,
    *,
    oldest_first: bool,
) -> list[Row]:
    """Return at most so many of the klines that start between two instants, both included."""
    grid = _grid(interval)
    bars = limited_bars(
        ask,
        ticker,
        grid,
        bounds_ms,
        limit,
        oldest_first=oldest_first,
        made=_with_silent if interval == "1m" else None,
    )
    return _rows(bars, grid.ends(bars.ts_ms))


def _with_silent(minutes: Bars) -> Bars:
    """Put a bar without volume, at the last close, where nobody traded between two minutes."""
    missing = np.diff(minutes.ts_ms) // MINUTE_MS - 1
    short = np.where(missing <= _AT_MOST_SILENT, missing, 0)
    after = np.repeat(np.arange(len(short)), short)
    nth = np.arange(len(after)) - np.repeat(np.cumsum(short) - short, short) + 1
    close, nothing = minutes.close[after], np.zeros(len(after))
    silent = Bars(
        ts_ms=minutes.ts_ms[after] + nth * MINUTE_MS,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=nothing,
        vwap=nothing,
        trade_count=nothing.astype(np.int64),
    )
    both = Bars.concat([minutes, silent])
    return both.take(np.argsort(both.ts_ms, kind="stable"))


def _rows(bars: Bars, ends_ms: IntColumn) -> list[Row]:
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [
        [
            at_ms,
            *map(text_of, values),
            end_ms - 1,
            text_of(quote := vwap * values[4]),
            count,
            text_of(values[4] / 2),
            text_of(quote / 2),
            "0",
        ]
        for at_ms, values, end_ms, vwap, count in zip(
            bars.ts_ms.tolist(),
            zip(*(column.tolist() for column in prices), strict=True),
            ends_ms.tolist(),
            bars.vwap.tolist(),
            bars.trade_count.tolist(),
            strict=True,
        )
    ]


def text_of(value: float) -> str:
    """Return a number as the service writes it."""
    return f"{value:.8f}"


def _grid(interval: str) -> Grid:
    zone = sessions_of("crypto").zone
    if interval in LENGTHS:
        return Grid(zone, "intraday", LENGTHS[interval])
    match interval:
        case "1d":
            return Grid(zone, "day")
        case "1w":
            return Grid(zone, "week", week_starts=MONDAY)
        case "1M":
            return Grid(zone, "month")
    raise KeyError(interval)
