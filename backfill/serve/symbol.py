"""The page of a series, and the drawing on it: two readings of one picture."""

import asyncio
from datetime import datetime
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, urlencode

from aiohttp import web

from backfill.audit.picture import MOST_BARS, Picture, View, picture
from backfill.core.plain import argument, json_text
from backfill.core.timeframe import Timeframe
from backfill.core.when import checked_clock, parse_instant
from backfill.serve import asking
from backfill.serve.answers import READER
from backfill.serve.drawing import Drawing, drawn
from backfill.serve.html import TYPE, html
from backfill.serve.sending import sent

REFRESH_S: Final = 10
_MOST_ROWS: Final = 1_000
_MOST_BESIDE: Final = 200
_COUNTS: Final = (500, 5_000, MOST_BARS)
_USUAL: Final = View("")


def address(ticker: str, timeframe: str | None = None) -> str:
    """Return where the page of a series is; a ticker may hold any character."""
    path = f"/symbols/{quote(ticker, safe='')}"
    return f"{path}?{urlencode({'timeframe': timeframe})}" if timeframe else path


async def _page(request: web.Request) -> web.Response:
    view = _view(request.match_info["ticker"], request)
    seen = await _seen(request, view)
    # Of many bars that takes a second, for which nobody else shall wait.
    return sent(request, await asyncio.to_thread(_written, seen, view), TYPE)


def _written(seen: Picture, view: View) -> bytes:
    """Return the page of a picture; with another drawing it is another page."""
    drawing = drawn(seen)
    ticker, timeframe = seen.symbol.ticker, str(seen.timeframe)
    whole = f"{argument(ticker)} -t {timeframe}"
    text = html(
        "symbol.html",
        picture=seen,
        view=view,
        drawing=drawing,
        version=blake2b(_as_json(drawing), digest_size=12).hexdigest(),
        rows=list(zip(seen.bars, seen.is_regular, strict=True))[: -_MOST_ROWS - 1 : -1],
        most_rows=_MOST_ROWS,
        most_beside=_MOST_BESIDE,
        counts=_COUNTS,
        refresh_s=REFRESH_S,
        command=f"backfill run {whole}",
        quarantine=f"backfill quarantine list {whole}",
        mend=f"backfill gaps --repair {whole}",
        address=lambda **changes: _address(seen, view, **changes),
        source=_source(seen, view),
        csv=f"/bars?{urlencode({'symbol': ticker, 'timeframe': timeframe, 'format': 'csv'})}",
    )
    return text.encode()


async def _drawing(request: web.Request) -> web.Response:
    view = _view(request.query.get("symbol", ""), request)
    seen = await _seen(request, view)
    return sent(request, await asyncio.to_thread(lambda: _as_json(drawn(seen))))


def _as_json(drawing: Drawing) -> bytes:
    return json_text(drawing.as_dict()).encode()


async def _seen(request: web.Request, view: View) -> Picture:
    reader = request.app[READER]
    return await picture(await reader.database(), reader.settings, view, reader.now())


def _view(ticker: str, request: web.Request) -> View:
    """Read what somebody wants to see.

    Raises
    ------
    UsageError
        If it can't be read.
    """
    query = request.query
    until = query.get("until")
    return View(
        ticker,
        asking.choice(request, "timeframe", list(Timeframe)),
        asking.whole(request, "bars", _USUAL.bars, 1, MOST_BARS),
        checked_clock(parse_instant(until)) if until else None,
        query.get("adjusted") == "yes",
    )


def _address(
    seen: Picture,
    view: View,
    *,
    timeframe: Timeframe | None = None,
    adjusted: bool | None = None,
    bars: int | None = None,
    until: datetime | None = None,
) -> str:
    """Return where one sees the same but for what is named; without ``until`` the newest."""
    wanted = {
        "timeframe": timeframe or seen.timeframe,
        "adjusted": "yes" if (view.adjusted if adjusted is None else adjusted) else None,
        "bars": None if (bars or view.bars) == _USUAL.bars else bars or view.bars,
        "until": until.isoformat() if until else None,
    }
    told = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"{address(seen.symbol.ticker)}?{told}"


def _source(seen: Picture, view: View) -> str:
    """Return where the drawing of a page is had."""
    _, _, query = _address(seen, view, until=view.until).partition("?")
    return f"/drawing?{urlencode({'symbol': seen.symbol.ticker})}&{query}"


ROUTES: Final = (web.get("/symbols/{ticker:.+}", _page), web.get("/drawing", _drawing))
