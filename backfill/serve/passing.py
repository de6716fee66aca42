"""What every request passes before it is answered, and every answer before it leaves."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from backfill.core.plain import storable
from backfill.serve.answers import BEGUN
from backfill.serve.login import GUARD, PATH, shows_token

OPEN: Final = (PATH, "/healthz", "/static/")
"""What is answered without a token: a path, or all below one that ends in a slash."""


class UnderWay:
    """How many requests are being answered."""

    def __init__(self) -> None:
        self.requests = 0


UNDER_WAY: Final = web.AppKey("under_way", UnderWay)
MOST_AT_ONCE: Final = 512
DEADLINE_S: Final = 60.0
_DEADLINE: Final = web.RequestKey("deadline", asyncio.Timeout)

_SEALED: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "backfill",
}
_DEFAULTS: Final = {"Cache-Control": "private, no-cache", "Referrer-Policy": "no-referrer"}
_READS: Final = "GET, HEAD"
_PREFLIGHT_LASTS_S: Final = 600


@web.middleware
async def admitted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who asks under the server's name, from a page that may, with the token if need be."""
    guard = request.app[GUARD]
    hosts = request.headers.getall(hdrs.HOST, [])
    # The second is that of a request line which names a host itself.
    if len(hosts) != 1 or not all(map(guard.knows_host, (hosts[0], request.host))):
        raise web.HTTPMisdirectedRequest(
            text="this server doesn't go by that Host: name it in BACKFILL_SERVE_HOSTS"
        )
    origins = request.headers.getall(hdrs.ORIGIN, [])
    if not all(guard.knows_origin(origin, hosts[0]) for origin in origins[:1]) or origins[1:]:
        raise web.HTTPForbidden(
            text="a page of that origin may not ask: name it in BACKFILL_SERVE_ORIGINS"
        )
    if request.method == hdrs.METH_OPTIONS and origins:
        return _preflight()
    if not _is_open(request.path) and not shows_token(request, guard):
        raise web.HTTPUnauthorized(
            text="show the token: Authorization: Bearer …, or once in the form at /login",
            headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="backfill"'},
        )
    if any(storable(text) != text for text in (request.path, *request.query.values())):
        raise web.HTTPBadRequest(text="no name in the database holds such a character")
    return await handler(request)


@web.middleware
async def in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer no more than so many requests at once, and give one up that takes too long."""
    under_way = request.app[UNDER_WAY]
    if under_way.requests >= MOST_AT_ONCE:
        raise web.HTTPServiceUnavailable(text="too many requests at once", headers=_SOON)
    under_way.requests += 1
    try:
        async with asyncio.timeout(DEADLINE_S) as request[_DEADLINE]:
            return await handler(request)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text=f"not done in {DEADLINE_S:.0f} s") from None
    finally:
        under_way.requests -= 1


_SOON: Final = {hdrs.RETRY_AFTER: "1"}


def goes_on(request: web.Request) -> None:
    """Give a request its whole time anew: it streams, and somebody reads."""
    request[_DEADLINE].reschedule(asyncio.get_running_loop().time() + DEADLINE_S)


async def seal(request: web.Request, response: web.StreamResponse) -> None:
    """Put on an answer what tells a browser how little it may do with it."""
    request[BEGUN] = response
    headers = response.headers
    headers.update(_SEALED)
    for name, value in _DEFAULTS.items():
        headers.setdefault(name, value)
    named = request.app[GUARD].origins
    if named:
        headers.add(hdrs.VARY, hdrs.ORIGIN)
    if (origin := request.headers.get(hdrs.ORIGIN)) in named:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.ETAG


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _READS,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: f"{hdrs.AUTHORIZATION}, {hdrs.IF_NONE_MATCH}",
            hdrs.ACCESS_CONTROL_MAX_AGE: str(_PREFLIGHT_LASTS_S),
        },
    )


def _is_open(path: str) -> bool:
    return any(path.startswith(one) if one.endswith("/") else path == one for one in OPEN)
