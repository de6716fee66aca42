"""The quota: when the next call may be sent, in this process and in all that share the key."""

import asyncio
import math
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
        self._limiter = AsyncLimiter(1, spacing_s(pace))
        held = _UNPACED if self._unlimited else math.ceil(_LATENCY_S / spacing_s(pace))
        self._held = asyncio.Semaphore(held)

    async def slot(self, cost: int) -> None:
        """Wait until a call of this cost may be sent, which the caller then does at once."""
        async with self._held:
            while True:
                late_s = 0.0 if self._unlimited else await self._reach_slot(cost)
                paused_s = await self._ledger.confirm(late_s if late_s > self._tolerance_s else 0.0)
                if paused_s <= 0:
                    return
                await asyncio.sleep(paused_s)

    async def _reach_slot(self, cost: int) -> float:
        """Take a slot, sleep until it comes, and return the seconds by which it was missed."""
        loop = asyncio.get_running_loop()
        for _ in range(cost):
            await self._limiter.acquire()
        due = loop.time() + await self._ledger.take(cost)
        await asyncio.sleep(due - loop.time())
        return loop.time() - due

    async def pause(self, seconds: float) -> None:
        """Stop every process that shares the key for so many seconds (R14)."""
        await self._ledger.pause(seconds)
