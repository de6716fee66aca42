"""Alpaca's wire: bars of stocks and coins by symbol, tokens, assets, and refusals by words."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from math import isnan
from typing import Any, Final

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.listings import Tenure
from backfill.simulator.market.market import Market
from backfill.simulator.market.prices import roll_up
from backfill.simulator.market.sessions import MONDAY, Grid, Zone, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Refused, Seen, epoch_ms

_STOCKS: Final = "/v2/stocks/bars"
_COINS: Final = "/v1beta3/crypto/us/bars"
_ASSETS: Final = "/v2/assets/"
_MOST: Final = 10_000
_DEFAULT: Final = 1000
_COINS_A_PAGE: Final = 170
"""So many bars of coins come at most, whatever is asked for."""
_HELD_BACK_MS: Final = 15 * MINUTE_MS

_WORDS: Final = {
    401: "unauthorized.",
    403: "forbidden.",
    404: "Not Found",
    429: "too many requests.",
}
_RECENT: Final = "subscription does not permit querying recent SIP data"
_FRAME: Final = re.compile(r"(\d+)(Min|Hour|Day|Week|Month)")
_Row = dict[str, Any]


class AlpacaWire:
    """The protocol of ``alpaca``: one host plays both that of the data and that of trading."""

    name = "alpaca"
    lies: Mapping[str, Lie] = {
        "wrong_ticker": lambda _, body: body | {"bars": {"OTHER": _rows(body)}},
    }

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the stocks, and the coins in dollars and in Tether."""
        return tuple(one for one in market.tickers if not one.startswith("C:"))

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:  # noqa: ARG002
        """Take the key out of a call; its id and its secret are one text here."""
        key, secret = headers.get("APCA-API-KEY-ID", ""), headers.get("APCA-API-SECRET-KEY", "")
        return key if key == secret else ""

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        if path in {_STOCKS, _COINS}:
            symbols = query.get("symbols", "").split(",")
            return Seen("bars", tuple(_ticker(one) for one in symbols))
        return Seen("lookup", (_ticker(path.removeprefix(_ASSETS)),))

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        try:
            if method == "GET" and ask.path in {_STOCKS, _COINS}:
                return Answer(200, _page(ask))
            if method == "GET" and ask.path.startswith(_ASSETS):
                return Answer(200, _asset(ask))
        except Refused as refused:
            return refused.answer
        return self.refusal(404, ask)

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        return _refusal(status, _WORDS.get(status, "internal server error occurred"))

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days or weeks, and days for anything shorter."""
        frame = ask.query.get("timeframe", "")
        longer = "1Day" if frame.endswith(("Min", "Hour")) else "1Month"
        return replace(ask, query={**ask.query, "timeframe": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # the body tells
        """Return the bars of a body that is of one symbol."""
        return _rows(body)

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other bars of its symbol."""
        return body | {"bars": dict.fromkeys(body["bars"], rows) if rows else {}}

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a bar."""
        return int(np.datetime64(row["t"].removesuffix("Z"), "ms").astype(np.int64))

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values; the letters are the wire's own."""
        stamp = {"t": _iso(values["t"])} if "t" in values else {}
        return row | dict(values) | stamp

    def is_of(self, row: Any, ticker: str) -> bool:  # noqa: ARG002  # bars don't say
        """Bars stand under their symbol, and don't say it themselves."""
        return False

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"c":[^,}]+', b'"c":NaN', data, count=1)


def _rows(body: Any) -> list[Any]:
    return [row for rows in body.get("bars", {}).values() for row in rows]


def _page(ask: Ask) -> dict[str, Any]:
    """Answer for bars: those of one symbol after the other, as many in all as a page holds."""
    is_coins = ask.path == _COINS
    zone = sessions_of("crypto" if is_coins else "stocks").zone
    symbols = sorted(_sent(ask, "symbols").split(","))
    grid, newest_first = _grid(ask, zone), ask.query.get("sort", "asc") == "desc"
    start_ms = _instant(ask, "start", 0)
    end_ms = _instant(ask, "end", ask.now_ms - (0 if is_coins else _held_back_ms(ask)))
    if not is_coins and end_ms > ask.now_ms - _held_back_ms(ask):
        raise Refused(_refusal(403, _RECENT))
    room = min(_limit(ask), _COINS_A_PAGE if is_coins else _MOST)
    resumed = _resumed(ask)
    bars: dict[str, list[_Row]] = {}
    for symbol in symbols:
        first_ms, last_ms = start_ms, end_ms
        if resumed is not None and symbol < resumed[0]:
            continue
        if resumed is not None and symbol == resumed[0]:
            edge_ms = resumed[1]
            first_ms, last_ms = (start_ms, edge_ms - 1) if newest_first else (edge_ms + 1, end_ms)
        found = _bars(ask, symbol, grid, first_ms, last_ms)
        if newest_first:
            found = found.take(slice(None, None, -1))
        if len(found) and room:
            bars[symbol] = _wire_bars(found.take(slice(room)))
        if len(found) > room:
            none = last_ms + 1 if newest_first else first_ms - 1
            edge = int(found.ts_ms[room - 1]) if room else none
            return {"bars": bars, "next_page_token": _token(symbol, edge)}
        room -= len(found)
    return {"bars": bars, "next_page_token": None}


def _bars(ask: Ask, symbol: str, grid: Grid, first_ms: int, last_ms: int) -> Bars:
    """Return the bars that start between two instants, both inclusive, oldest first."""
    ticker = _ticker(symbol)
    is_coin = "/" in symbol
    if is_coin != (ask.path == _COINS) or (is_coin and ticker not in ask.market.tickers):
        raise Refused(_refusal(400, f"invalid symbol: {symbol}"))
    zone, there_ms = grid.zone, ask.there_until_ms(ticker)
    first_ms, last_ms = zone.clamp(first_ms), zone.clamp(min(last_ms, there_ms - 1))
    if last_ms < first_ms:
        return Bars.empty()
    start_ms, end_ms = grid.snap(first_ms, last_ms)
    parts = []
    for tenure in _tenures(ask, ticker, zone):
        since_ms = max(start_ms, zone.midnight(tenure.since))
        until_ms = min(end_ms, zone.midnight(tenure.until))
        if since_ms < until_ms:
            parts += [
                ask.served(ticker, base)
                for base in ask.market.base(
                    tenure.company,
                    since_ms,
                    until_ms,
                    daily=grid.unit != "intraday",
                    adjusted=ask.query.get("adjustment", "raw") == "split",
                    now_ms=there_ms,
                )
            ]
    base = Bars.concat(parts)
    bars = roll_up(base, grid.floor(base.ts_ms))[0]
    return bars.take((bars.ts_ms >= first_ms) & (bars.ts_ms <= last_ms))


def _tenures(ask: Ask, ticker: str, zone: Zone) -> list[Tenure]:
    """Return under which names, and when, the company traded that had a ticker on a day."""
    as_of = ask.query.get("asof")
    day = date.fromisoformat(as_of) if as_of else zone.day_of(ask.now_ms)
    owner = ask.market.owner(ticker, day)
    if owner is None:
        return []
    return [
        tenure
        for name, _ in ask.market.names(owner.ticker, day)
        for tenure in ask.market.tenures(name)
        if tenure.company == owner.ticker
    ][::-1]


def _asset(ask: Ask) -> dict[str, Any]:
    symbol = ask.path.removeprefix(_ASSETS)
    ticker = _ticker(symbol)
    tenures = ask.market.tenures(ticker)
    if not tenures or ticker.startswith("X:") != ("/" in symbol):
        raise Refused(_refusal(404, f"asset not found for {symbol}", code=40410000))
    listing = ask.market.listing(tenures[-1].company)
    gone = (
        listing.delisted_on is not None
        and epoch_ms(datetime.combine(listing.delisted_on, datetime.min.time())) < ask.now_ms
    )
    return {
        "class": "crypto" if listing.market == "crypto" else "us_equity",
        "symbol": symbol,
        "name": listing.name,
        "status": "inactive" if gone else "active",
    }


def _wire_bars(bars: Bars) -> list[_Row]:
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [
        {"t": _iso(at_ms), "o": o, "h": h, "l": low, "c": c, "v": v}
        | ({} if count == NO_COUNT else {"n": count})
        | ({} if isnan(vwap) else {"vw": vwap})
        for at_ms, (o, h, low, c, v), count, vwap in zip(
            bars.ts_ms.tolist(),
            zip(*(column.tolist() for column in columns), strict=True),
            bars.trade_count.tolist(),
            bars.vwap.tolist(),
            strict=True,
        )
    ]


def _iso(at_ms: int) -> str:
    """Return RFC 3339, to the second where nothing is lost by that, of any year."""
    unit = "ms" if at_ms % 1000 else "s"
    return f"{np.datetime64(at_ms, 'ms').astype(f'M8[{unit}]')}Z"


def _ticker(symbol: str) -> str:
    """Return what the market calls a symbol: ``BTC/USD`` is X:BTCUSD there."""
    return f"X:{symbol.replace('/', '')}" if "/" in symbol else symbol


def _token(symbol: str, edge_ms: int) -> str:
    """Return a token as the service's are; that of one who reads backwards hides its time."""
    return base64.b64encode(f"{symbol}|M|{edge_ms}".encode()).decode()


def _resumed(ask: Ask) -> tuple[str, int] | None:
    token = ask.query.get("page_token")
    if not token:
        return None
    try:
        symbol, _, edge = base64.b64decode(token, validate=True).decode().split("|")
        return symbol, int(edge)
    except ValueError:
        raise Refused(_refusal(400, "invalid page_token")) from None


def _grid(ask: Ask, zone: Zone) -> Grid:
    match = _FRAME.fullmatch(_sent(ask, "timeframe"))
    number, unit = (int(match[1]), match[2]) if match else (0, "")
    if unit == "Min" and 1 <= number < 60 and 60 % number == 0:
        return Grid(zone, "intraday", number * MINUTE_MS)
    if unit == "Hour" and 1 <= number < 24 and 24 % number == 0:
        return Grid(zone, "intraday", number * HOUR_MS)
    if number == 1 and unit in {"Day", "Week", "Month"}:
        return Grid(zone, unit.lower(), week_starts=MONDAY)  # type: ignore[arg-type]  # narrowed
    raise Refused(_refusal(400, f"invalid timeframe: {ask.query['timeframe']}"))


def _held_back_ms(ask: Ask) -> int:
    return _HELD_BACK_MS if ask.plan == "free" else 0


def _instant(ask: Ask, name: str, default_ms: int) -> int:
    text = ask.query.get(name)
    if not text:
        return default_ms
    try:
        return epoch_ms(datetime.fromisoformat(text).astimezone(UTC))
    except ValueError:
        raise Refused(_refusal(400, f"invalid {name}: {text}")) from None


def _limit(ask: Ask) -> int:
    text = ask.query.get("limit", str(_DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise Refused(_refusal(400, f"invalid limit: {text}"))
    return int(text)


def _sent(ask: Ask, name: str) -> str:
    if not ask.query.get(name):
        raise Refused(_refusal(400, f"{name} is required"))
    return ask.query[name]


def _refusal(status: int, message: str, code: int | None = None) -> Answer:
    return Answer(status, ({} if code is None else {"code": code}) | {"message": message})
