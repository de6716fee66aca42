"""Yahoo's wire: charts as columns, days stamped with their open, hours outside sessions unasked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from typing import Any, Final

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Public, Refused, Seen, epoch_ms
from backfill.simulator.wire.pairs import edited_row
from backfill.simulator.wire.shares import share_bars, shares_of

_PATH: Final = re.compile(r"/v8/finance/chart/([^/]+)")
_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_LETTERS: Final = {letter: at for at, letter in enumerate("tohlcv")}
_LENGTHS: Final = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "60m": HOUR_MS,
}
_UNITS: Final = {"1d": "day", "1wk": "week", "1mo": "month"}
_REACH: Final = {"1m": 29, "5m": 59, "15m": 59, "60m": 729}
_A_CALL: Final = {"1m": 8}
"""Days: how far back bars go, and how many there are a call where these are fewer."""
_OPENS_MS: Final = 9 * HOUR_MS + 30 * MINUTE_MS
_SAID: Final = {
    400: ("Bad Request", "Data doesn't exist for startDate = {period1}, endDate = {period2}"),
    404: ("Not Found", "No data found, symbol may be delisted"),
    422: ("Unprocessable Entity", "{interval} data not available for startTime={period1}"),
    429: ("Too Many Requests", "Too Many Requests"),
}


class YahooWire(Public):
    """The protocol of ``yahoo``: a chart says whose it is, and how long its bars are."""

    name = "yahoo"
    lies: Mapping[str, Lie] = {"wrong_ticker": lambda _, body: _of_another(body)}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the stocks of the market."""
        return shares_of(market)

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        match = _PATH.fullmatch(path)
        about = (_ticker(match[1]),) if match else ()
        return Seen("bars" if "period1" in query else "lookup", about)

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose turn it is."""
        match = _PATH.fullmatch(ask.path)
        try:
            if method == "GET" and match and _ticker(match[1]) in self.tickers(ask.market):
                return Answer(200, _chart(ask, match[1]))
        except Refused as refused:
            return refused.answer
        return _refusal(404, ask)

    def refusal(self, status: int, ask: Ask) -> Answer:
        """Refuse a call, in the provider's words."""
        return _refusal(status, ask)

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months for days, and days for anything shorter."""
        longer = "1d" if ask.query.get("interval") in _LENGTHS else "1mo"
        return replace(ask, query={**ask.query, "interval": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # the body tells
        """Return the bars of a chart, each of its values in the order of the letters."""
        charts = body["chart"]["result"] or [{}]
        if "timestamp" not in charts[0]:
            return []
        quote = charts[0]["indicators"]["quote"][0]
        columns = (quote[name] for name in _COLUMNS)
        return [list(row) for row in zip(charts[0]["timestamp"], *columns, strict=True)]

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other bars."""
        return _body(body["chart"]["result"][0]["meta"], rows)

    def stamp_ms(self, row: Any) -> int:
        """Return the stamp of a bar."""
        return int(row[0]) * 1000

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values; it has no vwap and no count."""
        return edited_row(row, values, _LETTERS)

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"close":\[[^,\]]+', b'"close":[NaN', data, count=1)


def _chart(ask: Ask, spelling: str) -> dict[str, Any]:
    ticker, zone = _ticker(spelling), sessions_of("stocks").zone
    interval = ask.query.get("interval", "1d")
    first_ms, last_ms = _asked_ms(ask)
    _see_window(ask, interval, first_ms, last_ms)
    if interval in _LENGTHS:
        grid = Grid(zone, "intraday", _LENGTHS[interval])
    else:
        grid = Grid(zone, _UNITS[interval])  # type: ignore[arg-type]  # the three are its own
    start_ms, end_ms = grid.snap(zone.clamp(first_ms), zone.clamp(last_ms))
    bars = share_bars(ask, ticker, grid, start_ms, end_ms, adjusted=True)
    stamps = bars.ts_ms
    if grid.unit != "intraday":
        stamps = _stamped(bars.ts_ms, ask.now_ms) if grid.unit == "day" else stamps
    asked_for = (stamps >= first_ms) & (stamps <= last_ms)
    columns = (getattr(bars, name)[asked_for].tolist() for name in _COLUMNS)
    rows = [list(row) for row in zip((stamps[asked_for] // 1000).tolist(), *columns, strict=True)]
    listing = ask.market.listing(ask.market.tenures(ticker)[-1].company)
    listed = datetime.combine(listing.told_list_date or listing.list_date, time(9, 30), zone.tz)
    meta = {
        "currency": "USD",
        "symbol": spelling,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "firstTradeDate": epoch_ms(listed) // 1000,
        "dataGranularity": interval,
    }
    return _body(meta, rows)


def _stamped(midnights_ms: IntColumn, now_ms: int) -> IntColumn:
    """Return how days are stamped: with their open, the one that forms with the last trade."""
    opens_ms: IntColumn = midnights_ms + _OPENS_MS
    stamps: IntColumn = np.where(
        midnights_ms + DAY_MS > now_ms, now_ms // 1000 * 1000 - 1000, opens_ms
    )
    return stamps


def _see_window(ask: Ask, interval: str, first_ms: int, last_ms: int) -> None:
    """Refuse what reaches too far back, or is more than a call may ask for."""
    if interval not in {**_LENGTHS, **_UNITS}:
        raise Refused(_refusal(422, ask))
    reach = _REACH.get(interval)
    if reach is None:
        return
    too_old = first_ms < ask.now_ms - reach * DAY_MS
    if too_old or last_ms - first_ms > _A_CALL.get(interval, reach) * DAY_MS:
        raise Refused(_refusal(422, ask))


def _asked_ms(ask: Ask) -> tuple[int, int]:
    if "range" in ask.query:
        return ask.now_ms - DAY_MS, ask.now_ms
    texts = ask.query.get("period1", ""), ask.query.get("period2", "")
    if not all(re.fullmatch(r"-?\d{1,11}", text) for text in texts):
        raise Refused(_refusal(422, ask))
    return int(texts[0]) * 1000, int(texts[1]) * 1000


def _body(meta: Mapping[str, Any], rows: list[Any]) -> dict[str, Any]:
    chart: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}]}}
    if rows:
        stamps, *columns = (list(column) for column in zip(*rows, strict=True))
        quote = dict(zip(_COLUMNS, columns, strict=True))
        chart |= {"timestamp": stamps, "indicators": {"quote": [quote]}}
    return {"chart": {"result": [chart], "error": None}}


def _of_another(body: Any) -> Any:
    [chart] = body["chart"]["result"]
    other = chart | {"meta": chart["meta"] | {"symbol": "OTHER"}}
    return {"chart": {"result": [other], "error": None}}


def _ticker(spelling: str) -> str:
    """Return what the market calls a symbol: ``BRK-B`` is BRK.B there."""
    return spelling.replace("-", ".")


def _refusal(status: int, ask: Ask) -> Answer:
    code, said = _SAID.get(status, ("Internal Server Error", "Internal error"))
    asked = {name: ask.query.get(name, "") for name in ("interval", "period1", "period2")}
    error = {"code": code, "description": said.format(**asked)}
    return Answer(status, {"chart": {"result": None, "error": error}})
