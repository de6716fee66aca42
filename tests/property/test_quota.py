"""No closed window at the provider ever holds more than the quota, however late anything is (R13).

A world in simulated time: processes that share a key, each with the real pacer, and a provider that
counts by arrival. Calls and answers are late, cut, answered by gateways; processes stall, sleep,
are killed. Then each premise of the proof is broken in one place, and the provider sees it.
"""

import asyncio
import random
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.terms import Quota, Taken
from backfill.core.wire import Kind
from backfill.errors import LimitReached
from backfill.fetch.quota import HEAD_S, Pacer, Slot
from tests.kit import LeapingLoop, WrittenLedger
from tests.ledger import SECOND, Ledger

QUOTAS: Final = (
    "3/2s", "5/60s", "20/3s", "2/1s,7/20s", "8/60s,20/300s", "1/5s", "4/2s,300/900s",
)  # fmt: skip
MOST_LATE_S: Final = 5.0

BROKEN: Final = (
    "a sending is counted twice",
    "a call arrives after its head was due",
    "a gateway's answer is taken for the provider's",
    "a call is written however late",
    "the clock stands still in suspend",
    "a slot is given back of which something was written",
    "a head is noted before it came",
    "a committed slot is lost",
    "the ledger's clock steps and nobody looks",
    "a count is older than its lock",
)


@dataclass
class Provider:
    """Counts by arrival."""

    windows: Sequence[tuple[int, float]]
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    def count(self, at_s: float, cost: int) -> None:
        """Count a call."""
        self.arrivals.append((at_s, cost))

    def overrun(self) -> bool:
        """Whether a closed window held more than it may."""
        self.arrivals.sort()
        for limit, period_s in self.windows:
            held, first = 0, 0
            for at_s, cost in self.arrivals:
                held += cost
                while self.arrivals[first][0] < at_s - period_s:
                    held -= self.arrivals[first][1]
                    first += 1
                if held > limit:
                    return True
        return False


class UnevenLedger(WrittenLedger):
    """The ledger, far away from one process; perhaps broken in one place."""

    def __init__(self, world: "World", process: int) -> None:
        super().__init__(world.quota, world.shared, process=process)
        self._world = world

    def clock_us(self) -> int:
        return super().clock_us() + self._world.ahead_us

    async def take(self, costs: Sequence[int]) -> Taken:
        world = self._world
        await world.delay(0.5)
        if world.broken == "a count is older than its lock":
            seen = [copy(call) for call in self.shared.calls]
            await world.delay(1.0)
            now = list(self.shared.calls)
            self.shared.calls = seen
            taken = await super().take(costs)
            added = [call for call in self.shared.calls if call.id in taken.calls]
            self.shared.calls = now + added
        else:
            taken = await super().take(costs)
        if world.broken == "a committed slot is lost" and world.chance(0.3):
            self.shared.calls = self.shared.calls[: len(self.shared.calls) // 2]
        await world.delay(0.5)
        return taken

    async def note(
        self,
        answered: Sequence[tuple[int, float]],
        unwritten: Sequence[int],
        *,
        leaving: bool = False,
    ) -> None:
        await self._world.delay(0.5)
        await super().note(answered, unwritten, leaving=leaving)


class World:
    """Some processes, one ledger, one provider, in a schedule drawn from a seed."""

    def __init__(self, seed: int, broken: str | None = None) -> None:
        self.random = random.Random(seed)
        self.broken = broken
        self.quota = Quota.parse(self.random.choice(QUOTAS))
        self.shared = Ledger()
        self.ahead_us = 0
        self.provider = Provider([(one.limit, one.period_s) for one in self.quota.windows])
        self._late_s = self.random.choice([0.0, 0.3, MOST_LATE_S])
        self._troubled = self.random.choice([0.0, 0.1, 0.3])
        self._arriving: set[asyncio.Task[None]] = set()

    def chance(self, probability: float) -> bool:
        """Draw whether something happens."""
        return self.random.random() < probability

    async def delay(self, share: float = 1.0) -> None:
        """Be late by some seconds, up to a share of the most."""
        if self._late_s:
            await asyncio.sleep(self.random.uniform(0, share * self._late_s))

    async def play(self) -> None:
        """Let the processes do their work."""
        processes = self.random.randint(1, 8)
        calls = self.random.randint(5, 40)
        running = []
        for number in range(processes):
            process = Process(self, number + 1)
            work = asyncio.ensure_future(process.work(max(1, calls // processes)))
            running.append(work)
            if self.chance(0.3):
                asyncio.get_running_loop().call_later(
                    self.random.uniform(0.1, 30.0), process.kill, work
                )
        if self.broken == "the ledger's clock steps and nobody looks" or self.chance(0.2):
            running.append(asyncio.ensure_future(self._step()))
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*self._arriving)

    async def _step(self) -> None:
        """Set the ledger's clock, forward or back, by more than an answer of its can take.

        Every process has looked at it before.
        """
        await asyncio.sleep(self.random.uniform(12.0, 40.0))
        longest_us = round(max(one.period_s for one in self.quota.windows) * SECOND)
        self.ahead_us += self.random.choice([longest_us + 20 * SECOND, 40 * SECOND, -30 * SECOND])

    def arrive(self, after_s: float, cost: int) -> None:
        """Have a call counted after a while, whatever becomes of its sender."""

        async def arriving() -> None:
            await asyncio.sleep(after_s)
            self.provider.count(asyncio.get_running_loop().time(), cost)

        task = asyncio.ensure_future(arriving())
        self._arriving.add(task)
        if self.broken == "a sending is counted twice" and self.chance(0.5):
            self._arriving.add(asyncio.ensure_future(arriving()))


class Process:
    """One process with its pacer, and calls that go wrong in all ways they may."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._slept_s = 0.0
        self.pacer = Pacer(world.quota, UnevenLedger(world, number), self.clock)
        if world.broken == "the ledger's clock steps and nobody looks":
            self.pacer._clocks.parted = lambda *_: False  # type: ignore[method-assign]

    def clock(self) -> float:
        """The process's own clock, which runs on in suspend unless that is what is broken."""
        return asyncio.get_running_loop().time() - self._slept_s

    def kill(self, work: "asyncio.Future[None]") -> None:
        """End it at once: nothing more is told to anybody."""
        work.cancel()
        for task in (self.pacer._taking, self.pacer._noting):
            if task is not None:
                task.cancel()

    async def work(self, calls: int) -> None:
        """Make some calls, a few at a time."""
        queue = [self._cost() for _ in range(calls)]

        async def worker() -> None:
            while queue:
                await self._call(queue.pop())

        async with asyncio.TaskGroup() as group:
            for _ in range(self._world.random.randint(1, 8)):
                group.create_task(worker())
        await self.pacer.__aexit__(None, None, None)

    def _cost(self) -> int:
        cheapest = self._world.quota.burst or 1
        return self._world.random.choice([1, 1, 1, min(2, cheapest), min(5, cheapest)])

    async def _call(self, cost: int) -> None:
        world = self._world
        try:
            slot = await self.pacer.slot(cost, world.random.choice(list(Kind)))
        except LimitReached:
            return
        while await self._held_up(slot):
            self.pacer.unwritten(slot)
            slot = await self.pacer.slot(cost)
        await self._sent(slot, cost)

    async def _held_up(self, slot: Slot) -> bool:
        """Stall before the call is written, now and then; whether it is too late then."""
        world = self._world
        if world.chance(world._troubled):
            slept_s = world.random.uniform(0, 90)
            await asyncio.sleep(slept_s)
            if world.broken == "the clock stands still in suspend":
                self._slept_s += slept_s
        return self.pacer.late(slot) and world.broken != "a call is written however late"

    async def _sent(self, slot: Slot, cost: int) -> None:
        world = self._world
        way_s = world.random.uniform(0, world._late_s)
        if not world.chance(world._troubled):
            world.arrive(way_s, cost)
            await asyncio.sleep(way_s)
            if world.broken == "a head is noted before it came":
                self.pacer._notes.answered.append((slot.call or 0, self.clock() - 20))
            await world.delay()
            self.pacer.answered(slot)
            return
        if world.broken == "a call arrives after its head was due":
            world.arrive(world.random.uniform(HEAD_S, 4 * HEAD_S), cost)
            return
        if world.broken == "a slot is given back of which something was written":
            self.pacer.unwritten(slot)
        if world.chance(0.3):
            return  # it never arrives
        # The origin counts it at any time until its head is due; whoever answers may be a gateway.
        left_s = max(0.0, self.pacer.head_s(slot))
        world.arrive(world.random.uniform(0, left_s), cost)
        await world.delay(0.2)
        if world.broken == "a gateway's answer is taken for the provider's":
            self.pacer.answered(slot)


def overruns(seed: int, broken: str | None = None) -> bool:
    """Play a world and tell whether the provider saw a call too many."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:

        async def play() -> World:
            world = World(seed, broken)
            await world.play()
            return world

        return runner.run(play()).provider.overrun()


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_no_closed_window_at_the_provider_ever_holds_more_than_the_quota(seed: int) -> None:
    assert not overruns(seed)


@pytest.mark.soak
def test_no_window_overflows_in_thousands_of_schedules() -> None:
    assert [seed for seed in range(4000) if overruns(seed)] == []


@pytest.mark.parametrize("broken", BROKEN)
def test_each_premise_of_the_proof_is_needed(broken: str) -> None:
    assert any(overruns(seed, broken) for seed in range(60))
