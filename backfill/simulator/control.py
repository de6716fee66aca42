"""Control over the wire, for a simulator in another process: its clock, calls and faults."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from backfill.simulator.faults import Fault

if TYPE_CHECKING:
    from backfill.simulator.server import Simulator


class _Clock(msgspec.Struct):
    now: datetime | None


def control_routes(simulator: "Simulator") -> list[web.RouteDef]:
    """Return the endpoints under ``/_sim/``. They ask for no key and count in no quota."""

    async def state(_: web.Request) -> web.Response:
        return _json(
            {
                "now": simulator.now,
                "plan": simulator.plan,
                "calls": len(simulator.calls),
                "faults": simulator.faults,
            }
        )

    async def calls(_: web.Request) -> web.Response:
        return _json(simulator.calls)

    async def set_clock(request: web.Request) -> web.Response:
        simulator.set_now(msgspec.json.decode(await request.read(), type=_Clock).now)
        return await state(request)

    async def inject(request: web.Request) -> web.Response:
        simulator.inject(msgspec.json.decode(await request.read(), type=Fault))
        return await state(request)

    async def clear(request: web.Request) -> web.Response:
        simulator.clear_faults()
        return await state(request)

    return [
        web.get("/_sim/state", state),
        web.get("/_sim/calls", calls),
        web.post("/_sim/clock", _readable(set_clock)),
        web.post("/_sim/faults", _readable(inject)),
        web.delete("/_sim/faults", clear),
    ]


_Handler = Callable[[web.Request], Awaitable[web.Response]]


def _readable(handler: _Handler) -> _Handler:
    """Answer 400 with the reason to a body that can't be read, or meant."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (msgspec.DecodeError, ValueError) as error:
            return web.Response(status=400, text=str(error))

    return handle


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
