"""Twelve Data's wire: series in texts, newest or oldest first, credits, refusals inside a 200."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from backfill.core.bars import Bars, IntColumn
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS
from backfill.simulator.market.listings import LISTINGS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Refused, Seen
from backfill.simulator.wire.pairs import pair_bars
from backfill.simulator.wire.shares import share_bars

_SERIES: Final = "/time_series"
_LENGTHS: Final = {
    "1min": MINUTE_MS,
    "5min": 5 * MINUTE_MS,
    "15min": 15 * MINUTE_MS,
    "30min": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
}
_UNITS: Final = {"1day": "day", "1week": "week", "1month": "month"}
_OPENS_MS: Final = 9 * HOUR_MS + 30 * MINUTE_MS
_MOST: Final = 5_000
_DEFAULT: Final = 30
_NAMES: Final = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
_ZONE: Final = "zone"
"""Under this name a row carries its clock while a fault is at it."""
_SAID: Final = {
    400: "No data is available on the specified dates. Try setting different start/end dates.",
    401: "**apikey** parameter is incorrect or not specified.",
    403: "/time_series is available exclusively with grow or pro or ultra or enterprise plans",
    404: "**symbol** or **figi** parameter is missing or invalid.",
    429: "You have run out of API credits for the current minute.",
}


@dataclass(frozen=True, eq=False, slots=True)
class _FromTheOpen(Grid):
    """Hours of stocks, which are counted from the open."""

    def floor(self, ts_ms: IntColumn) -> IntColumn:
        opens = self.zone.midnights(self.zone.ordinals(ts_ms)) + _OPENS_MS
        starts: IntColumn = opens + (ts_ms - opens) // self.length_ms * self.length_ms
        return starts


class TwelveDataWire:
    """The protocol of ``twelvedata``: a call about n symbols takes n credits."""

    name = "twelvedata"
    lies: Mapping[str, Lie] = {
        "wrong_ticker": lambda _, body: body | {"meta": body["meta"] | {"symbol": "OTHER"}}
    }

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return all of the market."""
        return market.tickers

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:
        """Take the key out of a call: it may stand in the query, too."""
        return query.pop("apikey", "") or headers.get("Authorization", "").removeprefix("apikey ")

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        symbols = query.get("symbol", "").split(",")
        about = tuple(map(_ticker, filter(None, symbols)))
        return Seen("bars" if path == _SERIES else "lookup", about, max(len(symbols), 1))

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose key is right and whose turn it is; errors have the status 200."""
        symbols = ask.query.get("symbol", "").split(",")
        if method != "GET" or ask.path != _SERIES:
            return _refusal(404, 404)
        bodies = {symbol: _series(ask, symbol) for symbol in symbols}
        return Answer(200, bodies if len(symbols) > 1 else bodies[symbols[0]])

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        return _refusal(status, status)

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months in the place of days, and for days in that of minutes."""
        longer = "1day" if ask.query.get("interval") in _LENGTHS else "1month"
        return replace(ask, query={**ask.query, "interval": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:
        """Return the bars of a series, each with its clock."""
        symbol = ask.query.get("symbol", "")
        zone = _zone(ask, _ticker(symbol))
        return [row | {_ZONE: zone} for row in body.get("values", [])]

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a series with other bars."""
        told = [{name: value for name, value in row.items() if name != _ZONE} for row in rows]
        return body | {"values": told}

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a bar."""
        at = datetime.fromisoformat(row["datetime"]).replace(tzinfo=row[_ZONE])
        return round(at.timestamp() * 1000)

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values; it has no vwap and no count."""
        told = {_NAMES[one]: str(value) for one, value in values.items() if one in _NAMES}
        if "t" in values:
            told["datetime"] = _told(values["t"], row[_ZONE], daily=":" not in row["datetime"])
        return row | told

    def is_of(self, row: Any, ticker: str) -> bool:  # noqa: ARG002  # bars don't say
        """Bars don't say whose they are; their series does."""
        return False

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"close":"[^"]*"', b'"close":NaN', data, count=1)


def _series(ask: Ask, symbol: str) -> dict[str, Any]:
    """Return the series of a symbol, or the error in its place."""
    ticker, interval = _ticker(symbol), ask.query.get("interval", "")
    if ticker not in ask.market.tickers:
        return _body(404)
    zone = _zone(ask, ticker)
    try:
        bars = _bars(ask, ticker, interval, zone)
    except Refused as refused:
        return refused.answer.body  # type: ignore[no-any-return]  # one of this wire's own
    if not len(bars):
        return _body(400)
    if ask.query.get("order", "desc") == "desc":
        bars = bars.take(slice(None, None, -1))
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    values = [
        {
            "datetime": _told(ts_ms, zone, daily=interval in _UNITS),
            **dict(zip(_NAMES.values(), map(str, row), strict=True)),
        }
        for ts_ms, *row in zip(bars.ts_ms.tolist(), *(one.tolist() for one in columns), strict=True)
    ]
    if ticker.startswith("C:"):
        values = [{name: row[name] for name in row if name != "volume"} for row in values]
    return {"meta": _meta(symbol, ticker, interval), "values": values, "status": "ok"}


def _bars(ask: Ask, ticker: str, interval: str, zone: ZoneInfo) -> Bars:
    """Return the newest of the bars that start from one instant on to before another."""
    length_ms = _LENGTHS.get(interval)
    if length_ms is None and interval not in _UNITS:
        raise Refused(Answer(200, _body(400, "Invalid **interval** provided")))
    now_ms = ask.there_until_ms(ticker)
    clock = sessions_of("crypto" if ":" in ticker else "stocks").zone
    start_ms = clock.clamp(_instant(ask.query.get("start_date"), zone, 0))
    end_ms = clock.clamp(_instant(ask.query.get("end_date"), zone, now_ms))
    if ":" in ticker:
        unit_ms = length_ms or (DAY_MS if interval == "1day" else 31 * DAY_MS)
        if length_ms:
            # Bars that start before the end are whole in the answer.
            start_ms, end_ms = (-(-at // unit_ms) * unit_ms for at in (start_ms, end_ms))
        bars = pair_bars(ask, ticker, unit_ms, start_ms, end_ms)
    else:
        grid = _grid(interval)
        start_ms, end_ms = (int(grid.floor(np.array([at - 1]))[0]) for at in (start_ms, end_ms))
        start_ms, end_ms = (int(grid.ends(np.array([at]))[0]) for at in (start_ms, end_ms))
        adjusted = interval in _UNITS and ask.query.get("adjust", "splits") == "splits"
        bars = share_bars(ask, ticker, grid, start_ms, end_ms, adjusted=adjusted, regular=True)
    limit = int(ask.query.get("outputsize", _DEFAULT if "start_date" not in ask.query else _MOST))
    return bars.take(slice(max(len(bars) - min(limit, _MOST), 0), None))


def _grid(interval: str) -> Grid:
    zone = sessions_of("stocks").zone
    if interval in _UNITS:
        return Grid(zone, _UNITS[interval])  # type: ignore[arg-type]  # the three are its own
    length_ms = _LENGTHS[interval]
    made = _FromTheOpen if length_ms >= HOUR_MS else Grid
    return made(zone, "intraday", length_ms)


def _meta(symbol: str, ticker: str, interval: str) -> dict[str, Any]:
    meta = {"symbol": symbol, "interval": interval}
    if ":" not in ticker:
        exchange = {"currency": "USD", "exchange_timezone": "America/New_York"}
        return meta | exchange | {"exchange": "NASDAQ", "mic_code": "XNGS", "type": "Common Stock"}
    base, quote = symbol.split("/")
    kind = "Physical Currency" if ticker.startswith("C:") else "Digital Currency"
    return meta | {"currency_base": base, "currency_quote": quote, "type": kind}


def _ticker(symbol: str) -> str:
    """Return what the market calls a symbol: ``EUR/USD`` is C:EURUSD there."""
    if "/" not in symbol:
        return symbol
    word = symbol.replace("/", "")
    return f"C:{word}" if f"C:{word}" in LISTINGS else f"X:{word}"


def _zone(ask: Ask, ticker: str) -> ZoneInfo:
    """Return the clock by which bars are told and dates read."""
    own = "UTC" if ":" in ticker else "America/New_York"
    named = ask.query.get("timezone", "Exchange")
    return ZoneInfo(own if named == "Exchange" else named)


def _instant(text: str | None, zone: ZoneInfo, otherwise_ms: int) -> int:
    if text is None:
        return otherwise_ms
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(Answer(200, _body(400, "Invalid **start_date** provided"))) from None
    return round(at.replace(tzinfo=zone).timestamp() * 1000)


def _told(ts_ms: int, zone: ZoneInfo, *, daily: bool) -> str:
    """Return a stamp as text; one of no year that a calendar has as the number that it is."""
    try:
        at = datetime.fromtimestamp(ts_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(ts_ms)
    return at.astimezone(zone).strftime("%Y-%m-%d" if daily else "%Y-%m-%d %H:%M:%S")


def _body(code: int, message: str = "") -> dict[str, Any]:
    return {"code": code, "message": message or _SAID.get(code, "Error."), "status": "error"}


def _refusal(status: int, code: int) -> Answer:
    return Answer(status, _body(code))
