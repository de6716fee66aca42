"""Coinbase Exchange's wire: candles of products, at most 300 a call, newest first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from backfill.core.bars import Bars
from backfill.simulator.market.market import Market
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Refused, Seen
from backfill.simulator.wire.pairs import edited_row, pair_bars, pairs_of

_CANDLES: Final = re.compile(r"/products/([^/]+)/candles")
_LENGTHS_S: Final = (60, 300, 900, 3600, 21600, 86400)
_MONTH_S: Final = 30 * 86400
"""What stands for a month, which only a fault asks for."""
_MOST: Final = 300
_PLACES: Final = {"t": 0, "l": 1, "h": 2, "o": 3, "c": 4, "v": 5}
_SAID: Final = {404: "NotFound", 429: "Public rate limit exceeded"}


class CoinbaseWire(Public):
    """The protocol of ``coinbase``: its candles name no product and no adjustment."""

    name = "coinbase"
    lies: Mapping[str, Lie] = {}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the pairs of the market."""
        return tuple(ticker for ticker, _, _ in pairs_of(market))

    def see(self, path: str, query: Mapping[str, str]) -> Seen:  # noqa: ARG002  # all is in the path
        """Return what a call is."""
        match = _CANDLES.fullmatch(path)
        about = (f"X:{match[1].replace('-', '')}",) if match else ()
        return Seen("bars" if match else "lookup", about)

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        match = _CANDLES.fullmatch(ask.path)
        if method != "GET" or match is None:
            return _refusal(404, "Route not found")
        try:
            return Answer(200, _candles(ask, match[1]))
        except Refused as refused:
            return refused.answer

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        return _refusal(status, _SAID.get(status, "Internal server error"))

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days, and days for anything shorter."""
        longer = _MONTH_S if ask.query.get("granularity") == "86400" else 86400
        return replace(ask, query={**ask.query, "granularity": str(longer)})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # lists are candles
        """Return the candles of a body."""
        return body if isinstance(body, list) else []

    def with_rows(self, body: Any, rows: list[Any]) -> Any:  # noqa: ARG002  # rows are all of it
        """Return a body with other candles."""
        return rows

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a candle."""
        at_s: int = row[0]
        return at_s * 1000

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a candle with other values; it has no vwap and no count."""
        return edited_row(row, values, _PLACES)

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb"^(\[\[(?:[^,\]]+,){4})[^,\]]+", rb"\1NaN", data, count=1)


def _candles(ask: Ask, product: str) -> list[list[Any]]:
    products = {f"{coin}-{money}": ticker for ticker, coin, money in pairs_of(ask.market)}
    if product not in products:
        raise Refused(_refusal(404, "NotFound"))
    length_s = ask.query.get("granularity", "60")
    if not length_s.isdecimal() or int(length_s) not in {*_LENGTHS_S, _MONTH_S}:
        raise Refused(_refusal(400, "Unsupported granularity"))
    step_ms = int(length_s) * 1000
    last_ms = ask.now_ms
    first_ms = last_ms - (_MOST - 1) * step_ms
    if {"start", "end"} <= ask.query.keys():  # one of them alone counts for nothing
        first_ms, last_ms = (_instant_ms(ask.query[name]) for name in ("start", "end"))
    # Both bounds count: what is a candle more than the most was measured to be served.
    if (last_ms - first_ms) // step_ms > _MOST:
        raise Refused(
            _refusal(
                400,
                "granularity too small for the requested time range. Count of aggregations "
                f"requested exceeds {_MOST}",
            )
        )
    start_ms = -(-first_ms // step_ms) * step_ms
    bars = pair_bars(
        ask, products[product], step_ms, start_ms, last_ms // step_ms * step_ms + step_ms
    )
    return _rows(bars)[::-1]


def _rows(bars: Bars) -> list[list[Any]]:
    columns = (bars.low, bars.high, bars.open, bars.close, bars.volume)
    return [
        [at_ms // 1000, *map(_number, values)]
        for at_ms, values in zip(
            bars.ts_ms.tolist(),
            zip(*(column.tolist() for column in columns), strict=True),
            strict=True,
        )
    ]


def _number(value: float) -> float | int:
    """Whole numbers come without a fraction."""
    return int(value) if value.is_integer() else value


def _instant_ms(text: str) -> int:
    if text.isdecimal():
        return int(text) * 1000
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise Refused(_refusal(400, "Invalid start or end")) from None


def _refusal(status: int, message: str) -> Answer:
    return Answer(status, {"message": message})
