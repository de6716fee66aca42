"""How a request ends: with what it asked for, or in one line that says why not; told to the log."""

import asyncio
import socket
import struct
import time
from contextlib import suppress
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from backfill.core.plain import json_text
from backfill.errors import (
    BackfillError,
    BeingLoaded,
    DatabaseError,
    NotKnown,
    Unforeseen,
    UsageError,
)
from backfill.log import told as fit_to_leave
from backfill.serve.html import TYPE, html
from backfill.serve.login import form
from backfill.serve.reader import Reader

READER: Final = web.AppKey("reader", Reader)
BEGUN: Final = web.RequestKey("begun", web.StreamResponse)
"""The answer whose head is on its way, after which there can be no other."""

_AWAY_S: Final = 2
"""After how many seconds it is worth to ask again, where the database is away."""
_LOADING_S: Final = 60
"""The same, where bars are being loaded again."""

_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""For a connection that is closed without waiting for what is unsent: the other side sees that."""

log = structlog.stdlib.get_logger()


@web.middleware
async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer in any case, and log how: never a query, which might hold anything."""
    began_s = time.monotonic()
    transport = request.transport  # of which the server lets go when it stops
    try:
        response = await handler(request)
    except web.HTTPError as refusal:
        response = _of(request, refusal)
    except BeingLoaded as error:
        response = refused(request, 503, str(error), again_s=_LOADING_S)
    except BackfillError as error:
        response = refused(request, _status_of(error), str(error))
    except Exception as error:
        log.exception("serve.failed", path=request.path)
        response = refused(request, 500, str(Unforeseen.of(error)))
    except asyncio.CancelledError:
        if BEGUN in request:
            _break_off(transport)
        raise
    if (begun := request.get(BEGUN)) is not None and begun is not response:
        _break_off(transport)
        response = begun
    log.info(
        "serve.answered",
        method=request.method,
        path=request.path,
        status=response.status,
        ms=round((time.monotonic() - began_s) * 1000),
    )
    return response


def _break_off(transport: asyncio.Transport | None) -> None:
    """Reset a connection: nothing else tells that an answer isn't all there is.

    A proxy may ask by HTTP/1.0, as nginx long did, where an answer ends with the connection: closed
    in order, it would be a whole one.
    """
    if transport is None:
        return
    with suppress(OSError):  # the other side has closed it before
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def refused(request: web.Request, status: int, why: str, *, again_s: int = _AWAY_S) -> web.Response:
    """Return an answer that says in one line why it isn't what was asked for.

    Where it will be there later, it is worth to ask again after ``again_s`` seconds.
    """
    headers = {hdrs.RETRY_AFTER: str(again_s)} if status == 503 else {}
    said = fit_to_leave(why)
    if TYPE not in request.headers.get(hdrs.ACCEPT, ""):
        text = json_text({"error": said})
        return web.json_response(text=text, status=status, headers=headers)
    if status == 401:
        return form(request.path_qs, status=status)
    page = html("refused.html", status=status, why=said)
    return web.Response(text=page, content_type=TYPE, status=status, headers=headers)


def _of(request: web.Request, refusal: web.HTTPError) -> web.Response:
    answer = refused(request, refusal.status, refusal.text or refusal.reason)
    kept = (hdrs.ALLOW, hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE)
    answer.headers.update({name: refusal.headers[name] for name in kept if name in refusal.headers})
    return answer


def _status_of(error: BackfillError) -> int:
    match error:
        case NotKnown():
            return 404
        case UsageError():
            return 400
        case DatabaseError():
            return 503
    return 500
