"""Binance's wire: spot klines of the pairs in USDT, weights, and refusals by code."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from backfill.simulator.market.market import Market
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Refused, Seen
from backfill.simulator.wire.binance.files import (
    FOLDER,
    Archived,
    Checksum,
    about,
    archived,
    interval_of,
)
from backfill.simulator.wire.binance.klines import (
    INTERVALS,
    LENGTHS,
    QUOTE,
    Row,
    klines,
    text_of,
)
from backfill.simulator.wire.pairs import pairs_of

_KLINES: Final = "/api/v3/klines"
_WEIGHTS: Final = {_KLINES: 2, "/api/v3/exchangeInfo": 20}
_MOST: Final = 1000
_DEFAULT: Final = 500
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
_NO_FILE: Final = {"Code": "NoSuchKey", "Message": "The specified key does not exist."}
_CODES: Final = {429: -1003, 418: -1003, 451: 0}
_PLACES: Final = {"t": 0, "o": 1, "h": 2, "l": 3, "c": 4, "v": 5, "n": 8}


class BinanceWire(Public):
    """The protocol of ``binance``: its words name no symbol, no adjustment and no next page."""

    name = "binance"
    lies: Mapping[str, Lie] = {}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the pairs in USDT."""
        return tuple(ticker for ticker, _, quote in pairs_of(market) if quote == QUOTE)

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is: one that asks for a single kline looks up when a pair began."""
        if path.startswith(FOLDER):
            return Seen("bars", about(path), cost=0)
        is_bars = path == _KLINES and query.get("limit") != "1"
        asked = (f"X:{query['symbol']}",) if "symbol" in query else ()
        return Seen("bars" if is_bars else "lookup", asked, _WEIGHTS.get(path, 1))

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        if ask.path.startswith(FOLDER):
            file = archived(ask)
            return Answer(404, _NO_FILE) if file is None else Answer(200, file)
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
        interval = ask.query.get("interval") or interval_of(ask.path)
        longer = "1d" if interval in LENGTHS else "1M"
        return replace(ask, query={**ask.query, "interval": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # lists are klines
        """Return the klines of a body, or of a file."""
        if isinstance(body, Archived | Checksum):
            return body.rows
        return body if isinstance(body, list) else []

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other klines."""
        return body.with_rows(rows) if isinstance(body, Archived | Checksum) else rows

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
                edited[7] = text_of(value * float(edited[5]))
            elif letter in "tn":
                edited[_PLACES[letter]] = value
            else:
                edited[_PLACES[letter]] = text_of(value) if isinstance(value, float) else value
        edited[6] = edited[0] + row[6] - row[0]
        return edited

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'^(\[\[\d+,(?:"[^"]*",){3})"[^"]*"', rb"\1NaN", data, count=1)


def _klines(ask: Ask) -> list[Row]:
    ticker, interval = f"X:{_sent(ask, 'symbol')}", _sent(ask, "interval")
    if interval not in INTERVALS:
        raise Refused(_refusal(400, -1120))
    if ticker not in ask.market.tickers or not ticker.endswith(QUOTE):
        raise Refused(_refusal(400, -1121))
    limit = min(_number(ask, "limit", _DEFAULT), _MOST)
    bounds_ms = _number(ask, "startTime", 0), _number(ask, "endTime", ask.there_until_ms(ticker))
    oldest_first = "startTime" in ask.query
    return klines(ask, ticker, interval, bounds_ms, limit, oldest_first=oldest_first)


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
