"""The quota: when the next call may be sent, in this process and in all that share the key."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable
from typing import Final, Protocol

from aiolimiter import AsyncLimiter

from backfill.core.terms import Quota, Window

MARGIN_S: Final = 0.1
MARGIN_SHARE: Final = 0.02
_LATENCY_S: Final = 0.25
_UNPACED: Final = 64


class SlotLedger(Protocol):
    """The clock and memory that every process with the same key shares: the database."""

    async def take(self, cost: int) -> float:
        """Reserve the next slot for a call of this cost and return the seconds until it."""
        ...

    async def confirm(self, late_s: float) -> float:
        """Return the seconds that calls are still paused for, just before one is sent.

        Slots not yet taken move by ``late_s``, the seconds by which this call missed its own.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds from now."""
        ...


def margin_s(window: Window) -> float:
    """Return what a window is stretched by, in seconds: room for calls that arrive unevenly."""
    return max(MARGIN_SHARE * window.period_s, MARGIN_S)


def spacing_s(window: Window) -> float:
    """Return the seconds between two calls that keep within a window."""
    return (window.period_s + margin_s(window)) / window.limit


class _Latency:
    """How long the ledger takes to answer: the least of it delays all calls alike."""

    def __init__(self) -> None:
        self._took_s: deque[float] = deque(maxlen=20)

    async def of(self, question: Awaitable[float]) -> tuple[float, float]:
        """Return the answer, and the seconds by which it took longer than the quickest one."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        answer = await question
        self._took_s.append(loop.time() - asked)
        return answer, self._took_s[-1] - min(self._took_s)


class Pacer:
    """Lets calls through so that no sliding window ever holds more than the quota (R13).

    A bucket of N calls that refills in W seconds lets 2N - 1 calls through in W: the N it holds
    and those that trickle in. So the bucket holds one call, and the calls are spread evenly: one
    every (W + m) / N seconds. Any N + 1 of them then span at least W + m on this side, and W at the
    provider, as long as no two calls differ by more than m in how late they arrive. m is 2 % of
    the window and at least 100 ms; a call that leaves much later than its slot moves those after
    it. The price is m / W of the quota: 3.2 % at 20/3s, 2 % at 5/60s.

    aiolimiter paces the process; a slot in the ledger, taken after that, paces all processes, and
    this run after the one before it. A slot is held from when it is taken until its call is sent,
    and only as many are held at once as the ledger's latency asks for: a run that dies takes few
    with it, and calls go out in the order in which they asked.
    """

    def __init__(self, quota: Quota, ledger: SlotLedger) -> None:
        self._ledger = ledger
        self._unlimited = not quota.windows
        pace = quota.pace or Window(1, _LATENCY_S)
        self._tolerance_s = margin_s(pace) / 4
        self._taking, self._confirming = _Latency(), _Latency()
        self._limiter = AsyncLimiter(1, spacing_s(pace))
        held = _UNPACED if self._unlimited else math.ceil(_LATENCY_S / spacing_s(pace))
        self._held = asyncio.Semaphore(held)

    async def slot(self, cost: int) -> float:
        """Wait until a call of this cost may be sent, which the caller then does at once.

        Returns the time, on the loop's clock, at which the ledger takes it to be sent.
        """
        async with self._held:
            while True:
                late_s = 0.0 if self._unlimited else await self._reach_slot(cost)
                paused_s, late_s = await self._confirm(late_s)
                if paused_s <= 0:
                    return asyncio.get_running_loop().time() - late_s
                await asyncio.sleep(paused_s)

    async def sent(self, slot: float) -> None:
        """Tell the ledger if a call left late: a connection had to be made, the loop was busy."""
        missed_s = asyncio.get_running_loop().time() - slot - self._tolerance_s
        if missed_s > 0 and not self._unlimited:
            await self._ledger.confirm(missed_s)

    async def _reach_slot(self, cost: int) -> float:
        """Take a slot, sleep until it comes, and return the seconds by which it was missed.

        A slow answer may have been slow on the way there, then the wait counts from now, or on the
        way back, then the slot came earlier: sleep for the one and report the other.
        """
        loop = asyncio.get_running_loop()
        for _ in range(cost):
            await self._limiter.acquire()
        wait_s, slow_s = await self._taking.of(self._ledger.take(cost))
        due = loop.time() + wait_s
        await asyncio.sleep(wait_s)
        return loop.time() - due + slow_s

    async def _confirm(self, late_s: float) -> tuple[float, float]:
        """Look for a pause, and tell the ledger by how much the slot is missed.

        Returns what is left of the pause, and how late the call is that the ledger doesn't know of.
        """
        missed_s = max(0.0, late_s - self._tolerance_s)
        paused_s, slow_s = await self._confirming.of(self._ledger.confirm(missed_s))
        return paused_s, late_s - missed_s + slow_s

    async def pause(self, seconds: float) -> None:
        """Stop every process that shares the key for so many seconds (R14)."""
        await self._ledger.pause(seconds)
