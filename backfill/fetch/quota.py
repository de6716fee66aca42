"""The quota: which call may be sent when, in this process and in all that share the key (R13).

A provider counts a call at some instant between its sending and the head of its answer; nobody but
the provider knows when. So:

    *A call may be sent only when, for every window (N in W seconds), the calls still open plus
    those whose answer's head came within the last W, each with its cost, leave room for it.*

**Then no closed window of W seconds at the provider ever holds more than N.** Take the calls that
the provider counted in such a window ``[x, x + W]``, and of these the one that was granted last, at
``g``. It was counted after it was granted: ``g ≤ x + W``. Each other was granted before. When that
last one was granted, it was either open, or its head had come at some ``h``, not before it was
counted: ``h ≥ x``, so ``h + W ≥ x + W ≥ g``. Either way the rule counted it. So the rule counted
them all, and their costs are N at most. ∎

Nothing was said of how long anything takes. A late call or answer costs throughput, N calls in W
and the time from grant to head; it never costs a 429. The proof stands on these premises:

1. *One sending is counted once.* The library resends nothing and follows no redirect
   (`backfill.fetch.client`).
2. *A call arrives before its head is due, 30 s from its grant, or never.* Then an open call stops
   being one, and counts W more. So a connection that is given up is aborted, not closed: what it
   still held is not delivered. An answer that may be a gateway's (`GATEWAYS`) tells nothing of the
   origin, which may count later: it leaves its call open, like no answer at all.
3. *A call is written within 5 s of asking for its slot*, by a clock that runs on in suspend
   (`running_s`); later it asks again, and the slot of which nothing was written is given back.
4. *Committed slots aren't lost, and the ledger's clock doesn't step.* It is asked for its time with
   every slot: whoever sees it part from its own by more than `CLOCK_ALLOWANCE` since an earlier
   look has every call count anew, and the key paused (`Clocks`). By that allowance, for clocks of
   different rates, every window is held longer; it is the only constant.

The ledger grants by count and clock alone, under a lock (`backfill.store.quota`). aiolimiter is the
bucket of this process, one a window, sized as the user set the quota. It shapes what the process
asks for and proves nothing: a bucket of N that refills in W lets 2 N - 1 calls through in W.
"""

# Over 300 lines: a fifth is the proof that the rest keeps; it has to stand beside it.

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from aiolimiter import AsyncLimiter

from backfill.core.terms import CLOCK_ALLOWANCE, Quota, Taken
from backfill.core.wire import Kind
from backfill.errors import DatabaseError, QuotaUsedUp

HEAD_S: Final = 30.0
"""From its grant, how long a call's head is waited for; the ledger's functions know it too."""
WRITE_S: Final = 5.0
"""From asking for its slot, within how long a call must be written."""
PATIENCE_S: Final = 900.0
"""A wait of more than so many seconds ends the lane."""
GLANCE_S: Final = 0.5
"""How long a call without a quota to keep goes by the last look for a pause."""
GATEWAYS: Final = frozenset({408, 502, 503, 504, *range(520, 531)})
"""What a gateway answers on its own, too; from 520 on those of a well-known one."""
_CLOSE_S: Final = 1.0
_STAMP_S: Final = 1e-6
"""How finely the ledger's clock is read."""

log = structlog.stdlib.get_logger()


def running_s() -> float:
    """Return a clock that no one sets and that runs on in suspend, in seconds.

    The plain monotonic clock stands still in suspend on Linux and, as Python reads it, on macOS,
    whose CLOCK_MONOTONIC runs on; on Windows it runs on by itself.
    """
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SlotLedger(Protocol):
    """What every process with the same key shares: the calls that may still count, and a clock."""

    async def take(self, costs: Sequence[int]) -> Taken:
        """Take slots for calls of these costs, the first of them first."""
        ...

    async def note(
        self,
        answered: Sequence[tuple[int, float]],
        unwritten: Sequence[int],
        *,
        leaving: bool = False,
    ) -> None:
        """Note answers, each with the seconds since its head came, and give slots back.

        A process that is ``leaving`` waits for no slot any more.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds from now."""
        ...

    async def doubt(self, pause_s: float) -> None:
        """Count every call anew from now on, and let nobody send for so many seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Slot:
    """Leave to send one call, which was asked for at ``asked_s`` by the process's clock.

    ``call`` is its number in the ledger, None where the quota is unlimited.
    """

    call: int | None
    asked_s: float


class Clocks:
    """Whether the ledger's clock goes on beside this process's own.

    The ledger reads its clock at some instant between a question and its answer: that bounds how
    far the two are apart, and each look narrows the bounds of those before it, which widen with
    time by the allowance. Bounds that contradict each other tell that one was set, or stood still.
    """

    def __init__(self) -> None:
        self._apart_s: tuple[float, float] | None = None
        self._looked_s = 0.0

    def parted(self, asked_s: float, answered_s: float, ledger_s: float) -> bool:
        """Take a look into account: what the ledger said between two instants of one's own."""
        low_s, high_s = ledger_s - answered_s - _STAMP_S, ledger_s - asked_s + _STAMP_S
        before, self._apart_s = self._apart_s, (low_s, high_s)
        passed_s, self._looked_s = answered_s - self._looked_s, asked_s
        if before is None:
            return False
        drift_s = CLOCK_ALLOWANCE * passed_s
        least_s, most_s = before[0] - drift_s, before[1] + drift_s
        if low_s > most_s or high_s < least_s:
            return True
        self._apart_s = max(low_s, least_s), min(high_s, most_s)
        return False


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits for its slot."""

    cost: int
    slot: asyncio.Future[Slot]


@dataclass(slots=True)
class _Notes:
    """What the ledger is still to be told: heads by when they came, and slots given back."""

    answered: list[tuple[int, float]] = field(default_factory=list)
    unwritten: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.answered or self.unwritten)


class Pacer:
    """Lets the calls of a process through, as the ledger allows it.

    Calls for bars go before others, else first come first served. One task takes the slots for all
    that wait, as many at a time as the ledger has room for, and sleeps when told to; another
    notes answers, several at a time where they meet. Both live as long as there is something to do.

    Parameters
    ----------
    quota
        The windows; without any, calls wait for pauses alone, and the ledger is looked at twice a
        second for those of others.
    ledger
        What all processes share.
    clock
        This process's own, in seconds; it runs on in suspend.
    """

    def __init__(
        self, quota: Quota, ledger: SlotLedger, clock: Callable[[], float] = running_s
    ) -> None:
        self._quota = quota
        self._ledger = ledger
        self._clock = clock
        self._clocks = Clocks()
        self._buckets = [AsyncLimiter(w.limit, w.period_s) for w in quota.windows]
        self._waiting: dict[Kind, deque[_Waiting]] = {kind: deque() for kind in Kind}
        self._notes = _Notes()
        self._taking: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._queued = False
        self._free_until_s = -math.inf
        self._looks_count_from_s = -math.inf

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the ledger what it doesn't know yet; what that can't take in time frees itself."""
        if self._taking is not None:
            self._taking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(
                    *(task for task in (self._taking, self._noting) if task is not None),
                    return_exceptions=True,
                )
                if self._notes or self._queued:
                    await self._tell(leaving=self._queued)

    @property
    def quota(self) -> Quota:
        """The windows that hold."""
        return self._quota

    @property
    def proven(self) -> bool:
        """Whether there is a quota to keep: then a 429 tells that somebody else uses the key."""
        return bool(self._quota.windows)

    async def slot(self, cost: int, kind: Kind = Kind.bars) -> Slot:
        """Wait until a call of this cost may be sent, which the caller then does at once.

        Raises
        ------
        UsageError
            If no window ever holds a call of this cost.
        QuotaUsedUp
            If it would wait for more than a quarter of an hour.
        DatabaseError
            If the ledger can't be asked.
        """
        self._quota.check(cost)
        if (now_s := self._clock()) < self._free_until_s:
            return Slot(None, now_s)
        waiting = _Waiting(cost, asyncio.get_running_loop().create_future())
        self._waiting[kind].append(waiting)
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take())
            self._taking.add_done_callback(self._taken)
        try:
            return await waiting.slot
        except asyncio.CancelledError:
            came = waiting.slot.done() and not waiting.slot.cancelled()
            if came and waiting.slot.exception() is None:
                self.unwritten(waiting.slot.result())
            raise

    def late(self, slot: Slot) -> bool:
        """Whether a call may not be written any more: it has to ask again."""
        return self._clock() - slot.asked_s > WRITE_S

    def head_s(self, slot: Slot) -> float:
        """Return how long the head of a call's answer may still be waited for, in seconds."""
        return slot.asked_s + HEAD_S - self._clock()

    def answered(self, slot: Slot) -> None:
        """Have it noted that the head of an answer, not a gateway's, came just now."""
        if slot.call is not None:
            self._notes.answered.append((slot.call, self._clock()))
            self._note()

    def unwritten(self, slot: Slot) -> None:
        """Give a slot back: nothing of its call was written."""
        if slot.call is not None:
            self._notes.unwritten.append(slot.call)
            self._note()

    async def pause(self, seconds: float) -> None:
        """Stop every process that shares the key for so many seconds (R14)."""
        self._free_until_s = -math.inf
        self._looks_count_from_s = math.inf  # one that is under way may miss it
        try:
            await self._ledger.pause(seconds)
        finally:
            self._looks_count_from_s = self._clock()

    def _note(self) -> None:
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        while self._notes:
            await self._tell()

    async def _tell(self, *, leaving: bool = False) -> None:
        """Tell the ledger what there is to tell; what it never hears of frees itself later."""
        notes, self._notes = self._notes, _Notes()
        now_s = self._clock()
        try:
            await self._ledger.note(
                [
                    # A clock that is fast by the allowance must not date a head too early.
                    (call, (now_s - head_s) * (1 - CLOCK_ALLOWANCE))
                    for call, head_s in notes.answered
                ],
                notes.unwritten,
                leaving=leaving,
            )
        except DatabaseError as error:
            log.warning("quota.not_noted", message=str(error))

    async def _take(self) -> None:
        """Take slots until nobody waits, nor has come while the ledger was told so."""
        while (asking := self._asking()) or self._queued:
            if not asking:
                self._queued = False
                await self._tell(leaving=True)
                continue
            wait_s = await self._ask(asking)
            if wait_s > PATIENCE_S:
                until = datetime.now(UTC) + timedelta(seconds=wait_s)
                raise QuotaUsedUp(
                    f"the quota ({self._quota}) is used up, or the provider asked to be left "
                    "alone: the next call may be sent at "
                    f"{until:%Y-%m-%dT%H:%M:%SZ}",
                    wait_s,
                )
            await asyncio.sleep(wait_s)

    def _taken(self, task: asyncio.Task[None]) -> None:
        """Tell those who still wait what went wrong."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        for queue in self._waiting.values():
            while queue:
                call = queue.popleft()
                if not call.slot.done():
                    call.slot.set_exception(error)

    def _asking(self) -> list[_Waiting]:
        """Return the calls to ask for, in their order: as many as the buckets have room for.

        One at least: how long it is to wait the ledger knows better.
        """
        asking: list[_Waiting] = []
        cost = 0
        for kind in Kind:
            queue = self._waiting[kind]
            while queue and queue[0].slot.done():
                queue.popleft()
            for call in queue:
                if call.slot.done():
                    continue
                cost += call.cost
                if asking and not all(bucket.has_capacity(cost) for bucket in self._buckets):
                    return asking
                asking.append(call)
        return asking

    async def _ask(self, asking: Sequence[_Waiting]) -> float:
        """Take what there is, and return after how many seconds to ask for the rest."""
        asked_s = self._clock()
        self._queued = True  # for all that is known, should the question fail
        taken = await self._ledger.take([call.cost for call in asking])
        self._queued = len(taken.calls) < len(asking)
        if self.proven and self._clocks.parted(asked_s, self._clock(), taken.at_s):
            log.warning("quota.clocks_parted", ledger_s=taken.at_s)
            self._notes.unwritten += taken.calls
            await self._tell()
            await self._ledger.doubt(self._doubt_s())
            return 0.0
        for call, number in zip(asking, taken.calls, strict=False):
            for bucket in self._buckets:
                # A slot that is given back leaves its tokens taken. Waited for here, tokens would
                # let the next slot grow too old to be written in, and every one after it.
                if bucket.has_capacity(call.cost):
                    await bucket.acquire(call.cost)
            slot = Slot(number if self.proven else None, asked_s)
            if call.slot.done():
                self.unwritten(slot)
            else:
                call.slot.set_result(slot)
        if not (self.proven or taken.wait_s) and asked_s >= self._looks_count_from_s:
            self._free_until_s = asked_s + GLANCE_S
        return taken.wait_s

    def _doubt_s(self) -> float:
        """Return how long a key is paused whose ledger's clock was moved.

        Calls that left the ledger too early must leave the provider's longest window as well, and
        those that were open may arrive until their heads are due. A window of more than a quarter
        of an hour is not waited for: it has all the calls that the ledger still knew count anew.
        """
        held_s = [HEAD_S + window.held_s for window in self._quota.windows]
        return max((one for one in held_s if one <= PATIENCE_S), default=PATIENCE_S)
