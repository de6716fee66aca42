"""Alpaca's wire: bars of stocks and coins by symbol, tokens, assets, and refusals by words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from math import isnan
from typing import Any, Final

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import MINUTE_MS
from backfill.simulator.market.listings import Tenure
from backfill.simulator.market.market import Market
from backfill.simulator.market.prices import roll_up
from backfill.simulator.market.sessions import Grid, Zone, sessions_of
from backfill.simulator.wire.alpaca_query import (
    MOST,
    feed_of,
    grid_of,
    instant_of,
    limit_of,
    refusal_of,
    resumed_at,
    sent,
    token_of,
)
from backfill.simulator.wire.base import Answer, Ask, Lie, Refused, Seen, epoch_ms
from backfill.simulator.wire.shares import shares_of

_STOCKS: Final = "/v2/stocks/bars"
_COINS: Final = "/v1beta3/crypto/us/bars"
_ASSETS: Final = "/v2/assets/"
_STOCKS_A_PAGE: Final = MOST
_COINS_A_PAGE: Final = 170
"""So many bars of coins come at most, whatever is asked for."""
_HELD_BACK_MS: Final = 15 * MINUTE_MS
_DELAYED: Final = frozenset({"sip", "boats"})
_HOURS: Final = {"iex": (8, 17), "boats": (20, 4)}
_IEX_SHARE: Final = 32
"""One share in so many is traded there; a power of two, so that sums of parts stay exact."""

_WORDS: Final = {
    401: "unauthorized.",
    403: "forbidden.",
    404: "Not Found",
    429: "too many requests.",
}
_RECENT: Final = "subscription does not permit querying recent {} data"
_Row = dict[str, Any]


class AlpacaWire:
    """The protocol of ``alpaca``: one host plays both that of the data and that of trading.

    It serves every feed by its name, whichever provider it is simulated for.
    """

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
        return refusal_of(status, _WORDS.get(status, "internal server error occurred"))

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


class AlpacaIexWire(AlpacaWire):
    """The same for ``alpaca-iex``, which has stocks alone."""

    name = "alpaca-iex"

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the stocks."""
        return shares_of(market)


class AlpacaBoatsWire(AlpacaIexWire):
    """The same for ``alpaca-boats``, which has minutes and hours alone."""

    name = "alpaca-boats"

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for hours: it has no days."""
        return replace(ask, query={**ask.query, "timeframe": "1Hour"})


def _traded_on(feed: str, base: Bars, *, daily: bool) -> Bars:
    """Return what of minutes or days a feed has: IEX a part of the volume, in its hours."""
    if feed in _HOURS and not daily:
        base = base.take(sessions_of("stocks").is_within(base.ts_ms, *_HOURS[feed]))
    return replace(base, volume=base.volume / _IEX_SHARE) if feed == "iex" else base


def _rows(body: Any) -> list[Any]:
    return [row for rows in body.get("bars", {}).values() for row in rows]


def _page(ask: Ask) -> dict[str, Any]:
    """Answer for bars: those of one symbol after the other, as many in all as a page holds."""
    is_coins = ask.path == _COINS
    zone = sessions_of("crypto" if is_coins else "stocks").zone
    symbols = sorted(sent(ask, "symbols").split(","))
    grid, newest_first = grid_of(ask, zone), ask.query.get("sort", "asc") == "desc"
    start_ms = instant_of(ask, "start", 0)
    feed = "" if is_coins else feed_of(ask)
    held_back_ms = _HELD_BACK_MS if ask.plan == "free" and feed in _DELAYED else 0
    end_ms = instant_of(ask, "end", ask.now_ms - held_back_ms)
    is_early = feed in _DELAYED and end_ms > ask.now_ms - held_back_ms
    if is_early or (feed == "boats" and grid.unit != "intraday"):
        raise Refused(refusal_of(403, _RECENT.format(feed.upper())))
    room = min(limit_of(ask), _COINS_A_PAGE if is_coins else _STOCKS_A_PAGE)
    resumed = resumed_at(ask)
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
            return {"bars": bars, "next_page_token": token_of(symbol, edge)}
        room -= len(found)
    return {"bars": bars, "next_page_token": None}


def _bars(ask: Ask, symbol: str, grid: Grid, first_ms: int, last_ms: int) -> Bars:
    """Return the bars that start between two instants, both inclusive, oldest first."""
    ticker = _ticker(symbol)
    is_coin = "/" in symbol
    if is_coin != (ask.path == _COINS) or (is_coin and ticker not in ask.market.tickers):
        raise Refused(refusal_of(400, f"invalid symbol: {symbol}"))
    zone, there_ms = grid.zone, ask.there_until_ms(ticker)
    first_ms, last_ms = zone.clamp(first_ms), zone.clamp(min(last_ms, there_ms - 1))
    if last_ms < first_ms:
        return Bars.empty()
    start_ms, end_ms = grid.snap(first_ms, last_ms)
    parts, daily = [], grid.unit != "intraday"
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
                    daily=daily,
                    adjusted=ask.query.get("adjustment", "raw") == "split",
                    now_ms=there_ms,
                )
            ]
    base = Bars.concat(parts)
    if not is_coin:
        base = _traded_on(feed_of(ask), base, daily=daily)
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
        raise Refused(refusal_of(404, f"asset not found for {symbol}", code=40410000))
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
