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
from backfill.serve.symbol import address

RUNNING_S: Final = 5
"""After how many seconds a browser asks again while a run goes on."""
RESTING_S: Final = 30
_SHARE: Final = 4
"""No more than a quarter of the time goes into looking it up."""


@dataclass(frozen=True, slots=True)
class _Page:
    text: str
    until_s: float


class Front:
    """The front page as it was looked up last, which serves everybody for some seconds."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._looking = asyncio.Lock()
        self._page: _Page | None = None

    async def text(self) -> str:
        """Return the page, by what the database says now, or said a moment ago.

        Raises
        ------
        DatabaseError
            If the database can't be used.
        """
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if self._page is None or self._page.until_s <= clock():
                began_s = clock()
                refresh_s, text = await self._looked_up()
                took_s = clock() - began_s
                keeps_s = max(refresh_s / 2, _SHARE * took_s)
                self._page = _Page(text, clock() + keeps_s)
            return self._page.text

    async def _looked_up(self) -> tuple[int, str]:
        reader = self._reader
        seen = await overview_in(await reader.database(), reader.settings, reader.now())
        return await asyncio.to_thread(lambda: _written(facts_of(seen)))


def _written(facts: Facts) -> tuple[int, str]:
    """Return after how many seconds the page is worth another look, and the page."""
    refresh_s = RUNNING_S if any(one.status == "running" for one in facts.runs) else RESTING_S
    return refresh_s, html("live.html", facts=facts, link=address, refresh_s=refresh_s)


FRONT: Final = web.AppKey("front", Front)


async def _front(request: web.Request) -> web.Response:
    return sent(request, (await request.app[FRONT].text()).encode(), TYPE)


ROUTES: Final = (web.get("/", _front),)
