"""What a lane measures of itself while it runs: how long turns, answers and writes take.

Nothing here decides anything: it is what `backfill.core.estimate` learns from.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final

from backfill.core.dataclass import dataclass
from backfill.core.estimate import FILL, TURN_S, LaneLeft, Left, Met, Pace, Streams
from backfill.core.terms import Quota
from backfill.fetch.busy import RECENT, Busy, Writes

_KEPT: Final = 5000
_WAITED_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Stream:
    """What a stream was planned to take, and what it takes still."""

    name: str
    planned: int
    calls: int
    slots: int
    used: int = 0
    answered: int = 0
    doubted: bool = False

    @property
    def begun(self) -> bool:
        return bool(self.used) or self.doubted


@dataclass(eq=False, slots=True)
class _Turn:
    """A turn under way; ``began_s`` is put off by what was no part of it."""

    began_s: float
    idle: bool = False


_MINE: Final[ContextVar[_Turn | None]] = ContextVar("the turn that this task takes", default=None)


class Gauge:
    """What is left of a lane's streams, and how long what was done has taken.

    Times are in seconds of ``clock``. A stream is anything that stays itself.
    """

    def __init__(
        self, writes: Writes | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.writes = writes or Writes(clock)
        self.days = 0
        self.lists = 0
        self.is_listing = False
        self._clock = clock
        self._streams: dict[Hashable, _Stream] = {}
        self._lookups = 0
        self._slots_answered = 0
        self._bars_read = 0
        self._unwritten = 0
        self._turns = Busy(clock, together=False)
        self._under_way = set[_Turn]()
        self._heads = Busy(clock, together=False)
        self._granted: deque[float] = deque(maxlen=_KEPT)
        self._answered: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._open_cost = 0
        self._sent = self._sent_cost = 0
        self._sharing = 1.0
        self._paused_until_s = 0.0

    def plan(self, stream: Hashable, name: str, calls: int, slots: int) -> None:
        """Note what a stream is planned to take, unless it has begun."""
        known = self._streams.get(stream)
        if known is None or not known.begun:
            self._streams[stream] = _Stream(name, calls, calls, slots)

    def prove(self, stream: Hashable, calls: int, slots: int) -> None:
        """Note what a stream takes still, after an answer of it."""
        known = self._streams[stream]
        self._slots_answered += max(known.slots - slots, 0)
        answered = known.answered + max(known.calls - calls, 0)
        self._streams[stream] = replace(
            known, calls=calls, slots=slots, used=known.used + 1, answered=answered, doubted=False
        )

    def doubt(self, stream: Hashable) -> None:
        """Note that nothing came of a stream: one look-up, which may wait long, tells if it ends.

        Most such tickers prove to be unknown; what was planned counts again if this one doesn't.
        """
        self._streams[stream] = replace(self._streams[stream], calls=1, slots=0, doubted=True)

    def end(self, stream: Hashable) -> None:
        """Note that a stream has ended, whatever it was planned to take still."""
        known = self._streams[stream]
        first = 0 if known.used else 1
        self._streams[stream] = replace(
            known, calls=0, slots=0, used=known.used + first, answered=known.answered + first
        )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Measure a turn of a stream, which one task takes."""
        turn = _Turn(self._clock())
        self._under_way.add(turn)
        mine = _MINE.set(turn)
        self._turns.change(1)
        try:
            yield
        finally:
            self._turns.change(-1)
            self._turns.count(1, most=RECENT)
            _MINE.reset(mine)
            self._under_way.discard(turn)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Leave a wait for the quota, or for room, out of the turn it happens in."""
        turn = _MINE.get()
        if turn is None or turn not in self._under_way or turn.idle:
            yield
            return
        self._turns.change(-1)
        began_s, turn.idle = self._clock(), True
        try:
            yield
        finally:
            turn.began_s += self._clock() - began_s
            turn.idle = False
            self._turns.change(1)

    @contextmanager
    def call(self, quota: Quota, cost: int, waited_s: float, *, lookup: bool) -> Iterator[None]:
        """Measure a call that has got its slot, up to the head of its answer."""
        self._lookups += lookup
        self._sent, self._sent_cost = self._sent + 1, self._sent_cost + cost
        self._note_sharing(quota, waited_s)
        self._open_cost += cost
        self._heads.change(1)
        try:
            yield
        finally:
            self._heads.change(-1)
            self._heads.count(1, most=RECENT)
            self._open_cost -= cost
            self._answered.append((self._clock(), cost))
            if self.is_listing:
                self.lists = max(self.lists - 1, 0)

    def pause(self, seconds: float) -> None:
        """Note that nobody may send for so many seconds."""
        self._paused_until_s = max(self._paused_until_s, self._clock() + seconds)

    def read(self, bars: int) -> None:
        """Count bars that were read, and are to be written."""
        self._bars_read += bars
        self._unwritten += bars

    def wrote(self, bars: int) -> None:
        """Count bars of which the transaction is over, whatever became of them."""
        self._unwritten -= bars

    def left(self, quota: Quota, workers: int) -> LaneLeft:
        """Return what is left of the lane, and the pace at which it went so far."""
        grouped: dict[tuple[int, bool], list[int]] = {}
        for one in self._streams.values():
            sums = grouped.setdefault((one.calls, one.begun), [0, 0])
            sums[0] += 1
            sums[1] += one.slots
        left = Left(
            streams=tuple(
                Streams(calls, number, slots, begun)
                for (calls, begun), (number, slots) in grouped.items()
            ),
            met=self._met(),
            days=self.days,
            lists=self.lists,
            unwritten=self._unwritten,
        )
        now_s = self._clock()
        ages = [now_s - at for at, cost in self._answered for _ in range(cost)]
        return LaneLeft(
            left,
            self._pace(),
            quota,
            workers,
            ages_s=ages,
            sent=self._open_cost,
            turned_s=[now_s - turn.began_s for turn in self._under_way if not turn.idle],
            pause_s=max(self._paused_until_s - now_s, 0.0),
        )

    @property
    def idle_turns(self) -> int:
        """How many turns wait for the quota, or for room."""
        return sum(turn.idle for turn in self._under_way)

    @property
    def head_s(self) -> float:
        """How long calls took lately from their leave to the answer's head, in seconds."""
        return self._heads.each_s(0.0, 0.1)

    @property
    def slowest(self) -> tuple[str, int, int] | None:
        """The stream that has the most calls before it, how many it has had, and takes in all."""
        longest = max(self._streams.values(), key=lambda one: one.calls, default=None)
        if longest is None or not longest.calls:
            return None
        return longest.name, longest.used, longest.used + longest.calls

    def _met(self) -> Met:
        begun = [one for one in self._streams.values() if one.begun]
        return Met(
            streams=len(begun),
            planned=sum(one.planned for one in begun),
            wanted=sum(one.answered + one.calls for one in begun),
            answered=sum(one.answered for one in begun),
            used=sum(one.used for one in begun),
            lookups=self._lookups,
        )

    def _pace(self) -> Pace:
        fill = self._bars_read / self._slots_answered if self._slots_answered else FILL
        return Pace(
            turn_s=self._turns.each_s(TURN_S, 1),
            head_s=self.head_s,
            bar_s=self.writes.bar_s,
            fill=fill,
            sharing=self._sharing,
            cost=self._sent_cost / self._sent if self._sent else 1.0,
        )

    def _note_sharing(self, quota: Quota, waited_s: float) -> None:
        """Compare how long as many calls as the narrowest window holds took with its length.

        Only where this one had to wait: else it was not the quota that took it.
        """
        now_s = self._clock()
        window = max(quota.windows, key=lambda one: one.period_s / one.limit, default=None)
        if window is not None and waited_s > _WAITED_S and len(self._granted) >= window.limit:
            alone_s = window.held_s + self.head_s
            took_s = max(now_s - self._granted[-window.limit], window.held_s)
            seen = took_s / alone_s
            self._sharing += (seen - self._sharing) / min(window.limit, RECENT)
        self._granted.append(now_s)
