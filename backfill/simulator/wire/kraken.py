"""Kraken's wire: the newest 720 bars of a pair, the forming one last; refusals with status 200."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, isnan
from typing import Any, Final

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import DAY_MS, MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Refused, Seen
from backfill.simulator.wire.pairs import edited_row, pair_bars, pairs_of, with_fillers

_OHLC: Final = "/0/public/OHLC"
_INTERVALS: Final = (1, 5, 15, 30, 60, 240, 1440)
_MONTH: Final = 30 * 1440
"""What stands for a month, which only a fault asks for."""
_NEWEST: Final = 720
_BEFORE_MS: Final = 3 * DAY_MS
"""So far back is looked for the price at which a silence begins."""
_CODES: Final = {"BTC": "XBT"}
_OLD: Final = frozenset({"XBT", "ETH"})
"""Coins whose pairs in dollars have names of the time when X stood for a coin and Z for money."""
_PLACES: Final = {"t": 0, "o": 1, "h": 2, "l": 3, "c": 4, "vw": 5, "v": 6, "n": 7}
_SAID: Final = {429: "EGeneral:Too many requests", 404: "EGeneral:Unknown method"}


class KrakenWire(Public):
    """The protocol of ``kraken``: its refusals are told in the body alone."""

    name = "kraken"
    lies: Mapping[str, Lie] = {
        "wrong_ticker": lambda _, body: {**body, "result": {"OTHERUSD": _listed(body), "last": 0}},
    }

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the pairs of the market."""
        return tuple(ticker for ticker, _, _ in pairs_of(market))

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        about = (f"X:{query['pair'].replace('XBT', 'BTC')}",) if "pair" in query else ()
        return Seen("bars" if path == _OHLC else "lookup", about)

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        if method != "GET" or ask.path != _OHLC:
            return _refusal(_SAID[404])
        try:
            return Answer(200, {"error": [], "result": _ohlc(ask)})
        except Refused as refused:
            return refused.answer

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words; a fault of its own has a status of its own."""
        said = _refusal(_SAID.get(status, "EGeneral:Internal error"))
        return said if status in _SAID else replace(said, status=status)

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days, and days for anything shorter."""
        longer = _MONTH if ask.query.get("interval") == "1440" else 1440
        return replace(ask, query={**ask.query, "interval": str(longer)})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # told by the body
        """Return the bars of a body."""
        return _listed(body)

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other bars."""
        result = {name: value if name == "last" else rows for name, value in body["result"].items()}
        return {**body, "result": result}

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a bar."""
        at_s: int = row[0]
        return at_s * 1000

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values, as text where the wire has texts."""
        texts = {
            letter: repr(value) if isinstance(value, float) else value
            for letter, value in values.items()
        }
        return edited_row(row, texts, _PLACES)

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'(\[\[\d+,(?:"[^"]*",){3})"[^"]*"', rb"\1NaN", data, count=1)


def _listed(body: Any) -> list[Any]:
    result = body.get("result", {})
    return next((rows for name, rows in result.items() if name != "last"), [])


def _ohlc(ask: Ask) -> dict[str, Any]:
    names = _names(ask.market)
    asked = ask.query.get("pair", "").replace("/", "")
    if asked not in names:
        raise Refused(_refusal("EQuery:Unknown asset pair"))
    ticker, name = names[asked]
    interval, since = ask.query.get("interval", "1"), ask.query.get("since", "0")
    if not (interval.isdecimal() and since.isdecimal()):
        raise Refused(_refusal("EGeneral:Invalid arguments"))
    if int(interval) not in {*_INTERVALS, _MONTH}:
        raise Refused(_refusal("EGeneral:Invalid arguments"))
    bars = _newest(ask, ticker, int(interval) * MINUTE_MS)
    # Whatever it is asked for since, the last bar is there.
    wanted = (bars.ts_ms >= int(since) * 1000) | (bars.ts_ms == bars.ts_ms.max(initial=0))
    rows = _rows(bars.take(wanted))
    committed = rows[-2:-1] or rows
    return {name: rows, "last": committed[0][0] if committed else 0}


def _newest(ask: Ask, ticker: str, step_ms: int) -> Bars:
    """Return the newest bars of a pair, fillers and the forming one among them."""
    forming_ms = ask.now_ms // step_ms * step_ms
    first_ms = forming_ms - (_NEWEST - 1) * step_ms
    before_ms = max(_BEFORE_MS, step_ms)
    bars = pair_bars(ask, ticker, step_ms, first_ms - before_ms, forming_ms + step_ms)
    if step_ms <= DAY_MS:
        bars = with_fillers(bars, step_ms, forming_ms + step_ms)
    return bars.take(bars.ts_ms >= first_ms)


def _names(market: Market) -> dict[str, tuple[str, str]]:
    """Every name that a pair may be asked for by: what the market calls it, and its own name."""
    found: dict[str, tuple[str, str]] = {}
    for ticker, coin, money in pairs_of(market):
        code = _CODES.get(coin, coin)
        name = f"X{code}Z{money}" if code in _OLD and money == "USD" else f"{code}{money}"
        found |= dict.fromkeys((name, f"{code}{money}", f"{coin}{money}"), (ticker, name))
    return found


def _rows(bars: Bars) -> list[list[Any]]:
    prices = (bars.open, bars.high, bars.low, bars.close, bars.vwap, bars.volume)
    return [
        [
            at_ms // 1000,
            *map(repr, values[:4]),
            repr(values[3] if isnan(values[4]) else values[4]),
            repr(values[5]),
            ceil(values[5]) if count == NO_COUNT else count,
        ]
        for at_ms, values, count in zip(
            bars.ts_ms.tolist(),
            zip(*(column.tolist() for column in prices), strict=True),
            bars.trade_count.tolist(),
            strict=True,
        )
    ]


def _refusal(said: str) -> Answer:
    return Answer(200, {"error": [said]})
