"""How prices and volumes come about: seeded draws, whole months of minutes at a time."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, FloatColumn, IntColumn
from backfill.core.timeframe import MINUTE_MS
from backfill.simulator.market.listings import Listing
from backfill.simulator.market.sessions import Sessions

FloatTable = NDArray[np.floating]

VOLUME_UNIT: Final = 2.0**-10
"""Every volume is a multiple of it, so that sums are exact in doubles whatever their order."""

_TICK: Final = 0.0001
_DAILY_MOVE: Final = {"stocks": 0.008, "crypto": 0.012, "fx": 0.003}
_OVERNIGHT_MOVE: Final = {"stocks": 0.003, "crypto": 0.0, "fx": 0.0005}
_MINUTE_MOVE: Final = 0.0004
_WICK: Final = 0.0002
_EXTENDED_SHARE: Final = 0.3
_SHARES_A_TRADE: Final = {"stocks": 80.0, "crypto": 0.05, "fx": 1.0}
_MISSING_SHARE: Final = {"stocks": 5e-4, "crypto": 2e-5, "fx": 2e-5}
_FRACTIONAL_SHARE: Final = 0.03
_IN_MINUTES: Final = 0.85
"""The share of a day's volume that its minutes account for; the rest is auctions and odd lots."""


@dataclass(frozen=True, slots=True)
class Path:
    """A listing's sessions on the share basis of today, in float32: 20 bytes a day.

    Logarithms of open and close, how far high and low go beyond them, and the volume relative to
    that of an average day.
    """

    log_open: FloatTable
    log_close: FloatTable
    up: FloatTable
    down: FloatTable
    turnover: FloatTable

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return 5 * self.log_open.nbytes

    def take(self, rows: slice) -> "Path":
        """Return some of the sessions."""
        return Path(
            self.log_open[rows],
            self.log_close[rows],
            self.up[rows],
            self.down[rows],
            self.turnover[rows],
        )


def draw_path(rng: np.random.Generator, listing: Listing, ordinals: IntColumn) -> Path:
    """Draw a listing's whole life. A row per session: a longer life begins like a shorter one."""
    draws = rng.standard_normal((len(ordinals), 5), dtype=np.float32)
    overnight = _OVERNIGHT_MOVE[listing.market] * draws[:, 0].astype(np.float64)
    if listing.jump:
        overnight[ordinals == listing.jump[0].toordinal()] += np.log(listing.jump[1])
    move = _DAILY_MOVE[listing.market] * draws[:, 1]
    log_close = np.log(listing.price) + np.cumsum(overnight + move)
    return Path(
        log_open=(log_close - move).astype(np.float32),
        log_close=log_close.astype(np.float32),
        up=np.abs(draws[:, 2]) * np.float32(0.004),
        down=np.abs(draws[:, 3]) * np.float32(0.004),
        turnover=np.exp(np.float32(0.35) * draws[:, 4]),
    )


def day_bars(listing: Listing, path: Path, factor: FloatColumn, midnight_ms: IntColumn) -> Bars:
    """Return raw daily bars: ``factor`` old shares' worth of price, a ``factor``-th of volume."""
    log_open, log_close = path.log_open.astype(np.float64), path.log_close.astype(np.float64)
    prices = {
        "open": round_prices(np.exp(log_open) * factor),
        "high": round_prices(np.exp(np.maximum(log_open, log_close) + path.up) * factor),
        "low": round_prices(np.exp(np.minimum(log_open, log_close) - path.down) * factor),
        "close": round_prices(np.exp(log_close) * factor),
    }
    volume = np.maximum(1.0, np.floor(listing.volume * path.turnover.astype(np.float64) / factor))
    return Bars(
        ts_ms=midnight_ms,
        **prices,
        volume=volume,
        vwap=typical_price(prices["high"], prices["low"], prices["close"]),
        trade_count=np.ceil(volume / 60).astype(np.int64),
    )


def minute_bars(
    rng: np.random.Generator,
    listing: Listing,
    path: Path,
    factor: FloatColumn,
    sessions: Sessions,
    rows: slice,
) -> Bars:
    """Draw the raw minutes of some sessions: a bridge from each day's open to its close."""
    midnight_ms, regular = sessions.midnight_ms[rows], sessions.regular[rows, None]
    day = day_bars(listing, path, factor, midnight_ms)
    minute = np.arange(sessions.before + int(sessions.regular.max()) + sessions.after)
    shape = (len(midnight_ms), len(minute))

    walk = np.cumsum(_MINUTE_MOVE * rng.standard_normal(shape, dtype=np.float32), axis=1)
    wicks = _WICK * rng.standard_exponential((2, *shape), dtype=np.float32)
    weight = np.exp(np.float32(0.5) * rng.standard_normal(shape, dtype=np.float32))
    luck, oddity = rng.random((2, *shape), dtype=np.float32)

    open_hours = (minute >= sessions.before) & (minute < sessions.before + regular)
    traded = _traded(listing, sessions, rows, minute, open_hours, luck)
    done = np.clip((minute - sessions.before + 1) / regular, 0.0, 1.0)
    at_open = walk[:, sessions.before - 1, None] if sessions.before else 0.0
    at_close = np.take_along_axis(walk, sessions.before + regular - 1, axis=1)
    bridge = walk - at_open - done * (at_close - at_open)
    log_open = path.log_open[:, None].astype(np.float64)
    level = log_open + (path.log_close[:, None] - log_open) * done + bridge
    closes = np.exp(level) * factor[:, None]
    opens = np.concatenate((np.exp(log_open) * factor[:, None], closes[:, :-1]), axis=1)

    session, column = np.nonzero(traded)
    floor = np.where(open_hours[session, column], day.low[session], _TICK)
    ceiling = np.where(open_hours[session, column], day.high[session], np.inf)
    first, last = opens[traded], closes[traded]
    high, low = (
        np.maximum(first, last) * (1 + wicks[0][traded]),
        np.minimum(first, last) * (1 - wicks[1][traded]),
    )
    first, high, low, last = (
        round_prices(np.clip(price, floor, ceiling)) for price in (first, high, low, last)
    )

    weight *= np.where(open_hours, 1.0 + 2.0 * (2 * done - 1) ** 2, 0.1) * traded
    share = (weight / np.maximum(weight.sum(axis=1, keepdims=True), _TICK))[traded]
    volume = _volumes(listing, share * _IN_MINUTES * day.volume[session], oddity[traded])
    count = np.ceil(volume / _SHARES_A_TRADE[listing.market]).astype(np.int64)
    missing = oddity[traded] < (0.0 if listing.always_counted else _MISSING_SHARE[listing.market])
    return Bars(
        ts_ms=midnight_ms[session] + (sessions.first_minute + column) * MINUTE_MS,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=volume,
        vwap=np.where(missing, np.nan, typical_price(high, low, last)),
        trade_count=np.where(missing, NO_COUNT, count),
    )


def roll_up(base: Bars, starts_ms: IntColumn) -> tuple[Bars, IntColumn]:
    """Return one bar per run of equal starts, and how many base bars each is made of."""
    if not len(base):
        return base, np.empty(0, np.int64)
    first = np.flatnonzero(np.concatenate(([True], starts_ms[1:] != starts_ms[:-1])))
    sizes = np.diff(first, append=len(base))
    volume = np.add.reduceat(base.volume, first)
    counted = np.minimum.reduceat(base.trade_count, first) != NO_COUNT
    bars = Bars(
        ts_ms=starts_ms[first],
        open=base.open[first],
        high=np.maximum.reduceat(base.high, first),
        low=np.minimum.reduceat(base.low, first),
        close=base.close[first + sizes - 1],
        volume=volume,
        vwap=np.round(np.add.reduceat(base.vwap * base.volume, first) / volume, 4),
        trade_count=np.where(counted, np.add.reduceat(base.trade_count, first), NO_COUNT),
    )
    return bars, sizes


def on_basis(bars: Bars, factor: FloatColumn) -> Bars:
    """Return bars on another share basis: prices times ``factor``, volume divided by it."""
    units = np.rint(bars.volume / factor / VOLUME_UNIT)
    return Bars(
        ts_ms=bars.ts_ms,
        open=round_prices(bars.open * factor),
        high=round_prices(bars.high * factor),
        low=round_prices(bars.low * factor),
        close=round_prices(bars.close * factor),
        volume=np.where(factor == 1.0, bars.volume, np.maximum(units, 1.0) * VOLUME_UNIT),
        vwap=round_prices(bars.vwap * factor),
        trade_count=bars.trade_count,
    )


def _traded(
    listing: Listing,
    sessions: Sessions,
    rows: slice,
    minute: IntColumn,
    open_hours: NDArray[np.bool_],
    luck: FloatTable,
) -> NDArray[np.bool_]:
    """Mark the minutes with a trade: one in regular hours at least, unless trading is halted."""
    chance = np.where(open_hours, listing.traded, listing.traded * _EXTENDED_SHARE)
    within = minute < sessions.before + sessions.regular[rows, None] + sessions.after
    traded: NDArray[np.bool_] = within & (luck < chance)
    luckiest = np.argmin(np.where(open_hours, luck, 2.0), axis=1)
    traded[np.arange(len(traded)), luckiest] = True
    days = [date.fromordinal(int(ordinal)) for ordinal in sessions.ordinals[rows]]
    traded[[day in listing.halted for day in days]] = False
    return traded


def _volumes(listing: Listing, wanted: FloatColumn, oddity: FloatTable) -> FloatColumn:
    """Round volumes to whole shares and a few fractional ones, or to fractions of a coin."""
    if listing.is_pair:
        return np.maximum(1.0, np.floor(wanted / VOLUME_UNIT)) * VOLUME_UNIT
    odd = np.maximum(0.0, (oddity.astype(np.float64) - 1.0) / _FRACTIONAL_SHARE + 1.0)
    return np.maximum(1.0, np.floor(wanted)) + np.floor(odd / VOLUME_UNIT) * VOLUME_UNIT


def typical_price(high: FloatColumn, low: FloatColumn, close: FloatColumn) -> FloatColumn:
    """Return what stands for the mean price of bars."""
    return round_prices((high + low + 2 * close) / 4)


def round_prices(prices: FloatColumn) -> FloatColumn:
    """Round to four places, to one tick at least."""
    return np.maximum(np.round(prices, 4), _TICK)
