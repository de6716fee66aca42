"""The server from its start to its end: it listens, outlasts its database, and leaves in order."""

from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from backfill.errors import DatabaseError, LoginRefused, SchemaMismatch, UsageError
from backfill.fetch.stop import StopSignal
from backfill.serve.app import application
from backfill.serve.guard import Guard
from backfill.serve.reader import Reader
from backfill.settings import Settings

_PATIENCE_S: Final = 5.0
"""How long requests under way may take to end, once the server shall."""

log = structlog.stdlib.get_logger()


async def serve(
    settings: Settings, host: str, port: int, stop: StopSignal, tell: Callable[[str], None]
) -> None:
    """Serve until a signal is set; ``tell`` is told the URL once requests are taken.

    A database that is away is waited for: meanwhile requests are told so.

    Raises
    ------
    UsageError
        If the settings don't fit, the port is taken, or the host is none of this machine.
    LoginRefused, SchemaMismatch
        If the database is there, and no wait mends it.
    """
    token = settings.serve_token
    guard = Guard.of(
        host, token.reveal() if token else None, settings.serve_hosts, settings.serve_origins
    )
    reader = Reader(settings)
    runner = web.AppRunner(
        application(reader, guard),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_PATIENCE_S,
    )
    try:
        try:
            await reader.database()
        except (LoginRefused, SchemaMismatch):
            raise
        except DatabaseError as error:
            log.warning("serve.database_away", message=str(error))
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UsageError(f"can't listen at {host}, port {port}: {error.strerror}") from None
        tell(_url(host, runner.addresses[0][1]))
        await stop.wait()
    finally:
        await runner.cleanup()
        await reader.close()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
