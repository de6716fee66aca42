"""The server's application: its routes, and what every request and every answer passes."""

from typing import Final

from aiohttp import web

from backfill.audit.excerpt import Judge
from backfill.serve import (
    answers,
    bars,
    chart,
    front,
    login,
    looks,
    openapi,
    passing,
    static,
    symbol,
    udf,
)
from backfill.serve.guard import Guard
from backfill.serve.reader import Reader

ROUTES: Final = (
    front.ROUTES,
    static.ROUTES,
    login.ROUTES,
    symbol.ROUTES,
    chart.ROUTES,
    bars.ROUTES,
    udf.ROUTES,
    looks.ROUTES,
    openapi.ROUTES,
)
"""The routes of each module that answers."""

_MOST_BYTES: Final = 16 * 1024
"""How long what a request brings may be: a form with a token."""


def application(reader: Reader, guard: Guard) -> web.Application:
    """Return the application that answers from a database, to whom a guard lets in."""
    app = web.Application(
        middlewares=(answers.told, passing.admitted, passing.in_time),
        client_max_size=_MOST_BYTES,
    )
    app[answers.READER] = reader
    app[front.FRONT] = front.front(reader)
    app[looks.METRICS] = looks.metrics_by(reader)
    app[login.GUARD] = guard
    app[chart.JUDGE] = Judge(reader.settings)
    app[passing.UNDER_WAY] = passing.UnderWay()
    for routes in ROUTES:
        app.add_routes(routes)
    app.on_response_prepare.append(passing.seal)
    app.on_cleanup.append(_end_looks)
    return app


async def _end_looks(app: web.Application) -> None:
    for shared in (app[front.FRONT], app[looks.METRICS]):
        await shared.close()
