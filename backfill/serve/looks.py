"""``/status``, ``/gaps``, ``/runs``, ``/queue``, ``/metrics``, ``/healthz``: for programs."""

from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Final

import msgspec
from aiohttp import hdrs, web

from backfill.audit.gaps import series_gaps
from backfill.audit.health import Health, health_of
from backfill.audit.queue import QueueState, queue_if_seen
from backfill.audit.repair import Findings
from backfill.audit.status import series_status
from backfill.audit.tracked import tracked_series
from backfill.core.timeframe import Timeframe
from backfill.present import gaps as present_gaps
from backfill.present import prometheus
from backfill.present import queue as present_queue
from backfill.run.job import Scope
from backfill.serve import asking
from backfill.serve.answers import READER
from backfill.serve.reader import Reader
from backfill.serve.sending import JSON, sent, sent_json
from backfill.serve.shared import Shared
from backfill.store.pool import Connection
from backfill.store.recent import recent

DEFAULT_RUNS: Final = 50
MOST_RUNS: Final = 1_000
_WEEKS: Final = timedelta(weeks=13)
"""How far the ledger goes back."""
METRICS: Final = web.AppKey("metrics", Shared[tuple[Health, QueueState | str | None]])


async def status(request: web.Request) -> web.StreamResponse:
    """Answer with what `backfill status --json` tells of each series."""
    asking.see_known(request, "symbol", "timeframe")
    reader = request.app[READER]
    database = await reader.database()
    series = await series_status(database, reader.settings, reader.now(), _scope(request))
    return sent_json(request, {"series": [one.as_dict() for one in series]})


async def gaps(request: web.Request) -> web.StreamResponse:
    """Answer with what `backfill gaps --json` tells."""
    asking.see_known(request, "symbol", "timeframe", "from", "to")
    reader = request.app[READER]
    now = reader.now()
    database = await reader.database()
    tracked = await tracked_series(database, reader.settings, now, _scope(request))
    found = Findings(await series_gaps(database, now, tracked), None)
    return sent(request, "".join(present_gaps.findings(found)).encode())


async def runs(request: web.Request) -> web.StreamResponse:
    """Answer with the newest runs that asked or changed something, or didn't end well."""
    asking.see_known(request, "limit")
    limit = asking.whole(request, "limit", DEFAULT_RUNS, 1, MOST_RUNS)
    reader = request.app[READER]
    look = partial(recent, since=reader.now() - _WEEKS, most=limit)
    found = await (await reader.database()).run(look)
    return sent(request, msgspec.json.encode({"runs": found.runs}))


async def queue(request: web.Request) -> web.StreamResponse:
    """Answer with what `backfill queue status --json` tells."""
    asking.see_known(request)
    found = await queue_if_seen(await request.app[READER].database())
    if isinstance(found, QueueState):
        return sent_json(request, present_queue.state_as_dict(found))
    raise web.HTTPNotFound(text=found or "the database has no queue")


def metrics_by(reader: Reader) -> Shared[tuple[Health, QueueState | str | None]]:
    """Return what metrics tell, by the database; slots that are missing are counted bar by bar."""

    async def look() -> tuple[Health, QueueState | str | None]:
        database = await reader.database()
        health = await health_of(database, reader.settings, reader.now())
        return health, await queue_if_seen(database)

    return Shared(look)


async def metrics(request: web.Request) -> web.StreamResponse:
    """Answer with what `status` and `queue status` tell for Prometheus, as who asks reads it."""
    asking.see_known(request)
    health, queued = await request.app[METRICS].get()
    told = prometheus.metrics_of(health)
    if isinstance(queued, QueueState):
        told = chain(told, present_queue.metrics_of(queued))
    form = asking.preferred(request, prometheus.TEXT, prometheus.OPENMETRICS)
    answer = sent(request, prometheus.text_of(told, form).encode(), form)
    answer.headers.add(hdrs.VARY, hdrs.ACCEPT)
    return answer


async def healthz(request: web.Request) -> web.StreamResponse:
    """Answer whether the database can be read."""
    database = await request.app[READER].database()
    await database.run(_see)
    return web.Response(body=b'{"status": "ok"}', content_type=JSON)


async def _see(connection: Connection) -> None:
    await connection.value("SELECT 1")


def _scope(request: web.Request) -> Scope:
    first, last = asking.bounds(request)
    named = request.query.get("symbol")
    timeframe = asking.choice(request, "timeframe", list(Timeframe))
    return Scope([named] if named else None, [timeframe] if timeframe else None, first, last)


ROUTES: Final = (
    web.get("/status", status),
    web.get("/gaps", gaps),
    web.get("/runs", runs),
    web.get("/queue", queue),
    web.get("/metrics", metrics),
    web.get("/healthz", healthz),
)
