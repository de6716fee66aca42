"""Binance's wire: spot klines of the pairs in USDT, weights, and refusals by code."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from backfill.core.bars import Bars, IntColumn
from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import MONDAY, Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Refused, Seen
from backfill.simulator.wire.pairs import limited_bars, pairs_of

_KLINES: Final = "/api/v3/klines"
_WEIGHTS: Final = {_KLINES: 2, "/api/v3/exchangeInfo": 20}
_MOST: Final = 1000
_DEFAULT: Final = 500
_QUOTE: Final = "USDT"
_AT_MOST_SILENT: Final = 60
"""A silence of more minutes than this is the exchange's own, and no row tells of it."""

_LENGTHS: Final = {
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
_SAID: Final = {
    -1003: "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API.",
    -1100: "Illegal characters found in a parameter.",
    -1102: "Mandatory parameter was not sent, was empty/null, or malformed.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    0: "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you "
    "received this message in error.",
}
_CODES: Final = {429: -1003, 418: -1003, 451: 0}
_PLACES: Final = {"t": 0, "o": 1, "h": 2, "l": 3, "c": 4, "v": 5, "n": 8}
_Row = list[Any]


class BinanceWire(Public):
    """The protocol of ``binance``: its words name no symbol, no adjustment and no next page."""

    name = "binance"
    lies: Mapping[str, Lie] = {}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the pairs in USDT."""
        return tuple(ticker for ticker, _, quote in pairs_of(market) if quote == _QUOTE)

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is: one that asks for a single kline looks up when a pair began."""
        is_bars = path == _KLINES and query.get("limit") != "1"
        about = (f"X:{query['symbol']}",) if "symbol" in query else ()
        return Seen("bars" if is_bars else "lookup", about, _WEIGHTS.get(path, 1))

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        used = {"X-MBX-USED-WEIGHT": str(ask.used), "X-MBX-USED-WEIGHT-1M": str(ask.used)}
        try:
            if method != "GET" or ask.path != _KLINES:
                return Answer(404, {"code": -1000, "msg": "Not found."}, used)
            return Answer(200, _klines(ask), used)
        except Refused as refused:
            return replace(refused.answer, headers=used)

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        code = _CODES.get(status, -1000)
        return _refusal(status, code)

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days or weeks, and days for anything shorter."""
        longer = "1d" if ask.query.get("interval") in _LENGTHS else "1M"
        return replace(ask, query={**ask.query, "interval": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # lists are klines
        """Return the klines of a body."""
        return body if isinstance(body, list) else []

    def with_rows(self, body: Any, rows: list[Any]) -> Any:  # noqa: ARG002  # rows are all of it
        """Return a body with other klines."""
        return rows

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a kline."""
        at_ms: int = row[0]
        return at_ms

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a kline with other values, as text where the wire has texts; it keeps its length.

        A vwap becomes the money that was paid.
        """
        edited = list(row)
        for letter, value in values.items():
            if letter == "vw":
                edited[7] = _text(value * float(edited[5]))
            elif letter in "tn":
                edited[_PLACES[letter]] = value
            else:
                edited[_PLACES[letter]] = _text(value) if isinstance(value, float) else value
        edited[6] = edited[0] + row[6] - row[0]
        return edited

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'^(\[\[\d+,(?:"[^"]*",){3})"[^"]*"', rb"\1NaN", data, count=1)


def _klines(ask: Ask) -> list[_Row]:
    ticker, interval = f"X:{_sent(ask, 'symbol')}", _sent(ask, "interval")
    grid = _grid(interval)
    if ticker not in ask.market.tickers or not ticker.endswith(_QUOTE):
        raise Refused(_refusal(400, -1121))
    limit = min(_number(ask, "limit", _DEFAULT), _MOST)
    bounds_ms = _number(ask, "startTime", 0), _number(ask, "endTime", ask.there_until_ms(ticker))
    bars = limited_bars(
        ask,
        ticker,
        grid,
        bounds_ms,
        limit,
        oldest_first="startTime" in ask.query,
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


def _rows(bars: Bars, ends_ms: IntColumn) -> list[_Row]:
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [
        [
            at_ms,
            *map(_text, values),
            end_ms - 1,
            _text(quote := vwap * values[4]),
            count,
            _text(values[4] / 2),
            _text(quote / 2),
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


def _text(value: float) -> str:
    return f"{value:.8f}"


def _grid(interval: str) -> Grid:
    zone = sessions_of("crypto").zone
    if interval in _LENGTHS:
        return Grid(zone, "intraday", _LENGTHS[interval])
    match interval:
        case "1d":
            return Grid(zone, "day")
        case "1w":
            return Grid(zone, "week", week_starts=MONDAY)
        case "1M":
            return Grid(zone, "month")
    raise Refused(_refusal(400, -1120))


def _sent(ask: Ask, name: str) -> str:
    if not ask.query.get(name):
        raise Refused(_refusal(400, -1102))
    return ask.query[name]


def _number(ask: Ask, name: str, default: int) -> int:
    text = ask.query.get(name, str(default))
    if not text.isdecimal():
        raise Refused(_refusal(400, -1100))
    return int(text)


def _refusal(status: int, code: int) -> Answer:
    unknown = "An unknown error occurred while processing the request."
    return Answer(status, {"code": code, "msg": _SAID.get(code, unknown)})
