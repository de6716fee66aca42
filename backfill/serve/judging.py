"""Whether a series is fresh: judged by one for all requests, who remembers what is kept."""

from typing import Final

from aiohttp import web

from backfill.audit.excerpt import Excerpt, Judge
from backfill.serve.answers import READER

_JUDGE: Final = web.AppKey("judge", dict[str, Judge])


def provide(app: web.Application) -> None:
    """Give an application a place for its judge, who comes with the first request."""
    app[_JUDGE] = {}


async def is_fresh(request: web.Request, seen: Excerpt) -> bool:
    """Whether a series is fresh by now, as `backfill status` judges."""
    reader, judges = request.app[READER], request.app[_JUDGE]
    if not judges:
        judges["one"] = Judge(await reader.database(), reader.settings)
    return await judges["one"].is_fresh(seen, reader.now())
