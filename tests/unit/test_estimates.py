"""At a fifth of a load, of every kind, the estimate of the rest is within 30 % of the truth.

The loads are played in simulated time, with the real pacer and the real gauge: every time is what
the load says, and no clock of this machine is looked at.
"""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from backfill.core.estimate import seconds_left
from backfill.core.terms import Quota
from backfill.core.wire import Kind
from backfill.fetch.busy import Writes
from backfill.fetch.flight import Flight
from backfill.fetch.gauge import Gauge
from backfill.fetch.quota import Pacer
from tests.kit import LeapingLoop, WrittenLedger
from tests.ledger import Ledger

WRITERS = 2


@dataclass(frozen=True)
class Load:
    """A load of one lane: what was planned, and what comes of it.

    ``streams`` are numbers of pages, as planned; a page reaches ``reach`` times as far as planned.
    ``unknown`` of the streams, every so many, end at their first answer, after a look-up. A slot
    brings ``fill`` bars; ``bar_s`` is what one takes to be written, ``answer_s`` what an answer
    takes in the mean, and ``uneven`` by how much of that it differs. ``others`` are calls that
    another process sends with the same key, one after another.
    """

    quota: str = "unlimited"
    streams: tuple[int, ...] = ()
    answer_s: float = 0.3
    uneven: float = 0.3
    slots_per_page: int = 1000
    fill: float = 0.8
    bar_s: float = 5e-6
    unknown: float = 0.0
    reach: float = 1.0
    days: int = 0
    lookups: float = 0.0
    lists: int = 0
    others: int = 0


LOADS = {
    "a quota of one window": Load("5/60s", (4,) * 12, lists=2),
    "a quota of two windows": Load("20/1s,100/60s", (10,) * 60, answer_s=0.1),
    "slow answers": Load(streams=(8,) * 30, answer_s=2.0),
    "one long history": Load(streams=(80,), answer_s=1.0),
    "slow writes": Load(streams=(10,) * 12, slots_per_page=50_000, bar_s=4e-5),
    "most tickers unknown": Load("5/60s", (3,) * 80, unknown=0.49),
    "derived timeframes": Load("10/10s", (12, 12, 12, 3, 3, 1), fill=1.9, slots_per_page=50_000),
    "grouped days and a first load": Load("20/10s", (6,) * 10, days=90, answer_s=0.8),
    "a key that others use": Load("10/30s", (5,) * 30, others=300),
    "pages that reach further": Load(streams=(40,) * 10, reach=2.5, answer_s=0.6, uneven=0.9),
    "many small series": Load("100/20s", (1,) * 900, lookups=0.4, lists=2),
    "histories of every length": Load("30/20s", (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)),
}


@dataclass
class Player:
    """Plays a load with the real pacer and gauge."""

    load: Load
    seed: int = 7
    samples: list[tuple[float, float]] = field(default_factory=list)

    async def play(self) -> float:
        """Play it, and return how long it took; samples are (since the start, estimate)."""
        loop = asyncio.get_running_loop()
        self.random = random.Random(self.seed)
        self.quota = Quota.parse(self.load.quota)
        self.gauge = Gauge(Writes(loop.time), loop.time)
        self.flight = Flight(clock=loop.time)
        self.writers = asyncio.Semaphore(WRITERS)
        shared = Ledger()
        began = loop.time()
        async with (
            Pacer(self.quota, WrittenLedger(self.quota, shared), loop.time) as self.pacer,
            Pacer(self.quota, WrittenLedger(self.quota, shared, process=2), loop.time) as other,
        ):
            beside = [asyncio.create_task(one) for one in (self.sample(), self.others(other))]
            await self.run()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return loop.time() - began

    async def sample(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            left = self.gauge.left(self.quota, self.flight.limit)
            self.samples.append((loop.time() - began, seconds_left([left])))
            await asyncio.sleep(0.25)

    async def others(self, pacer: Pacer) -> None:
        for _ in range(self.load.others):
            pacer.answered(await pacer.slot(1))

    async def run(self) -> None:
        load, gauge = self.load, self.gauge
        gauge.lists = load.lists
        queue: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()
        self.planned = dict(enumerate(load.streams))
        for stream, pages in self.planned.items():
            gauge.plan(stream, f"SIM{stream} d1", pages, pages * load.slots_per_page)
            queue.put_nowait((0, stream))
        for day in range(load.days):
            gauge.days = load.days - day
            with gauge.turn():
                await self.call()
        gauge.days = 0
        self.left = {stream: float(pages) for stream, pages in self.planned.items()}
        self.writing: dict[int, asyncio.Task[None]] = {}
        self.going = len(self.left)
        turns: set[asyncio.Task[None]] = set()
        while self.going:
            await self.flight.place()
            if queue.empty():
                await asyncio.sleep(0.01)
                continue
            self.flight.begin()
            turns.add(asyncio.create_task(self.work(queue, *queue.get_nowait())))
        await asyncio.gather(*turns)
        await asyncio.gather(*self.writing.values())
        for _ in range(load.lists):
            await self.call(Kind.lookup)
            gauge.lists -= 1

    async def work(
        self, queue: "asyncio.PriorityQueue[tuple[int, int]]", turn: int, stream: int
    ) -> None:
        with self.gauge.turn():
            goes_on = await self.turn(stream)
        if goes_on:
            queue.put_nowait((turn + 1, stream))
        else:
            self.gauge.end(stream)
            self.going -= 1
        self.flight.end(
            more=not queue.empty(),
            idle=self.gauge.idle_turns,
            head_s=self.gauge.head_s,
            failures=0,
        )

    async def turn(self, stream: int) -> bool:
        load = self.load
        await self.call()
        if (stream * load.unknown) % 1 >= 1 - load.unknown:
            await self.call(Kind.lookup)
            return False
        if self.random.random() < load.lookups:
            await self.call(Kind.lookup)
        if stream in self.writing:
            await self.writing.pop(stream)
        before = self.left[stream]
        self.left[stream] = max(before - load.reach, 0)
        slots = round((before - self.left[stream]) * load.slots_per_page)
        bars = round(slots * load.fill)
        self.gauge.read(bars)
        self.writing[stream] = asyncio.create_task(self.write(bars))
        calls = -int(-self.left[stream])
        self.gauge.prove(stream, calls, round(self.left[stream] * load.slots_per_page))
        return calls > 0

    async def call(self, kind: Kind = Kind.bars) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        with self.gauge.idle():
            slot = await self.pacer.slot(1, kind)
        waited = loop.time() - asked
        with self.gauge.call(self.quota, 1, waited, lookup=kind is Kind.lookup):
            uneven = self.random.uniform(-self.load.uneven, self.load.uneven)
            await asyncio.sleep(self.load.answer_s * (1 + uneven))
            self.pacer.answered(slot)

    async def write(self, bars: int) -> None:
        async with self.writers:
            with self.gauge.writes.under_way():
                await asyncio.sleep(bars * self.load.bar_s)
        self.gauge.writes.count(bars)
        self.gauge.wrote(bars)


def played(work: Coroutine[Any, Any, float]) -> float:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.wide if sum(load.streams) > 200 else ())
        for kind, load in LOADS.items()
    ],
)
def test_at_a_fifth_the_estimate_is_within_30_percent_of_the_truth(kind: str) -> None:
    player = Player(LOADS[kind])

    took_s = played(player.play())

    at_s, left_s = min(player.samples, key=lambda one: abs(one[0] - took_s / 5))
    truth_s = took_s - at_s
    assert left_s == pytest.approx(truth_s, rel=0.3)
    assert min(left for _, left in player.samples) >= 1  # never nothing while it lasts
