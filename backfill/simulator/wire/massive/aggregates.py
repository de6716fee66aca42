"""Aggregates: bars of a ticker, page by page, and the grouped day of a whole market."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, Final

import msgspec
import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.simulator.market.prices import roll_up
from backfill.simulator.market.sessions import SUNDAY, Grid, Zone, sessions_of
from backfill.simulator.wire.base import Answer
from backfill.simulator.wire.massive.protocol import Ask, day_in, zone_of

_MOST: Final = 50_000
_DEFAULT: Final = 5_000


class WireBar(msgspec.Struct, omit_defaults=True, gc=False):
    """A bar as it travels; ``vw`` and ``n`` are left off where the provider has none."""

    v: float
    o: float
    c: float
    h: float
    l: float  # noqa: E741  # the wire's own name
    t: int
    vw: float | msgspec.UnsetType = msgspec.UNSET
    n: int | msgspec.UnsetType = msgspec.UNSET
    T: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class _Range:
    """The bars asked for: those of ``grid`` that the instants touch, both inclusive."""

    ticker: str
    grid: Grid
    from_ms: int
    to_ms: int
    adjusted: bool
    newest_first: bool
    limit: int


def aggregates(
    ask: Ask, ticker: str, multiplier: str, timespan: str, first: str, last: str
) -> Answer:
    """Answer ``/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}``."""
    parameters = ask.parameters()
    zone = zone_of(ticker)
    wanted = _Range(
        ticker,
        _grid(ask, zone, multiplier, timespan),
        _instant(ask, zone, first, end_of_day=False),
        _instant(ask, zone, last, end_of_day=True),
        _flag(ask, parameters, "adjusted"),
        _sort(ask, parameters) == "desc",
        ask.page_size(parameters, _DEFAULT, _MOST),
    )
    if wanted.from_ms > wanted.to_ms:
        ask.refuse(400, error="from must not be after to")
    ask.entitle(zone, wanted.from_ms)
    page, used, more = _page(ask, wanted)
    body: dict[str, Any] = {
        "ticker": ticker,
        "queryCount": used,
        "resultsCount": len(page),
        "adjusted": wanted.adjusted,
        "status": "OK",
        "request_id": ask.request_id,
        "count": len(page),
    }
    if len(page):
        body["results"] = _wire_bars(page)
    if more:
        edge = page.ts_ms[-1:]
        if wanted.newest_first:
            last = str(int(edge[0]) - 1)
        else:
            first = str(int(wanted.grid.ends(edge)[0]))
        body["next_url"] = ask.next_url(
            f"/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{first}/{last}",
            {
                "adjusted": str(wanted.adjusted).lower(),
                "limit": wanted.limit,
                "sort": "desc" if wanted.newest_first else "asc",
            },
        )
    return Answer(200, body)


def grouped(ask: Ask, market: str, day_text: str) -> Answer:
    """Answer ``/v2/aggs/grouped/locale/{locale}/market/{market}/{date}``.

    A row is stamped with the close of its session, or the last millisecond of a crypto day.
    """
    parameters = ask.parameters()
    is_adjusted = _flag(ask, parameters, "adjusted")
    day = day_in(ask, day_text)
    sessions = sessions_of(market)
    midnight = sessions.zone.midnight(day)
    ask.entitle(sessions.zone, midnight)
    rows: list[WireBar] = []
    found = np.flatnonzero(sessions.midnight_ms == midnight)
    end_ms = sessions.zone.next_midnight(midnight)
    if len(found) and end_ms <= ask.known_until_ms(sessions.zone):
        close_ms = sessions.close_ms(int(found[0])) - (1 if market == "crypto" else 0)
        for ticker in ask.market.tickers:
            owner = ask.market.owner(ticker, day)
            served_until_ms = ask.served_until_ms(sessions.zone, ticker)
            if owner is not None and owner.market == market and end_ms <= served_until_ms:
                bars = ask.market.bars(
                    owner.ticker,
                    Timeframe.d1,
                    midnight,
                    midnight + 1,
                    adjusted=is_adjusted,
                    now_ms=served_until_ms,
                )
                bars = ask.served(ticker, bars)
                for bar in _wire_bars(replace(bars, ts_ms=bars.ts_ms * 0 + close_ms)):
                    bar.T = ticker
                    rows.append(bar)
    body: dict[str, Any] = {
        "queryCount": len(rows),
        "resultsCount": len(rows),
        "adjusted": is_adjusted,
        "status": "OK",
        "request_id": ask.request_id,
        "count": len(rows),
    }
    return Answer(200, body | ({"results": rows} if rows else {}))


def _page(ask: Ask, wanted: _Range) -> tuple[Bars, int, bool]:
    """Return as many whole bars as ``limit`` base aggregates make, but one bar at least.

    With them how many base aggregates these are, and whether there are more bars.
    """
    parts: list[Bars] = []
    used = 0
    grid = wanted.grid
    for base in _base(ask, wanted):
        bars, sizes = roll_up(base, grid.floor(base.ts_ms))
        if wanted.newest_first:
            bars, sizes = bars.take(slice(None, None, -1)), sizes[::-1]
        needed = used + np.cumsum(sizes)
        fitting = int(np.searchsorted(needed, wanted.limit, side="right"))
        if not used and not fitting and len(bars):
            fitting = 1
        if fitting:
            parts.append(bars.take(slice(fitting)))
            used = int(needed[fitting - 1])
        if fitting < len(bars):
            return Bars.concat(parts), used, True
    return Bars.concat(parts), used, False


def _base(ask: Ask, wanted: _Range) -> Iterator[Bars]:
    """Yield the base aggregates of a ticker, minutes in the order asked for.

    Days and longer come in one part: a week in which the ticker passed on is one bar of both
    companies.
    """
    parts = _base_of_owners(ask, wanted)
    if wanted.grid.unit == "intraday":
        yield from parts
        return
    days = list(parts)
    yield Bars.concat(days[::-1] if wanted.newest_first else days)


def _base_of_owners(ask: Ask, wanted: _Range) -> Iterator[Bars]:
    """Yield the base aggregates of whoever traded under the ticker, in the order asked for."""
    zone = wanted.grid.zone
    start_ms, end_ms = wanted.grid.snap(zone.clamp(wanted.from_ms), zone.clamp(wanted.to_ms))
    tenures = ask.market.tenures(wanted.ticker)
    for tenure in reversed(tenures) if wanted.newest_first else tenures:
        since_ms, until_ms = zone.midnight(tenure.since), zone.midnight(tenure.until)
        if max(start_ms, since_ms) < min(end_ms, until_ms):
            for base in ask.market.base(
                tenure.company,
                max(start_ms, since_ms),
                min(end_ms, until_ms),
                # A UTC day is another window than the market's own of currencies.
                daily=wanted.grid.unit != "intraday" and not wanted.ticker.startswith("C:"),
                adjusted=wanted.adjusted,
                now_ms=ask.served_until_ms(zone, wanted.ticker),
                newest_first=wanted.newest_first,
            ):
                yield ask.served(wanted.ticker, base)


def _wire_bars(bars: Bars) -> list[WireBar]:
    columns = (bars.volume, bars.open, bars.close, bars.high, bars.low, bars.ts_ms)
    return list(
        map(
            WireBar,
            *(column.tolist() for column in columns),
            [msgspec.UNSET if isnan(vwap) else vwap for vwap in bars.vwap.tolist()],
            [msgspec.UNSET if n == NO_COUNT else n for n in bars.trade_count.tolist()],
        )
    )


def _grid(ask: Ask, zone: Zone, multiplier: str, timespan: str) -> Grid:
    number = int(multiplier) if multiplier.isdecimal() else 0
    if timespan == "minute" and number and 60 % number == 0:
        return Grid(zone, "intraday", number * MINUTE_MS)
    if timespan == "hour" and number and 24 % number == 0:
        return Grid(zone, "intraday", number * HOUR_MS)
    if number == 1 and timespan in {"day", "week", "month"}:
        return Grid(zone, timespan, week_starts=SUNDAY)  # type: ignore[arg-type]  # narrowed above
    return ask.refuse(400, error=f"the simulator has no bars of {multiplier} {timespan}")


def _instant(ask: Ask, zone: Zone, text: str, *, end_of_day: bool) -> int:
    """Read epoch milliseconds, or a date: its first or its last millisecond."""
    if text.isdecimal() and len(text) > len("20240102"):
        return int(text)
    midnight = zone.midnight(day_in(ask, text))
    return zone.next_midnight(midnight) - 1 if end_of_day else midnight


def _flag(ask: Ask, parameters: dict[str, str], name: str) -> bool:
    text = parameters.get(name, "true").lower()
    if text not in {"true", "false"}:
        ask.refuse(400, error=f"{name} must be true or false")
    return text == "true"


def _sort(ask: Ask, parameters: dict[str, str]) -> str:
    text = parameters.get("sort", "asc")
    if text not in {"asc", "desc"}:
        ask.refuse(400, error="sort must be asc or desc")
    return text
