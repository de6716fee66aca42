"""A tiny provider of crypto, and the service that it asks: what a second provider has to be.

Its service spells ``ETH/USD`` as ``ETH_USD``, tells neither trades nor vwap, has no h4, takes no
key, and serves 300 bars a page, the oldest first. With another law its pages hold what that says.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from aiohttp import web

from backfill.core.asked import Asked
from backfill.core.bars import NO_COUNT, Bars
from backfill.core.capabilities import ALL, Capabilities
from backfill.core.instrument import Instrument, Pair
from backfill.core.pages import BarsPerPage, Files, NewestOnly, Order, PageLaw
from backfill.core.terms import Quota, Settling, Terms
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page, Request, Response
from backfill.errors import ProviderUnavailable, RateLimited, UnknownSymbol
from backfill.simulator import Market
from backfill.simulator.quota import SlidingWindows

PAGE: Final = 300
_TERMS: Final = Terms("free", Quota(), Settling(2 * MINUTE_MS, HOUR_MS), None, date(2018, 1, 1))


class Tiny:
    """The provider ``tiny``."""

    name = "tiny"
    base_url = "https://tiny.example"
    key_variables: tuple[tuple[str, ...], ...] = ()
    keys_at = ""
    example = "ETH/USD"
    terms: Mapping[str, Terms] = {"free": _TERMS, "unlimited": _TERMS}
    plan_classes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, law: PageLaw | None = None, *, fills_empty: bool = False) -> None:
        self.can = Capabilities(
            feed="spot",
            native={"crypto": ALL - {Timeframe.h4, Timeframe.w1, Timeframe.mn1}},
            adjustments=("raw",),
            pages=law or BarsPerPage(PAGE, Order.oldest),
            fills_empty=fills_empty,
        )

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """It takes no key."""
        assert not keys
        return {}

    def spelling(self, instrument: Instrument) -> str:
        """``ETH/USD`` is ``ETH_USD`` there."""
        assert isinstance(instrument, Pair)
        return f"{instrument.base}_{instrument.quote}"

    def instrument(self, spelling: str) -> Instrument | None:
        """Both parts are there."""
        return Pair(*spelling.split("_"))

    def bars(self, asked: Asked) -> Request:
        """Ask for a file, or for candles of a range."""
        return self._request(asked, asked.span.end_ms)

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read candles."""
        if response.status == 404:
            raise UnknownSymbol("the provider has no such market")
        if response.status == 429:
            raise RateLimited("too many", float(response.headers["retry-after"]))
        if response.status != 200:
            raise ProviderUnavailable(f"the provider answered {response.status}")
        rows = json.loads(response.body)["candles"]
        columns = np.array(rows, float).reshape(len(rows), 6).T
        nothing = np.full(len(rows), np.nan), np.full(len(rows), NO_COUNT)
        bars = Bars(
            columns[0].astype(np.int64), columns[1], columns[2], columns[3], columns[4], columns[5],
            *nothing,
        )  # fmt: skip
        oldest = int(bars.ts_ms.min()) if rows else None
        # What was not asked for comes with what was: files and the newest are as they are.
        span = asked.span
        bars = bars.take((bars.ts_ms >= span.start_ms) & (bars.ts_ms < span.end_ms))
        law = self.can.pages
        following = None
        if isinstance(law, BarsPerPage) and law.order is Order.newest and len(rows) == law.size:
            following = self._request(asked, oldest or 0)
        return Page(
            bars=bars,
            next=following,
            silent_before_ms=oldest if isinstance(law, NewestOnly) else None,
        )

    def _request(self, asked: Asked, until_ms: int) -> Request:
        law, market = self.can.pages, self.spelling(asked.symbol.instrument)
        if isinstance(law, Files):
            # A file is of the period that the last of the asked slots begins in.
            day = datetime.fromtimestamp((until_ms - 1) / 1000, UTC).date()
            name = day.isoformat()[: 10 if law.period is Timeframe.d1 else 7]
            return Request(f"/files/{market}/{asked.timeframe}/{name}")
        path = "newest" if isinstance(law, NewestOnly) else "candles"
        order = law.order if isinstance(law, BarsPerPage) else Order.newest
        return Request(
            f"/{path}",
            {
                "market": market,
                "size": str(asked.timeframe),
                "from": str(asked.span.start_ms),
                "until": str(until_ms),
                "order": str(order),
                "most": str(law.most_bars),
            },
        )


class Service:
    """The service: the simulated market's bars, by its own paths, under a strict quota."""

    def __init__(self, market: Market, now: datetime, quota: str = "unlimited") -> None:
        self.calls = Counter[str]()
        self.is_down = False
        self._market = market
        self._now_ms = round(now.timestamp() * 1000)
        self._windows = SlidingWindows.parse(quota)
        self._began = datetime.now(UTC)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve on loopback; the URL is where."""
        app = web.Application()
        app.router.add_get("/files/{market}/{size}/{name}", self._file)
        app.router.add_get("/{path:candles|newest}", self._candles)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _candles(self, request: web.Request) -> web.Response:
        size, most = Timeframe(request.query["size"]), int(request.query["most"])
        first, until = int(request.query["from"]), int(request.query["until"])
        if request.match_info["path"] == "newest":
            length = size.length_ms
            first = (self._now_ms // length - most + 1) * length
            until = self._now_ms
        newest_first = request.query["order"] == Order.newest
        return self._answer(
            request, request.query["market"], size, first, until, most, newest_first=newest_first
        )

    async def _file(self, request: web.Request) -> web.Response:
        size, name = Timeframe(request.match_info["size"]), request.match_info["name"]
        first = date.fromisoformat(name if len(name) == 10 else f"{name}-01")
        last = first if len(name) == 10 else (first + timedelta(days=31)).replace(day=1)
        end = last + timedelta(days=1) if len(name) == 10 else last
        start_ms, end_ms = (
            round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
            for day in (first, end)
        )
        return self._answer(request, request.match_info["market"], size, start_ms, end_ms, None)

    def _answer(
        self,
        request: web.Request,
        market: str,
        size: Timeframe,
        first: int,
        until: int,
        most: int | None,
        *,
        newest_first: bool = False,
    ) -> web.Response:
        assert "authorization" not in request.headers
        elapsed = (datetime.now(UTC) - self._began).total_seconds()
        if wait_s := self._windows.admit(elapsed):
            self.calls["refused"] += 1
            return web.json_response({}, status=429, headers={"retry-after": f"{wait_s:.3f}"})
        self.calls[market] += 1
        if self.is_down:
            return web.json_response({}, status=503)
        if market not in {"ETH_USD", "BTC_USD"}:
            return web.json_response({}, status=404)
        ticker = f"X:{market.replace('_', '')}"
        bars = self._market.bars(ticker, size, first, until, now_ms=self._now_ms)
        rows: list[list[Any]] = [
            list(row)
            for row in zip(
                *(getattr(bars, name).tolist()
                  for name in ("ts_ms", "open", "high", "low", "close", "volume")),
                strict=True,
            )
        ]  # fmt: skip
        if newest_first:
            rows.reverse()
        return web.json_response({"candles": rows[:most]})
