"""Finnhub's wire: candles as columns, stamped in three ways by their day; company profiles."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Refused, Seen
from backfill.simulator.wire.shares import share_bars, shares_of

_CANDLES: Final = "/stock/candle"
_PROFILE: Final = "/stock/profile2"
_LETTERS: Final = "tohlcv"
_LENGTHS: Final = {
    "1": MINUTE_MS,
    "5": 5 * MINUTE_MS,
    "15": 15 * MINUTE_MS,
    "30": 30 * MINUTE_MS,
    "60": HOUR_MS,
}
_UNITS: Final = {"D": "day", "W": "week", "M": "month"}
_MONTH_MS: Final = 31 * DAY_MS
"""Of minutes and hours one answer holds the newest month that was asked for."""

_OPEN_SINCE_MS: Final = 1_577_836_800_000
"""From 2020 on days were stamped with their open, before with New York's midnight."""
_UTC_SINCE_MS: Final = 1_625_097_600_000
"""And from July 2021 on with midnight UTC."""
_OPENS_MS: Final = 9 * HOUR_MS + 30 * MINUTE_MS
_SAID: Final = {
    401: "Invalid API key.",
    403: "You don't have access to this resource.",
    429: "API limit reached. Please try again later. Remaining Limit: 0",
}


class FinnhubWire:
    """The protocol of ``finnhub``: its candles name no symbol and no adjustment."""

    name = "finnhub"
    lies: Mapping[str, Lie] = {}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the stocks of the market."""
        return shares_of(market)

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:
        """Take the key out of a call: it may stand in the query, too."""
        return query.pop("token", "") or headers.get("X-Finnhub-Token", "")

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        about = (query["symbol"],) if "symbol" in query else ()
        return Seen("bars" if path == _CANDLES else "lookup", about)

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose key is right and whose turn it is; ``free`` has no candles."""
        try:
            if method == "GET" and ask.path == _CANDLES:
                return Answer(200, _candles(ask))
            if method == "GET" and ask.path == _PROFILE:
                return Answer(200, _profile(ask))
        except Refused as refused:
            return refused.answer
        return _refusal(404, "Not found.")

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        return _refusal(status, _SAID.get(status, "Internal error."))

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days or weeks, and days for anything shorter."""
        longer = "D" if ask.query.get("resolution") in _LENGTHS else "M"
        return replace(ask, query={**ask.query, "resolution": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:
        """Return the candles of a body, each of its values in the order of the letters."""
        if ask.path != _CANDLES or body.get("s") != "ok":
            return []
        return list(zip(*(body[letter] for letter in _LETTERS), strict=True))

    def with_rows(self, body: Any, rows: list[Any]) -> Any:  # noqa: ARG002  # rows are all of it
        """Return a body with other candles."""
        if not rows:
            return {"s": "no_data"}
        return _body([list(column) for column in zip(*rows, strict=True)])

    def stamp_ms(self, row: Any) -> int:
        """Return the stamp of a candle."""
        return int(row[0]) * 1000

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a candle with other values; it has no vwap and no count."""
        edited = list(row)
        for letter, value in values.items():
            if letter in _LETTERS:
                edited[_LETTERS.index(letter)] = value // 1000 if letter == "t" else value
        return edited

    def is_of(self, row: Any, ticker: str) -> bool:  # noqa: ARG002  # candles don't say
        """Candles don't say whose they are."""
        return False

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"c":\[[^,\]]+', b'"c":[NaN', data, count=1)


def _candles(ask: Ask) -> dict[str, Any]:
    ticker, grid = _sent(ask, "symbol"), _grid(_sent(ask, "resolution"))
    first_ms, last_ms = 1000 * _number(ask, "from"), 1000 * _number(ask, "to")
    if ask.plan == "free":
        raise Refused(_refusal(403, _SAID[403]))
    intraday = grid.unit == "intraday"
    first_ms = max(first_ms, last_ms - _MONTH_MS) if intraday else first_ms // DAY_MS * DAY_MS
    # A stamp may lie before the session that it names, or in it.
    start_ms, end_ms = grid.snap(
        grid.zone.clamp(first_ms - DAY_MS), grid.zone.clamp(last_ms + DAY_MS)
    )
    bars = share_bars(ask, ticker, grid, start_ms, end_ms, adjusted=not intraday)
    stamps = bars.ts_ms if intraday else _day_stamps(grid, bars.ts_ms)
    asked_for = (stamps >= first_ms) & (stamps <= last_ms)
    bars, stamps = bars.take(asked_for), stamps[asked_for]
    if not len(bars):
        return {"s": "no_data"}
    values = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return _body([(stamps // 1000).tolist(), *(column.tolist() for column in values)])


def _day_stamps(grid: Grid, midnights_ms: IntColumn) -> IntColumn:
    """Return how days are stamped whose exchange midnights these are: three ways, one by one."""
    utc_ms = (grid.zone.ordinals(midnights_ms) - 719_163) * DAY_MS
    opens_ms = midnights_ms + _OPENS_MS
    stamped = np.where(midnights_ms < _OPEN_SINCE_MS, midnights_ms, opens_ms)
    found: IntColumn = np.where(midnights_ms < _UTC_SINCE_MS, stamped, utc_ms)
    return found


def _profile(ask: Ask) -> dict[str, Any]:
    """Return the profile of a company; nothing for a fund, or for nobody."""
    zone = sessions_of("stocks").zone
    owner = ask.market.owner(_sent(ask, "symbol"), zone.day_of(ask.now_ms))
    if owner is None or owner.type == "ETF" or owner.market != "stocks":
        return {}
    return {
        "country": "US",
        "currency": "USD",
        "exchange": owner.exchange,
        "finnhubIndustry": "N/A",
        "ipo": (owner.told_list_date or owner.list_date).isoformat(),
        "name": owner.name,
        "ticker": owner.ticker,
    }


def _grid(resolution: str) -> Grid:
    zone = sessions_of("stocks").zone
    if resolution in _LENGTHS:
        return Grid(zone, "intraday", _LENGTHS[resolution])
    if resolution in _UNITS:
        return Grid(zone, _UNITS[resolution])  # type: ignore[arg-type]  # the three are its own
    raise Refused(_refusal(422, "Wrong resolution."))


def _body(columns: list[list[Any]]) -> dict[str, Any]:
    return dict(zip(_LETTERS, columns, strict=True)) | {"s": "ok"}


def _sent(ask: Ask, name: str) -> str:
    if not ask.query.get(name):
        raise Refused(_refusal(422, f"Missing parameter {name}."))
    return ask.query[name]


def _number(ask: Ask, name: str) -> int:
    text = _sent(ask, name)
    if not text.isdecimal():
        raise Refused(_refusal(422, f"Wrong parameter {name}."))
    return int(text)


def _refusal(status: int, said: str) -> Answer:
    return Answer(status, {"error": said})
