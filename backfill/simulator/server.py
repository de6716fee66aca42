"""The simulator as a server on loopback: key, quota and clock around the wire protocol."""

import asyncio
import gzip
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final, Literal, Self

import msgspec
from aiohttp import web

from backfill.simulator.market import Market
from backfill.simulator.protocol import Answer, Ask, Plan, epoch_ms, refusal
from backfill.simulator.quota import SlidingWindows
from backfill.simulator.routes import BARS_PATH, answer

_GZIP_FROM: Final = 1_000
_THREAD_FROM: Final = 100_000


@dataclass(slots=True)
class Call:
    """One request as the server saw it.

    ``at_s`` is its monotonic time of arrival, the one the quota counts by. The key is not kept.
    ``status`` is None until a whole answer was sent.
    """

    at_s: float
    at: datetime
    method: str
    path: str
    query: dict[str, str]
    kind: Literal["bars", "lookup"]
    status: int | None = None
    fault: str | None = None


class Simulator:
    """A provider on loopback that speaks Massive's wire protocol.

    Use it as an async context manager in the event loop that it shall run in, or through
    `run_in_thread`. Its methods may be called from any thread.

    Parameters
    ----------
    market
        What it serves; the default market if None.
    key
        The one API key that is accepted.
    quota
        ``unlimited``, or sliding windows as ``8/60s,800/1d``.
    plan
        ``unlimited`` is real time and all history; ``free`` the last two years up to yesterday.
    now
        The market's clock, standing still; None for the real one. The quota keeps real time.
    retry_after
        Whether a 429 names its wait in seconds or as an HTTP date.
    port
        Where to listen; 0 takes any free port.
    """

    def __init__(
        self,
        *,
        market: Market | None = None,
        key: str = "sim-key",
        quota: str = "unlimited",
        plan: Plan = "unlimited",
        now: datetime | None = None,
        retry_after: Literal["seconds", "date"] = "seconds",
        port: int = 0,
    ) -> None:
        self.market = market or Market()
        self.key = key
        self.plan = plan
        self.calls: list[Call] = []
        self._quota = SlidingWindows.parse(quota)
        self._now = now
        self._retry_after = retry_after
        self._port = port
        self._runner: web.AppRunner | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return self._url

    @property
    def now(self) -> datetime:
        """What the market's clock shows."""
        return self._now or datetime.now(UTC)

    def set_now(self, now: datetime | None) -> None:
        """Set the market's clock; None lets it run with the real one."""
        self._now = now

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None  # noqa: S101  # entered before
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        key = query.pop("apiKey", "") or request.headers.get("Authorization", "")
        call = Call(
            time.monotonic(),
            datetime.now(UTC),
            request.method,
            request.path,
            query,
            "bars" if request.path.startswith(BARS_PATH) else "lookup",
        )
        self.calls.append(call)
        request_id = f"{len(self.calls):032x}"
        if key.removeprefix("Bearer ") != self.key:
            reply = refusal(401, request_id, error="Unknown API Key")
        elif (wait_s := self._quota.admit(call.at_s)) > 0:
            reply = self._too_many(request_id, wait_s)
        else:
            reply = answer(request.method, self._ask(request, query, request_id))
        response = await _encoded(request, reply)
        call.status = reply.status
        return response

    def _ask(self, request: web.Request, query: dict[str, str], request_id: str) -> Ask:
        return Ask(
            path=request.path,
            query=query,
            market=self.market,
            now_ms=epoch_ms(self.now),
            plan=self.plan,
            base_url=self._url,
            request_id=request_id,
        )

    def _too_many(self, request_id: str, wait_s: float) -> Answer:
        until = datetime.now(UTC) + timedelta(seconds=math.ceil(wait_s) + 1)
        return refusal(
            429,
            request_id,
            error="You've exceeded the maximum requests per minute, please wait or upgrade your "
            "subscription to continue. https://massive.com/pricing",
            headers={
                "Retry-After": str(math.ceil(wait_s))
                if self._retry_after == "seconds"
                else format_datetime(until, usegmt=True)
            },
        )


async def serve(simulator: Simulator, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled; ``on_ready`` is told the base URL once calls are taken."""
    async with simulator:
        on_ready(simulator.url)
        await asyncio.Event().wait()


@contextmanager
def run_in_thread(simulator: Simulator) -> Iterator[Simulator]:
    """Run a simulator in a thread and event loop of its own, for code that blocks."""
    ready = threading.Event()
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with simulator:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="simulator")
    thread.start()
    ready.wait()
    try:
        yield simulator
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


async def _encoded(request: web.Request, reply: Answer) -> web.Response:
    body = msgspec.json.encode(reply.body)
    headers = dict(reply.headers)
    if len(body) >= _GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        if len(body) >= _THREAD_FROM:
            body = await asyncio.to_thread(gzip.compress, body, 1)
        else:
            body = gzip.compress(body, 1)
    return web.Response(
        status=reply.status, body=body, headers=headers, content_type="application/json"
    )
