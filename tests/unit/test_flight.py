"""As many turns are under way as help: in simulated time, with the real pacer and gauge."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from backfill.core.terms import Quota
from backfill.fetch.busy import Writes
from backfill.fetch.flight import FIRST, Flight
from backfill.fetch.gauge import Gauge
from backfill.fetch.quota import Pacer
from tests.kit import LeapingLoop, WrittenLedger
from tests.ledger import Ledger


@dataclass
class Lane:
    """Turns of one call each, without end, of a provider that answers as its model says.

    It works for ``answer_s`` on each of as many calls as it takes at once; ``fails`` tells from the
    number of an answer whether it is a failure.
    """

    answer_s: float
    at_once: int = 1000
    quota: str = "unlimited"
    fails: Callable[[int], bool] = lambda _: False
    streams: int = 10_000
    most: int | None = None
    sent: int = 0
    answers: int = 0
    failures: int = 0
    under_way: int = 0
    highest: int = 0
    limits: list[int] = field(default_factory=list)

    async def fly(self, seconds: float) -> float:
        """Go on for so long; return how many calls a second were answered in its second half."""
        loop = asyncio.get_running_loop()
        quota = Quota.parse(self.quota)
        self.gauge = Gauge(Writes(loop.time), loop.time)
        self.flight = Flight(self.most, loop.time)
        answered: list[float] = []
        dice = random.Random(20)
        working = asyncio.Semaphore(self.at_once)

        async def turn() -> None:
            with self.gauge.turn():
                asked_s = loop.time()
                with self.gauge.idle():
                    slot = await pacer.slot(1)
                with self.gauge.call(quota, 1, loop.time() - asked_s, lookup=False):
                    self.sent, self.under_way = self.sent + 1, self.under_way + 1
                    self.highest = max(self.highest, self.under_way)
                    async with working:
                        await asyncio.sleep(self.answer_s * dice.uniform(0.7, 1.3))
                    self.under_way, self.answers = self.under_way - 1, self.answers + 1
                    self.failures += self.fails(self.answers)
                    pacer.answered(slot)
            answered.append(loop.time())
            self.flight.end(
                more=len(going) < self.streams,
                idle=self.gauge.idle_turns,
                head_s=self.gauge.head_s,
                failures=self.failures,
            )
            self.limits.append(self.flight.limit)

        going: set[asyncio.Task[None]] = set()
        ledger = WrittenLedger(quota, Ledger())
        began_s = loop.time()
        async with Pacer(quota, ledger, loop.time) as pacer:
            while loop.time() < began_s + seconds:
                await self.flight.place()
                if len(going) >= self.streams:
                    await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                self.flight.begin()
                task = asyncio.create_task(turn())
                going.add(task)
                task.add_done_callback(going.discard)
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)
        return sum(one > began_s + seconds / 2 for one in answered) / (seconds / 2)


def played(work: Coroutine[Any, Any, float]) -> float:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("answer_s", [0.05, 0.5, 2.0])
def test_a_quota_of_a_hundred_a_second_is_used_whatever_answers_take(answer_s: float) -> None:
    """R13 promises N calls in W and the time from grant to head."""
    cycle_s = 1 + answer_s
    lane = Lane(answer_s, quota="100/1s")
    assert played(lane.fly(10 * cycle_s)) >= 0.9 * 100 / cycle_s


def test_answers_of_five_seconds_are_not_waited_for_six_by_six() -> None:
    lane = Lane(5.0, streams=150)
    played(lane.fly(60))
    assert lane.sent > 4 * 72


def test_who_waits_for_the_quota_brings_no_others() -> None:
    lane = Lane(0.5, quota="5/60s")
    played(lane.fly(300))
    assert max(lane.limits) <= 2 * FIRST


def test_a_provider_that_takes_no_more_at_once_is_not_sent_more() -> None:
    lane = Lane(0.2, at_once=8)
    assert played(lane.fly(40)) >= 0.9 * 8 / 0.2
    assert lane.highest <= 6 * 8
    assert sum(lane.limits) / len(lane.limits) <= 2 * 8


def test_calls_that_fail_halve_what_is_under_way_and_it_grows_again() -> None:
    lane = Lane(1.0, most=40, fails=lambda number: 200 <= number < 210)
    played(lane.fly(20))
    assert lane.limits[198] == 40
    assert min(lane.limits) <= 20
    assert lane.limits[-1] == 40


def test_where_every_call_fails_one_is_under_way() -> None:
    lane = Lane(1.0, fails=lambda _: True)
    played(lane.fly(60))
    assert max(lane.limits[-20:]) <= 2


def test_answers_that_slow_down_halve_what_is_under_way() -> None:
    lane = Lane(0.2, most=40)

    def slow_down() -> None:
        lane.answer_s = 3.0

    async def fly() -> float:
        asyncio.get_running_loop().call_later(4, slow_down)
        return await lane.fly(20)

    played(fly())
    assert min(lane.limits[lane.limits.index(40) :]) <= 20


def test_one_that_is_sent_one_call_at_a_time_never_has_two() -> None:
    lane = Lane(0.1, most=1)
    played(lane.fly(10))
    assert lane.highest == 1
