"""A server in the test's own loop, on loopback, with a real Postgres behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import ClientSession, CookieJar, web

from backfill.serve.app import application
from backfill.serve.guard import Guard
from backfill.serve.reader import Reader
from backfill.settings import Secret, Settings
from tests.conftest import NOW


@asynccontextmanager
async def server(
    database_url: str,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    names: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
) -> AsyncIterator[str]:
    """Serve a database as of `NOW`, and yield the server's address.

    It listens on loopback; with another ``host`` it behaves as if it listened there.
    """
    reader = Reader(Settings(database_url=Secret(database_url)), lambda: NOW)
    app = application(reader, Guard.of(host, token, names, origins))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await reader.close()


@asynccontextmanager
async def serving(database_url: str, **options: Any) -> AsyncIterator[ClientSession]:
    """Serve a database as `server` does, and yield a client whose paths are the server's."""
    async with (
        server(database_url, **options) as url,
        ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as client,
    ):
        yield client


@contextmanager
def server_in_thread(database_url: str, **options: Any) -> Iterator[str]:
    """Serve a database as `server` does in a loop of its own, for a test that blocks."""
    ready, stop = threading.Event(), asyncio.Event()
    told: list[tuple[str, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        try:
            async with server(database_url, **options) as url:
                told.append((url, asyncio.get_running_loop()))
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
    thread.start()
    ready.wait()
    ((url, loop),) = told
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
