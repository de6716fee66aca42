"""How an answer reaches the client: whole and compressed, or as a fault has it."""

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from backfill.simulator.actions import Action
from backfill.simulator.faults import Fault

_GZIP_FROM: Final = 1_000
_THREAD_FROM: Final = 100_000
_BLOCK: Final = 2**20
_AS_IT_IS: Final = {"application/zip", "application/gzip"}
"""What is packed already."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Payload:
    """A status, headers and the bytes of a body."""

    status: int
    headers: dict[str, str]
    data: bytes


async def compressed(request: web.Request, payload: Payload) -> Payload:
    """Return the payload as gzip where the client takes it and there is something to gain."""
    if (
        len(payload.data) < _GZIP_FROM
        or "Content-Encoding" in payload.headers
        or payload.headers.get("Content-Type") in _AS_IT_IS
        or "gzip" not in request.headers.get("Accept-Encoding", "")
    ):
        return payload
    if len(payload.data) < _THREAD_FROM:
        data = gzip.compress(payload.data, 1)
    else:
        data = await asyncio.to_thread(gzip.compress, payload.data, 1)
    return Payload(payload.status, payload.headers | {"Content-Encoding": "gzip"}, data)


async def deliver(
    request: web.Request, payload: Payload, fault: Fault | None
) -> web.StreamResponse:
    """Send a payload, in the way that the fault prescribes."""
    if fault is None or fault.action not in _DELIVERIES:
        return web.Response(status=payload.status, headers=payload.headers, body=payload.data)
    return await _DELIVERIES[fault.action](request, payload, fault)


async def _reset(request: web.Request, payload: Payload, _: Fault) -> web.StreamResponse:
    _abort(request)
    return web.Response(status=payload.status)


async def _reset_mid_body(request: web.Request, payload: Payload, _: Fault) -> web.StreamResponse:
    response = await _send_half(request, payload)
    _abort(request)
    return response


async def _truncate(request: web.Request, payload: Payload, _: Fault) -> web.StreamResponse:
    response = await _send_half(request, payload)
    if request.transport:
        request.transport.close()
    return response


async def _stall(request: web.Request, payload: Payload, fault: Fault) -> web.StreamResponse:
    response = await _send_half(request, payload)
    await asyncio.sleep(fault.stall_s)
    with suppress(ConnectionError):  # a client that has waited long enough
        await response.write(payload.data[len(payload.data) // 2 :])
    return response


async def _hang(_request: web.Request, _payload: Payload, _: Fault) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError  # the client leaves, or the server stops: both cancel


async def _drip(request: web.Request, payload: Payload, fault: Fault) -> web.StreamResponse:
    async def drops() -> AsyncIterator[bytes]:
        step = max(1, round(fault.bytes_per_s / 10))
        for at in range(0, len(payload.data), step):
            yield payload.data[at : at + step]
            await asyncio.sleep(step / fault.bytes_per_s)

    length = {"Content-Length": str(len(payload.data))}
    return await _stream(request, payload.headers | length, drops())


async def _gzip_bomb(request: web.Request, payload: Payload, fault: Fault) -> web.StreamResponse:
    async def blocks() -> AsyncIterator[bytes]:
        packer = zlib.compressobj(9, wbits=31)
        yield packer.compress(b" " * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
        again = zlib.compressobj(9, wbits=-15)
        # After a full flush a block depends on nothing before it: the same bytes do again.
        block = again.compress(b" " * _BLOCK) + again.flush(zlib.Z_FULL_FLUSH)
        for _ in range(1, fault.size // _BLOCK):
            yield block

    return await _stream(request, payload.headers | {"Content-Encoding": "gzip"}, blocks())


async def _enormous(request: web.Request, payload: Payload, fault: Fault) -> web.StreamResponse:
    async def blocks() -> AsyncIterator[bytes]:
        yield b'{"status":"OK","results":['
        for _ in range(fault.size // _BLOCK):
            yield b" " * _BLOCK

    plain = {name: said for name, said in payload.headers.items() if name != "Content-Encoding"}
    return await _stream(request, plain, blocks())


_DELIVERIES: Final[
    dict[Action, Callable[[web.Request, Payload, Fault], Awaitable[web.StreamResponse]]]
] = {
    Action.RESET: _reset,
    Action.RESET_MID_BODY: _reset_mid_body,
    Action.TRUNCATE: _truncate,
    Action.STALL: _stall,
    Action.HANG: _hang,
    Action.DRIP: _drip,
    Action.GZIP_BOMB: _gzip_bomb,
    Action.ENORMOUS_BODY: _enormous,
}


async def _send_half(request: web.Request, payload: Payload) -> web.StreamResponse:
    length = {"Content-Length": str(len(payload.data))}
    response = web.StreamResponse(status=payload.status, headers=payload.headers | length)
    await response.prepare(request)
    await response.write(payload.data[: len(payload.data) // 2])
    return response


async def _stream(
    request: web.Request, headers: dict[str, str], chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    with suppress(ConnectionError):  # a client that has seen enough
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
    return response


def _abort(request: web.Request) -> None:
    """Close with a TCP reset rather than an end of stream."""
    if request.transport:
        request.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
        )
        request.transport.abort()
