"""``/chart``: the newest bars of a series, in the shape of the system that this one replaces."""

from typing import Final

from aiohttp import web

from backfill.audit.excerpt import Asked, Chart, Judge, excerpt, newest
from backfill.present import chart as present
from backfill.serve import asking
from backfill.serve.answers import READER
from backfill.serve.sending import sent
from backfill.store.pool import Connection

JUDGE: Final = web.AppKey("judge", Judge)
DEFAULT_LIMIT: Final = 500
MOST: Final = 10_000
"""How many bars an answer has at most."""


async def chart(request: web.Request) -> web.StreamResponse:
    """Answer with the newest bars of a range."""
    asking.see_known(request, "symbol", "timeframe", "from", "to", "limit", "adjustment")
    asked = asked_of(request)
    limit = asking.whole(request, "limit", DEFAULT_LIMIT, 1, MOST)
    reader = request.app[READER]
    database = await reader.database()

    async def look(connection: Connection) -> Chart:
        seen = await excerpt(connection, asked)
        bars, more = await newest(connection, seen, limit)
        return Chart(seen, limit, bars, has_more=more)

    found = await database.run(look)
    fresh = await request.app[JUDGE].is_fresh(database, found.excerpt, reader.now())
    return sent(request, present.chart(found, fresh=fresh))


def asked_of(request: web.Request) -> Asked:
    """Return which bars a request asks for."""
    first, last = asking.bounds(request)
    return Asked(
        asking.text(request, "symbol"),
        asking.timeframe(request),
        first,
        last,
        asking.choice(request, "adjustment", list(asking.ADJUSTMENTS)),
    )


ROUTES: Final = (web.get("/chart", chart),)
