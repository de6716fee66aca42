"""Bybit's wire: spot klines of the pairs in USDT, newest first; refusals with status 200."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from backfill.core.timeframe import MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import MONDAY, Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Seen
from backfill.simulator.wire.pairs import limited_bars, pairs_of

_KLINE: Final = "/v5/market/kline"
_QUOTE: Final = "USDT"
_MOST: Final = 1000
_DEFAULT: Final = 200
_MINUTES: Final = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")
_UNITS: Final = {"D": "day", "W": "week", "M": "month"}
_PLACES: Final = {"t": 0, "o": 1, "h": 2, "l": 3, "c": 4, "v": 5}
_TOO_MANY: Final = (10006, "Too many visits!")
_UNKNOWN: Final = (10001, "Not supported symbols")
_INVALID: Final = (10001, "params error: invalid parameter")


class BybitWire(Public):
    """The protocol of ``bybit``: its refusals are told in the body alone, but for the network's."""

    name = "bybit"
    lies: Mapping[str, Lie] = {
        "wrong_ticker": lambda _, body: {**body, "result": {**body["result"], "symbol": "OTHER"}},
    }

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the pairs in USDT."""
        return tuple(ticker for ticker, _, quote in pairs_of(market) if quote == _QUOTE)

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is: one that asks for a single kline looks up when a pair began."""
        is_bars = path == _KLINE and query.get("limit") != "1"
        about = (f"X:{query['symbol']}",) if "symbol" in query else ()
        return Seen("bars" if is_bars else "lookup", about)

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        symbol, interval = ask.query.get("symbol", ""), ask.query.get("interval", "")
        if method != "GET" or ask.path != _KLINE:
            return Answer(404, {"retCode": 404, "retMsg": "Not found", "result": {}})
        numbers = [ask.query.get(name, "0") for name in ("start", "end", "limit")]
        if ask.query.get("category") != "spot" or not all(map(str.isdecimal, numbers)):
            return _refusal(*_INVALID)
        if f"X:{symbol}" not in self.tickers(ask.market):
            return _refusal(*_UNKNOWN)
        if interval not in {*_MINUTES, *_UNITS}:
            return _refusal(*_INVALID)
        result = {"category": "spot", "symbol": symbol, "list": _klines(ask, symbol, interval)}
        return Answer(200, {"retCode": 0, "retMsg": "OK", "result": result})

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words; the network's have a status of their own."""
        if status == 429:
            return _refusal(*_TOO_MANY)
        return replace(_refusal(status, "Injected fault"), status=status)

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days or weeks, and days for anything shorter."""
        longer = "D" if ask.query.get("interval") in _MINUTES else "M"
        return replace(ask, query={**ask.query, "interval": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # told by the body
        """Return the klines of a body."""
        rows: Sequence[Any] = body["result"].get("list", [])
        return rows

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other klines."""
        return {**body, "result": {**body["result"], "list": rows}}

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a kline."""
        return int(row[0])

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a kline with other values, as texts; it has no count."""
        edited = list(row)
        for letter, value in values.items():
            if letter in _PLACES:
                edited[_PLACES[letter]] = str(value)
        return edited

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'(\[\[(?:"[^"]*",){4})"[^"]*"', rb"\1NaN", data, count=1)


def _klines(ask: Ask, symbol: str, interval: str) -> list[list[str]]:
    limit = min(int(ask.query.get("limit", _DEFAULT)), _MOST)
    ticker = f"X:{symbol}"
    until_ms = ask.there_until_ms(ticker)
    bounds_ms = int(ask.query.get("start", 0)), int(ask.query.get("end", until_ms))
    forward = "start" in ask.query and "end" not in ask.query
    bars = limited_bars(ask, ticker, _grid(interval), bounds_ms, limit, oldest_first=forward)
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.vwap * bars.volume)
    rows = zip(
        bars.ts_ms.tolist(),
        *([f"{value:.10f}" for value in column.tolist()] for column in columns),
        strict=True,
    )
    return [[str(at_ms), *values] for at_ms, *values in rows][::-1]


def _grid(interval: str) -> Grid:
    zone = sessions_of("crypto").zone
    if interval in _MINUTES:
        return Grid(zone, "intraday", int(interval) * MINUTE_MS)
    return Grid(zone, _UNITS[interval], week_starts=MONDAY)  # type: ignore[arg-type]  # of the table


def _refusal(code: int, said: str) -> Answer:
    return Answer(200, {"retCode": code, "retMsg": said, "result": {}, "retExtInfo": {}})
