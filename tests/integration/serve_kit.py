"""A server in the test's own loop, on loopback, with a real Postgres behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, CookieJar, web

from backfill.serve.app import application
from backfill.serve.guard import Guard
from backfill.serve.reader import Reader
from backfill.settings import Secret, Settings
from tests.conftest import NOW


@asynccontextmanager
async def serving(
    database_url: str,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    names: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
) -> AsyncIterator[ClientSession]:
    """Serve a database as of `NOW`, and yield a client whose paths are the server's.

    It listens on loopback; with another ``host`` it behaves as if it listened there.
    """
    reader = Reader(Settings(database_url=Secret(database_url)), lambda: NOW)
    app = application(reader, Guard.of(host, token, names, origins))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as client:
            yield client
    finally:
        await runner.cleanup()
        await reader.close()
