"""What the simulated tapes report at night: 21:00 to 04:00, of the session that follows."""

from datetime import date
from typing import Final

import numpy as np

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.listings import Listing
from backfill.simulator.market.prices import Path, round_prices, typical_price

EVENING_MS: Final = 4 * HOUR_MS
"""How long before its midnight a trade date begins."""

_MINUTES: Final = np.arange(-3 * 60, 4 * 60)
_TRADED_SHARE: Final = 0.2
_MINUTE_MOVE: Final = 0.0003
_LOT: Final = 20.0


def night_bars(
    rng: np.random.Generator,
    listing: Listing,
    path: Path,
    factor: FloatColumn,
    ordinals: IntColumn,
    midnight_ms: IntColumn,
) -> Bars:
    """Draw the raw minutes of the nights of some sessions, which end near the day's open."""
    shape = len(ordinals), len(_MINUTES)
    steps = _MINUTE_MOVE * rng.standard_normal(shape)
    level = path.log_open[:, None] - np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    closes = np.exp(level) * factor[:, None]
    opens = np.concatenate((closes[:, :1], closes[:, :-1]), axis=1)
    wicks = 1 + _MINUTE_MOVE * rng.random((2, *shape))
    lots = np.ceil(10 * rng.random(shape))
    traded = rng.random(shape) < listing.traded * _TRADED_SHARE
    traded[[date.fromordinal(int(day)) in listing.halted for day in ordinals]] = False

    session, column = np.nonzero(traded)
    first, last = opens[traded], closes[traded]
    first, high, low, last = (
        round_prices(price)
        for price in (
            first,
            np.maximum(first, last) * wicks[0][traded],
            np.minimum(first, last) / wicks[1][traded],
            last,
        )
    )
    return Bars(
        ts_ms=midnight_ms[session] + _MINUTES[column] * MINUTE_MS,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=lots[traded] * _LOT,
        vwap=typical_price(high, low, last),
        trade_count=lots[traded].astype(np.int64),
    )
