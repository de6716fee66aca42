"""The front page: the report, looked up anew while people look at it, once for all of them."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from backfill.audit.overview import overview_in
from backfill.report.facts import Facts
from backfill.report.making import facts_of
from backfill.serve.html import TYPE, html
from backfill.serve.reader import Reader
from backfill.serve.sending import sent
from backfill.serve.shared import Shared
from backfill.serve.symbol import address

RUNNING_S: Final = 5
"""After how many seconds a browser asks again while a run goes on."""
RESTING_S: Final = 30


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and after how many seconds it is worth another look."""

    text: str
    refresh_s: int


FRONT: Final = web.AppKey("front", Shared[Page])


def front(reader: Reader) -> Shared[Page]:
    """Return the page by what the database says; one serves everybody for some seconds."""

    async def look() -> Page:
        seen = await overview_in(await reader.database(), reader.settings, reader.now())
        return await asyncio.to_thread(lambda: _written(facts_of(seen)))

    return Shared(look, lambda page: page.refresh_s / 2)


def _written(facts: Facts) -> Page:
    refresh_s = RUNNING_S if any(one.status == "running" for one in facts.runs) else RESTING_S
    text = html("live.html", facts=facts, link=address, refresh_s=refresh_s)
    return Page(text, refresh_s)


async def _front(request: web.Request) -> web.Response:
    return sent(request, (await request.app[FRONT].get()).text.encode(), TYPE)


ROUTES: Final = (web.get("/", _front),)
