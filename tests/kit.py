"""What the tests of the fetcher share: a clock that leaps, a written ledger, a written provider."""

import asyncio
import functools
import itertools
import re
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ParamSpec

from aiohttp import ClientResponse
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from backfill.core.terms import Quota, Taken
from backfill.fetch.client import Client
from backfill.fetch.quota import Pacer, SlotLedger
from backfill.fetch.reader import Reader
from backfill.fetch.retrying import Patience
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from tests.ledger import SECOND, Ledger

BASE = "https://provider.test"
KEY = "k3y-of-the-test"

_P = ParamSpec("_P")

_TICK_S = 1e-9
"""What every turn of the loop takes: a wait for less than a double can tell would never end."""


class _LeapingSelector(selectors.DefaultSelector):
    """Never waits for a timer: moves its clock to it instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(5)
            if not ready:
                raise AssertionError("the test waits for something that never comes")
            return ready
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout) + _TICK_S
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop on which sleeping takes no time, and the clock moves by what was slept."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


def leaping(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Run an async test on a loop whose clock leaps from timer to timer."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with asyncio.Runner(loop_factory=LeapingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """The loop's clock, in seconds, to the microsecond."""
    return round(asyncio.get_running_loop().time(), 6)


class WrittenLedger:
    """The slot ledger of `SlotLedger`, in memory, on the loop's clock.

    ``there`` and ``back`` give the seconds that each question to it is under way before and after
    it is dealt with. Every `WrittenLedger` of one ``shared`` is another process that uses the key.
    """

    def __init__(
        self,
        quota: Quota | None = None,
        shared: Ledger | None = None,
        there: Iterator[float] | None = None,
        back: Iterator[float] | None = None,
        process: int = 1,
    ) -> None:
        self.shared = shared or Ledger()
        self.pauses: list[float] = []
        self.taken: list[int] = []
        self.trips = 0
        self.process = process
        self._windows = [
            (window.limit, round(window.held_s * SECOND)) for window in (quota or Quota()).windows
        ]
        self._there = there or itertools.repeat(0.0)
        self._back = back or itertools.repeat(0.0)
        self._next = process * 10**9

    def clock_us(self) -> int:
        """What its clock says."""
        return round(asyncio.get_running_loop().time() * SECOND)

    async def take(self, costs: Sequence[int]) -> Taken:
        self.trips += 1
        first, self._next = self._next, self._next + len(costs)
        await asyncio.sleep(next(self._there))
        at = self.clock_us()
        granted, told = self.shared.take(at, self.process, first, costs, self._windows)
        self.taken += costs[:granted]
        await asyncio.sleep(next(self._back))
        wait_s = (told - at) / SECOND if told is not None else 0.0
        return Taken(tuple(range(first, first + granted)), wait_s, at / SECOND)

    async def note(
        self,
        answered: Sequence[tuple[int, float]],
        unwritten: Sequence[int],
        *,
        leaving: bool = False,
    ) -> None:
        self.trips += 1
        await asyncio.sleep(next(self._there))
        ago = [(call, int(ago_s * SECOND)) for call, ago_s in answered]
        self.shared.note(self.clock_us(), ago, unwritten, self.process if leaving else -1)
        await asyncio.sleep(next(self._back))

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.shared.pause(self.clock_us(), round(seconds * SECOND))

    async def doubt(self, pause_s: float) -> None:
        self.shared.doubt(self.clock_us(), round(pause_s * SECOND))


@dataclass(frozen=True)
class Answer:
    """An answer to give, ``delay_s`` after it was asked for."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request as it would have left, and when."""

    url: str
    headers: Mapping[str, str]
    at: float


class _MockedResponse(ClientResponse):
    """Aiohttp 3.14 asks a response for its writer, which aioresponses 0.7.9 doesn't give it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


class WrittenProvider:
    """Answers requests in the order written, to whatever address, and remembers them.

    An exception among the answers is raised in place of one; the last answer is given for ever if
    ``repeat_last``, otherwise one request too many fails the test.
    """

    def __init__(self, *answers: Answer | Exception, repeat_last: bool = False) -> None:
        self.asked: list[Asked] = []
        self._answers = list(answers)
        self._repeat_last = repeat_last

    async def _respond(self, url: URL, **kwargs: Any) -> CallbackResult:
        self.asked.append(Asked(str(url), dict(kwargs["headers"]), now()))
        if not self._answers:
            raise AssertionError(f"one request too many: {url}")
        repeat = self._repeat_last and len(self._answers) == 1
        answer = self._answers[0] if repeat else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer.delay_s)
        return CallbackResult(
            status=answer.status,
            body=answer.body,
            headers=dict(answer.headers),
            response_class=_MockedResponse,
        )

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer every request that any session sends."""
        with aioresponses() as mocked:
            mocked.get(re.compile(""), callback=self._respond, repeat=True)
            yield


QUICK = Patience(backoff_s=0.5, backoff_max_s=15.0, attempts=4)


@asynccontextmanager
async def client(
    ledger: SlotLedger,
    *,
    tally: Tally | None = None,
    stop: StopSignal | None = None,
    patience: Patience = QUICK,
    base_url: str = BASE,
    other_url: str | None = None,
    quota: Quota | None = None,
    now_ms: int = 0,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Client]:
    """A client with the key of the test, unlimited unless a quota is given."""
    with Reader() as reader:
        async with (
            Pacer(quota or Quota(), ledger, clock or asyncio.get_running_loop().time) as pacer,
            Client(
                base_url,
                {"Authorization": f"Bearer {KEY}"},
                pacer,
                tally or Tally(),
                stop or StopSignal(),
                reader,
                now_ms=now_ms,
                other_url=other_url,
                patience=patience,
            ) as opened,
        ):
            yield opened
