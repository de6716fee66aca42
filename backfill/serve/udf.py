"""``/udf``: what TradingView's charts ask a Universal Data Feed for."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import web

from backfill.audit.excerpt import Asked, excerpt, newest
from backfill.core import udf
from backfill.errors import NotKnown, UsageError
from backfill.serve import asking
from backfill.serve.answers import READER
from backfill.serve.chart import MOST
from backfill.serve.sending import sent, sent_json
from backfill.store import standing, universe
from backfill.store.pool import Connection

_LOOKED_AT: Final = 100
"""By how many of its closes it is told how many decimals the prices of a symbol have."""
_FOUND_AT_MOST: Final = 100
_LAST_S: Final = 10**12

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _in_its_words(answer: Answering) -> Answering:
    """Tell an error as a data feed does, too: its reader looks at nothing else."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await answer(request)
        except NotKnown:
            return _refused(request, "unknown_symbol", 404)
        except UsageError as error:
            return _refused(request, str(error), 400)

    return told


def _refused(request: web.Request, why: str, status: int) -> web.Response:
    return sent_json(request, {"s": "error", "errmsg": why, "error": why}, status)


async def config(request: web.Request) -> web.StreamResponse:
    """Answer with what can be asked for."""
    return sent_json(request, udf.config())


async def time_(request: web.Request) -> web.StreamResponse:
    """Answer with the server's clock, in seconds."""
    return sent(request, str(int(time.time())).encode(), "text/plain")


@_in_its_words
async def symbols(request: web.Request) -> web.StreamResponse:
    """Answer with what a chart has to know of a symbol."""
    ticker = _ticker(request)

    async def look(connection: Connection) -> dict[str, Any]:
        symbol = await universe.known(connection, ticker)
        timeframes = await standing.timeframes_of(connection, symbol)
        if not timeframes:
            raise NotKnown(f"no bars of {symbol.ticker} are stored")
        seen = await excerpt(connection, Asked(symbol.ticker, timeframes[-1]))
        bars, _ = await newest(connection, seen, _LOOKED_AT)
        return udf.symbol_info(
            symbol.ticker, symbol.asset_type, symbol.calendar, timeframes, bars.close.tolist()
        )

    return sent_json(request, await (await request.app[READER].database()).run(look))


@_in_its_words
async def search(request: web.Request) -> web.StreamResponse:
    """Answer with the symbols that a word may mean."""
    limit = asking.whole(request, "limit", 30, 1, 10**6)
    types = {name: asset_type for asset_type, name in udf.TYPES.items()}
    named = request.query.get("type", "")
    find = partial(
        standing.found,
        word=request.query.get("query", "").strip(),
        asset_type=types.get(named, named),
        most=min(limit, _FOUND_AT_MOST),
    )
    every = await (await request.app[READER].database()).run(find)
    exchange = request.query.get("exchange", "")
    return sent_json(
        request,
        [
            {
                "symbol": one.ticker,
                "full_name": one.ticker,
                "description": one.ticker,
                "exchange": one.calendar,
                "ticker": one.ticker,
                "type": udf.TYPES.get(one.asset_type, one.asset_type),
            }
            for one in every
            if exchange in {"", one.calendar}
        ],
    )


@_in_its_words
async def history(request: web.Request) -> web.StreamResponse:
    """Answer with the bars of a range, or with so many of the newest before its end."""
    timeframe = udf.timeframe_of(asking.text(request, "resolution"))
    to_s = asking.whole(request, "to", int(time.time()), -_LAST_S, _LAST_S)
    from_s = asking.whole(request, "from", 0, -_LAST_S, _LAST_S)
    back = asking.whole(request, "countback", 0, 0, _LAST_S)
    asked = Asked(_ticker(request), timeframe)

    async def look(connection: Connection) -> dict[str, Any]:
        seen = await excerpt(connection, asked)
        calendar = seen.series.symbol.calendar
        span = udf.span_of(calendar, timeframe, 0 if back else from_s, to_s)
        bars, more = await newest(connection, seen.within(span), min(back or MOST, MOST))
        if more and not back:
            raise UsageError(f"more than {MOST:,} bars begin in that range: name a shorter one")
        if len(bars):
            return udf.history(calendar, timeframe, bars)
        before, _ = await newest(connection, seen.before(span.start_ms), 1)
        at_ms = int(before.ts_ms[0]) if len(before) else None
        return udf.no_data(calendar, timeframe, at_ms)

    return sent_json(request, await (await request.app[READER].database()).run(look))


def _ticker(request: web.Request) -> str:
    """Return the ticker that is named, which may stand behind its exchange."""
    named = asking.text(request, "symbol")
    exchange, _, ticker = named.partition(":")
    return ticker if exchange in udf.EXCHANGES and ticker else named


ROUTES: Final = (
    web.get("/udf/config", config),
    web.get("/udf/time", time_),
    web.get("/udf/symbols", symbols),
    web.get("/udf/search", search),
    web.get("/udf/history", history),
)
