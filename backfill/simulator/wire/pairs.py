"""The pairs of the simulated market, and their bars as an exchange tells them: by the UTC day."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from backfill.core.bars import Bars, FloatColumn
from backfill.core.timeframe import DAY_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.prices import roll_up
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Ask

_QUOTES: Final = ("USDT", "USD")


def pairs_of(market: Market) -> Iterator[tuple[str, str, str]]:
    """Yield what the market calls each of its pairs, its coin, and what that is paid in."""
    for ticker in market.tickers:
        word = ticker.removeprefix("X:")
        quote = next((one for one in _QUOTES if word.endswith(one)), "")
        if word != ticker and quote:
            yield ticker, word.removesuffix(quote), quote


def pair_bars(ask: Ask, ticker: str, length_ms: int, start_ms: int, end_ms: int) -> Bars:
    """Return the bars that start in a range, with the one that still forms; both on the grid.

    ``length_ms`` is at most a day; more than that stands for months, which no exchange has here.
    """
    zone = sessions_of("crypto").zone
    daily = length_ms >= DAY_MS
    # Days of currencies are the market's own, and not by UTC.
    base_is_daily = daily and not ticker.startswith("C:")
    grid = Grid(zone, "intraday", length_ms) if not daily else Grid(zone, "day")
    if length_ms > DAY_MS:
        grid = Grid(zone, "month")
    base = ask.market.base(
        ticker,
        zone.clamp(start_ms),
        zone.clamp(end_ms),
        daily=base_is_daily,
        adjusted=False,
        now_ms=ask.there_until_ms(ticker),
    )
    there = Bars.concat([ask.served(ticker, part) for part in base])
    return roll_up(there, grid.floor(there.ts_ms))[0]


def limited_bars(
    ask: Ask,
    ticker: str,
    grid: Grid,
    bounds_ms: tuple[int, int],
    limit: int,
    *,
    oldest_first: bool,
    made: Callable[[Bars], Bars] | None = None,
) -> Bars:
    """Return at most so many of the bars that start between two instants, both included.

    They are the oldest or the newest of them, in order of time. What is there of the market is
    rolled up to the grid, or ``made`` into bars of it otherwise.
    """
    until_ms = ask.there_until_ms(ticker)
    first_ms, last_ms = grid.zone.clamp(bounds_ms[0]), min(bounds_ms[1], until_ms - 1)
    # The one that a start lies within began before it.
    start_ms = int(grid.floor(np.array([first_ms]))[0])
    if start_ms < first_ms:
        start_ms = int(grid.ends(np.array([start_ms]))[0])
    if last_ms < start_ms:
        return Bars.empty()
    parts: list[Bars] = []
    for base in ask.market.base(
        ticker,
        start_ms,
        grid.snap(start_ms, last_ms)[1],
        daily=grid.unit != "intraday",
        adjusted=False,
        now_ms=until_ms,
        newest_first=not oldest_first,
    ):
        there = ask.served(ticker, base)
        parts.append(made(there) if made else roll_up(there, grid.floor(there.ts_ms))[0])
        if sum(map(len, parts)) > limit:
            break
    bars = Bars.concat(parts if oldest_first else parts[::-1])
    return bars.take(slice(limit) if oldest_first else slice(max(len(bars) - limit, 0), None))


def with_fillers(bars: Bars, length_ms: int, end_ms: int) -> Bars:
    """Put a flat bar without volume where nobody traded, from the first bar to an instant."""
    if not len(bars):
        return bars
    stamps = np.arange(int(bars.ts_ms[0]), end_ms, length_ms, dtype=np.int64)
    at = np.searchsorted(bars.ts_ms, stamps, side="right") - 1
    traded = bars.ts_ms[at] == stamps
    close = bars.close[at]

    def told(values: FloatColumn) -> FloatColumn:
        return np.where(traded, values[at], close)

    return Bars(
        ts_ms=stamps,
        open=told(bars.open),
        high=told(bars.high),
        low=told(bars.low),
        close=close,
        volume=np.where(traded, bars.volume[at], 0.0),
        vwap=np.where(traded, bars.vwap[at], 0.0),
        trade_count=np.where(traded, bars.trade_count[at], 0),
    )


def edited_row(row: list[Any], values: Mapping[str, Any], places: Mapping[str, int]) -> list[Any]:
    """Return a row with other values, by letter; its stamp is in seconds."""
    edited = list(row)
    for letter, value in values.items():
        if letter in places:
            in_ms = letter == "t" and isinstance(value, int)
            edited[places[letter]] = value // 1000 if in_ms else value
    return edited
