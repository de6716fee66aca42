"""The simulator as a server on loopback: key, quota, clock and faults around any wire."""

import asyncio
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal, Self

import msgspec
from aiohttp import web

from backfill.simulator.actions import IN_WORDS, Action
from backfill.simulator.calls import Call
from backfill.simulator.control import control_routes
from backfill.simulator.delivery import Payload, compressed, deliver
from backfill.simulator.faults import Fault, Faults, Way
from backfill.simulator.mangle import mangle_bytes, mangled
from backfill.simulator.market.market import Market
from backfill.simulator.quota import SlidingWindows
from backfill.simulator.wire.base import Answer, Ask, Blob, Plan, Wire, epoch_ms
from backfill.simulator.wire.known import WIRES


class Simulator:
    """A provider on loopback: one market, by the wire protocol of the provider that it plays.

    Use it as an async context manager in the event loop that it shall run in, or through
    `run_in_thread`. Its methods may be called from any thread.

    Parameters
    ----------
    provider
        Whose protocol it speaks.
    market
        What it serves; the default market if None.
    key
        The one API key that is accepted, by a provider that asks for one.
    quota
        ``unlimited``, or sliding windows as ``8/60s,800/1d``, in the provider's unit.
    plan
        ``unlimited`` is real time and all history; ``free`` the last two years up to yesterday.
    now
        The market's clock, standing still; None for the real one. The quota keeps real time.
    retry_after
        Whether a 429 names its wait in seconds or as an HTTP date.
    port
        Where to listen; 0 takes any free port.
    tells_time
        Whether the ``Date`` of an answer is the market's; otherwise it is the real one.
    """

    def __init__(
        self,
        *,
        provider: str = "massive",
        market: Market | None = None,
        key: str = "sim-key",
        quota: str = "unlimited",
        plan: Plan = "unlimited",
        now: datetime | None = None,
        retry_after: Literal["seconds", "date"] = "seconds",
        port: int = 0,
        tells_time: bool = False,
    ) -> None:
        self.wire: Wire = WIRES[provider]
        self.market = market or Market()
        self.key = key
        self.plan = plan
        self.calls: list[Call] = []
        self._quota = SlidingWindows.parse(quota)
        self._faults = Faults()
        self._now = now
        self._retry_after = retry_after
        self._port = port
        self._tells_time = tells_time
        self._runner: web.AppRunner | None = None
        self._url = ""
        self._on_their_way: set[asyncio.Task[Answer | None]] = set()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; empty before the start."""
        return self._url

    @property
    def now(self) -> datetime:
        """What the market's clock shows."""
        return self._now or datetime.now(UTC)

    @property
    def stands_still(self) -> bool:
        """Whether the market's clock was set, and stands still."""
        return self._now is not None

    def set_now(self, now: datetime | None) -> None:
        """Set the market's clock; None lets it run with the real one."""
        self._now = now

    @property
    def faults(self) -> list[Fault]:
        """The faults in force."""
        return self._faults.in_force

    def inject(self, fault: Fault) -> None:
        """Let calls that match meet a fault, unless one injected before has them.

        Raises
        ------
        ValueError
            If the provider's protocol has no words for it.
        """
        if fault.action in IN_WORDS and fault.action not in self.wire.lies:
            raise ValueError(f"{self.wire.name} can't say {fault.action.value}")
        self._faults.inject(fault)

    def clear_faults(self) -> None:
        """Withdraw all faults."""
        self._faults.clear()

    async def __aenter__(self) -> Self:
        # The first look at a market draws its calendars: half a second that would stall a call.
        self.market.sessions(self.market.tickers[0])
        app = web.Application()
        app.add_routes(control_routes(self))
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()
        on_their_way = list(self._on_their_way)
        for arrival in on_their_way:
            arrival.cancel()
        await asyncio.gather(*on_their_way, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        key = self.wire.key_in(request.headers, query)
        seen = self.wire.see(request.path, query)
        received_s = time.monotonic()
        call = Call(
            received_s,
            datetime.now(UTC),
            request.method,
            request.path,
            query,
            seen.kind,
            about=seen.about,
            cost=seen.cost,
            received_s=received_s,
        )
        way = self._faults.way(call, self.now)
        arrival = self._sent(call, key, way)
        refused, fault = None, way.fault
        if fault is None or fault.counted != "after":
            refused = await asyncio.shield(arrival)
        ask = self._ask(call)
        if refused is None and fault is None:
            fault = self._faults.hit(call, self.now)
        call.fault = fault.action.value if fault else None
        payload = _payload(refused) if refused else self._answered(request.method, ask, fault)
        if way.back_s:
            await asyncio.sleep(way.back_s)
        if fault is None or fault.action not in {Action.RESET, Action.HANG}:
            call.status, call.head_s = payload.status, time.monotonic()
        return await deliver(request, await compressed(request, self._dated(payload)), fault)

    def _sent(self, call: Call, key: str | None, way: Way) -> "asyncio.Task[Answer | None]":
        """Send a call on its way in: it arrives even when its sender has left meanwhile."""
        task = asyncio.create_task(self._arrive(call, key, way))
        self._on_their_way.add(task)
        task.add_done_callback(self._on_their_way.discard)
        return task

    async def _arrive(self, call: Call, key: str | None, way: Way) -> Answer | None:
        """Note a call at the end of its way, and return why it is not admitted, if it isn't."""
        if way.in_s:
            await asyncio.sleep(way.in_s)
        call.at_s, call.at = time.monotonic(), datetime.now(UTC)
        call.counted = way.fault is None or way.fault.counted != "never"
        self.calls.append(call)
        if not call.counted:
            return None
        if key is not None and key != self.key:
            return self.wire.refusal(401, self._ask(call))
        wait_s = self._quota.admit(call.at_s, call.cost)
        call.over_quota = wait_s > 0
        return self._too_many(call, wait_s) if call.over_quota else None

    def _ask(self, call: Call) -> Ask:
        return Ask(
            path=call.path,
            query=call.query,
            market=self.market,
            now_ms=epoch_ms(self.now),
            plan=self.plan,
            base_url=self._url,
            request_id=f"{len(self.calls):032x}",
            lacks=self._faults.lacks(call, self.now),
            used=self._quota.used(call.at_s),
        )

    def _dated(self, payload: Payload) -> Payload:
        """Return an answer with the date that the market's clock shows, where that is told."""
        if not self._tells_time:
            return payload  # the server dates it
        date = format_datetime(self.now.astimezone(UTC), usegmt=True)
        return replace(payload, headers={"Date": date} | payload.headers)

    def _too_many(self, call: Call, wait_s: float) -> Answer:
        seconds = math.ceil(wait_s)
        sent = self.now.astimezone(UTC) if self._tells_time else datetime.now(UTC)
        until = sent + timedelta(seconds=seconds + 1)  # a date has no fractions
        in_seconds = self._retry_after == "seconds"
        retry_after = str(seconds) if in_seconds else format_datetime(until, usegmt=True)
        refused = self.wire.refusal(429, self._ask(call))
        return replace(refused, headers={**refused.headers, "Retry-After": retry_after})

    def _answered(self, method: str, ask: Ask, fault: Fault | None) -> Payload:
        """Return the true answer, or what a fault makes of it."""
        if fault is None:
            return _payload(self.wire.answer(method, ask))
        if fault.action is Action.STATUS:
            payload = _payload(self.wire.refusal(fault.status, ask))
            return replace(
                payload,
                headers=payload.headers | fault.headers,
                data=payload.data if fault.body is None else fault.body.encode(),
            )
        payload = _payload(mangled(fault, self.wire, method, ask))
        data, headers = mangle_bytes(fault, self.wire, payload.data)
        return replace(payload, headers=payload.headers | dict(headers), data=data)


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
    failed: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve_until_stopped() -> None:
        async with simulator:
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve_until_stopped())
        except OSError as error:  # the port is taken
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="simulator")
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        yield simulator
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def _payload(reply: Answer) -> Payload:
    if isinstance(reply.body, Blob):
        data = reply.body.data
        version = hashlib.md5(data, usedforsecurity=False).hexdigest()
        told = {"Content-Type": reply.body.content_type, "ETag": f'"{version}"'}
        return Payload(reply.status, told | dict(reply.headers), data)
    headers = {"Content-Type": "application/json"} | dict(reply.headers)
    return Payload(reply.status, headers, msgspec.json.encode(reply.body))
