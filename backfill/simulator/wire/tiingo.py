"""Tiingo's wire: days raw and adjusted in one row, IEX's minutes, metadata, refusals by words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np

from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import Grid, sessions_of
from backfill.simulator.wire.base import Answer, Ask, Lie, Refused, Seen
from backfill.simulator.wire.shares import share_bars, shares_of

_PATH: Final = re.compile(r"/(tiingo/daily|iex)/([^/]+?)(/prices)?")
_NAMES: Final = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
_COLUMNS: Final = ("close", "high", "low", "open", "volume")
_TOLD_MS: Final = 17 * HOUR_MS + 30 * MINUTE_MS
"""When the day's row is there, after midnight in New York."""
_MOST: Final = 10_000
_UNITS: Final = {"daily": "day", "weekly": "week", "monthly": "month"}
_SAID: Final = {
    401: "Please supply a token",
    403: "Please supply a token",
    429: "Error: You have run over your hourly request allocation.",
}


class TiingoWire:
    """The protocol of ``tiingo``: its rows name no ticker."""

    name = "tiingo"
    lies: Mapping[str, Lie] = {}

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return the stocks of the market."""
        return shares_of(market)

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:
        """Take the key out of a call: it may stand in the query, too."""
        return query.pop("token", "") or headers.get("Authorization", "").removeprefix("Token ")

    def see(self, path: str, query: Mapping[str, str]) -> Seen:  # noqa: ARG002  # the path tells
        """Return what a call is."""
        match = _PATH.fullmatch(path)
        if match is None:
            return Seen("lookup")
        return Seen("bars" if match[3] else "lookup", (_ticker(match[2]),))

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose key is right and whose turn it is."""
        match = _PATH.fullmatch(ask.path)
        if method != "GET" or match is None or match[1] + str(match[3]) == "iexNone":
            return _refusal(404, "Not found.")
        ticker = _ticker(match[2])
        try:
            if match[1] == "iex":
                return Answer(200, _minutes(ask, ticker))
            if ticker not in self.tickers(ask.market):
                return _refusal(404, f"Error: Ticker '{match[2]}' not found")
            return Answer(200, _days(ask, ticker) if match[3] else _metadata(ask, ticker))
        except Refused as refused:
            return refused.answer

    def refusal(self, status: int, ask: Ask) -> Answer:  # noqa: ARG002  # they are all alike
        """Refuse a call, in the provider's words."""
        return _refusal(status, _SAID.get(status, "Internal error."))

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for months in the place of days, and half hours of anything shorter."""
        longer = "30min" if ask.path.startswith("/iex/") else "monthly"
        return replace(ask, query={**ask.query, "resampleFreq": longer})

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:  # noqa: ARG002  # the body tells
        """Return the rows of a body."""
        return body if isinstance(body, list) else []

    def with_rows(self, body: Any, rows: list[Any]) -> Any:  # noqa: ARG002  # rows are all of it
        """Return a body with other rows."""
        return rows

    def stamp_ms(self, row: Any) -> int:
        """Return the stamp of a row."""
        return int(np.datetime64(row["date"].removesuffix("Z"), "ms").astype(np.int64))

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a row with other values; it has no vwap and no count."""
        stamp = {"date": _iso(values["t"])} if "t" in values else {}
        return row | {_NAMES[one]: value for one, value in values.items() if one in _NAMES} | stamp

    def is_of(self, row: Any, ticker: str) -> bool:  # noqa: ARG002  # rows don't say
        """Rows don't say whose they are."""
        return False

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"close":[^,}]+', b'"close":NaN', data, count=1)


def _days(ask: Ask, ticker: str) -> list[dict[str, Any]]:
    """Answer for days, weeks or months, raw and adjusted; longer ones are stamped with their end.

    They are cut where the days that are asked for end.
    """
    zone = sessions_of("stocks").zone
    first, last = _asked_days(ask)
    unit = _UNITS.get(ask.query.get("resampleFreq", "daily"))
    if unit is None:
        raise Refused(_refusal(400, "Error: resampleFreq must be 'daily', 'weekly' or 'monthly'"))
    grid = Grid(zone, unit)  # type: ignore[arg-type]  # the three are its own
    start_ms = int(grid.floor(np.array([zone.clamp(zone.midnight(first))]))[0])
    told_ms = zone.midnight(zone.day_of(ask.now_ms - _TOLD_MS) + timedelta(days=1))
    end_ms = min(zone.clamp(zone.midnight(last + timedelta(days=1))), told_ms)
    if end_ms <= start_ms:
        return []
    raw, adjusted = (
        share_bars(ask, ticker, grid, start_ms, end_ms, adjusted=one) for one in (False, True)
    )
    factors = {
        split.execution_date.isoformat(): split.split_to / split.split_from
        for split in ask.market.splits()
        if split.ticker == ticker and split.happened
    }
    paid = {
        dividend.ex_dividend_date.isoformat(): dividend.cash_amount
        for dividend in ask.market.dividends()
        if dividend.ticker == ticker
    }
    ends = zone.ordinals(grid.ends(raw.ts_ms) - 1)
    rows = []
    for at, ordinal in enumerate(ends.tolist()):
        day = _last_weekday(date.fromordinal(ordinal), unit).isoformat()
        row: dict[str, Any] = {"date": f"{day}T00:00:00.000Z"}
        row |= {name: float(getattr(raw, name)[at]) for name in _COLUMNS}
        row |= {f"adj{name.title()}": float(getattr(adjusted, name)[at]) for name in _COLUMNS}
        row |= {"divCash": paid.get(day, 0.0), "splitFactor": factors.get(day, 1.0)}
        rows.append(row)
    return rows


def _minutes(ask: Ask, ticker: str) -> list[dict[str, Any]]:
    """Answer for minutes of the regular session, the newest of more than a page holds."""
    zone = sessions_of("stocks").zone
    first, last = _asked_days(ask)
    match = re.fullmatch(r"(\d+)(min|hour)", ask.query.get("resampleFreq", "5min"))
    if match is None or not int(match[1]):
        raise Refused(_refusal(400, "Error: resampleFreq must be in minutes or hours"))
    grid = Grid(zone, "intraday", int(match[1]) * (HOUR_MS if match[2] == "hour" else MINUTE_MS))
    bars = share_bars(
        ask,
        ticker,
        grid,
        zone.clamp(zone.midnight(first)),
        zone.clamp(zone.midnight(last + timedelta(days=1))),
        adjusted=False,
        regular=True,
    )
    bars = bars.take(slice(max(len(bars) - _MOST, 0), None))
    named = ask.query.get("columns", "open,high,low,close").split(",")
    columns = [[float(one) for one in getattr(bars, name)] for name in named if name in _COLUMNS]
    return [
        {"date": _iso(at_ms), **dict(zip(named, values, strict=True))}
        for at_ms, *values in zip(bars.ts_ms.tolist(), *columns, strict=True)
    ]


def _metadata(ask: Ask, ticker: str) -> dict[str, Any]:
    listing = ask.market.listing(ask.market.tenures(ticker)[-1].company)
    there_until = sessions_of("stocks").zone.day_of(ask.now_ms)
    return {
        "ticker": ticker.replace(".", "-"),
        "name": listing.name,
        "exchangeCode": listing.exchange,
        "description": f"{listing.name} is listed.",
        "startDate": (listing.told_list_date or listing.list_date).isoformat(),
        "endDate": min(listing.delisted_on or there_until, there_until).isoformat(),
    }


def _last_weekday(day: date, unit: str) -> date:
    """Return the day that stamps what ends with one: a Friday, or a month's last Monday to Friday.

    A day stamps itself.
    """
    return day if unit == "day" else day - timedelta(days=max(day.weekday() - 4, 0))


def _asked_days(ask: Ask) -> tuple[date, date]:
    days = []
    for name in ("startDate", "endDate"):
        try:
            days.append(datetime.strptime(ask.query.get(name, ""), "%Y-%m-%d").date())  # noqa: DTZ007
        except ValueError:
            raise Refused(_refusal(400, f"Error: {name} must be a date")) from None
    return days[0], days[1]


def _ticker(spelling: str) -> str:
    """Return what the market calls a ticker: ``BRK-B`` is BRK.B there."""
    return spelling.replace("-", ".")


def _iso(at_ms: int) -> str:
    return f"{np.datetime64(at_ms, 'ms')}Z"


def _refusal(status: int, said: str) -> Answer:
    return Answer(status, {"detail": said})
