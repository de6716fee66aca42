"""The provider of the benchmark, in a process of its own: prepared pages, sent from memory.

``python -m bench.server [SECONDS]`` prints its address and serves until it is terminated, each
answer so late. `Provider` starts it and speaks to it.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.request import Request, urlopen

from aiohttp import web

from bench.pages import Pages
from bench.workload import KEY, Load, target_of


@dataclass(frozen=True, slots=True)
class Calls:
    """What was asked of the provider since it was last reset.

    ``first_at`` is when the first call came, in seconds of the epoch; None before it. ``late``
    counts calls whose answer had to be made first.
    """

    calls: int = 0
    late: int = 0
    first_at: float | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """The running provider."""

    url: str

    def prepare(self, loads: Iterable[Load]) -> int:
        """Have it hold the pages of these loads and no others; returns their compressed bytes."""
        return int(self._post("prepare", [asdict(load) for load in loads])["bytes"])

    def reset(self) -> None:
        """Start counting calls anew."""
        self._post("reset", None)

    def calls(self) -> Calls:
        """Return what was asked of it since the last `reset`."""
        return Calls(**self._post("calls", None))

    def _post(self, name: str, body: object) -> dict[str, Any]:
        request = Request(f"{self.url}/_bench/{name}", json.dumps(body).encode(), method="POST")
        with urlopen(request) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    @classmethod
    @contextmanager
    def start(cls, late_s: float = 0.0) -> Iterator[Self]:
        """Run it in a process of its own; it answers so late."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.server", str(late_s)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            yield cls(process.stdout.readline().strip())
        finally:
            process.terminate()
            process.communicate()


class _Server:
    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._pages: Pages | None = None
        self._calls = Calls()

    async def run(self) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/_bench/prepare", self._prepare)
        app.router.add_post("/_bench/reset", self._reset)
        app.router.add_post("/_bench/calls", self._tell)
        app.router.add_get("/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._pages = Pages(url)
        print(url, flush=True)
        await asyncio.Event().wait()

    @property
    def pages(self) -> Pages:
        assert self._pages is not None
        return self._pages

    async def _prepare(self, request: web.Request) -> web.Response:
        loads = [Load(**load) for load in await request.json()]
        return web.json_response({"bytes": self.pages.prepare(loads)})

    async def _reset(self, _: web.Request) -> web.Response:
        self._calls = Calls()
        return web.json_response({})

    async def _tell(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self._calls))

    async def _serve(self, request: web.Request) -> web.Response:
        seen = self._calls
        target = target_of(str(request.rel_url))
        body, status = self.pages.get(target), 200
        self._calls = Calls(
            seen.calls + 1, seen.late + (body is None), seen.first_at or time.time()
        )
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"status": "ERROR", "error": "Unknown API Key"}, status=401)
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return web.json_response({"status": "ERROR", "error": "gzip only"}, status=406)
        if body is None:
            status, body = self.pages.made(target)
        if self._late_s:
            await asyncio.sleep(self._late_s)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return web.Response(status=status, headers=headers, body=body)


if __name__ == "__main__":
    asyncio.run(_Server(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0).run())
