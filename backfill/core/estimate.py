"""How long a run still takes, by what is left of it and by what it has measured so far.

Four things bound a run, and the slowest of them decides: the quota, the turns of its streams (a
page's answer is waited for before the next one is asked for, and so many streams have their turn
at once), the grouped days, one call after another, and the writing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final, Self

from backfill.core.dataclass import dataclass
from backfill.core.terms import Quota, Window

TURN_S: Final = 0.4
"""What a turn takes before one was measured, beside waiting for the quota."""
BAR_S: Final = 1 / 150_000
"""What a bar takes to be written before any was: a slow disk's."""
FILL: Final = 0.6
"""How many bars a slot brings before any was answered: most minutes of extended hours are empty."""
SHORTEST_S: Final = 1.0
"""While anything is left, so much is."""

_LOOKUPS: Final = (0.5, 2)
"""As if two streams had brought a look-up or none."""
_CALLS: Final = 2
"""As if so many calls had been as planned."""
_LEAN_S: Final = 5.0
_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Met:
    """What the answers so far say of the streams that have had one, ``streams`` of them.

    They were ``planned`` to take so many calls in all, of which ``wanted`` are wanted still or were
    had: a ticker that nobody knows ends after its first. ``used`` calls have answered what
    ``answered`` were planned for: of a series that trades little a page holds more time. The
    reference was asked ``lookups`` times meanwhile.
    """

    streams: int = 0
    planned: int = 0
    wanted: int = 0
    answered: int = 0
    used: int = 0
    lookups: int = 0

    @property
    def goes_on(self) -> float:
        """Which share of the planned calls is wanted in the end."""
        return (self.wanted + _CALLS) / (self.planned + _CALLS)

    @property
    def per_planned(self) -> float:
        """How many calls it takes for one that was planned."""
        return (self.used + _CALLS) / (self.answered + _CALLS)

    @property
    def lookups_each(self) -> float:
        """How many look-ups a stream brings when it begins."""
        lookups, streams = _LOOKUPS
        return (self.lookups + lookups) / (self.streams + streams)


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams that take the same number of calls still, one after another.

    Of ``begun`` ones an answer is known; of the others only the plan. ``slots`` are those that all
    of them still ask for.
    """

    calls: float
    number: int
    slots: float = 0.0
    begun: bool = False

    def like(self, met: Met) -> Self:
        """Return what will become of streams of which nothing is known, by those that are."""
        if not self.calls:
            return self
        share = 1.0 if self.begun else (1 + (self.calls - 1) * met.goes_on) / self.calls
        calls = max(self.calls * share * met.per_planned, 1.0)
        return replace(self, calls=calls, slots=self.slots * share)


@dataclass(frozen=True, slots=True)
class Left:
    """What one lane has still to do.

    ``days`` are grouped calls, which go before all streams; ``lists`` calls that go behind them.
    ``unwritten`` bars were read and are not stored yet.
    """

    streams: tuple[Streams, ...] = ()
    met: Met = Met()
    days: int = 0
    lists: int = 0
    unwritten: int = 0

    @property
    def expected(self) -> list[Streams]:
        """The streams as they will be, by what those that were met are like."""
        return [one.like(self.met) for one in self.streams]

    @property
    def calls(self) -> float:
        """How many calls are left, look-ups and lists included."""
        streams = self.expected
        unbegun = sum(one.number for one in streams if one.calls and not one.begun)
        lookups = self.met.lookups_each * unbegun
        return self.days + sum(one.calls * one.number for one in streams) + lookups + self.lists

    @property
    def anything(self) -> bool:
        """Whether anything is left."""
        return bool(
            self.days or self.lists or self.unwritten or any(one.calls for one in self.streams)
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured of a lane; without a measurement, what is taken for it.

    ``turn_s`` is a turn of a stream without its waits for the quota; ``head_s`` from a call's
    leave to its answer; ``bar_s`` the writers' time for a bar, all of them together; ``fill`` the
    bars that a slot brings, coarser ones included. ``sharing`` is how many times as long as alone
    the quota takes by itself: others use it, too; ``cost`` what a call costs of it.
    """

    turn_s: float = TURN_S
    head_s: float = 0.0
    bar_s: float = BAR_S
    fill: float = FILL
    sharing: float = 1.0
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class LaneLeft:
    """A lane as it stands: what is left, how fast it goes, and what its quota holds by now.

    ``ages_s`` tells how long ago each call that may still count was answered, the oldest first.
    ``sent`` of the calls that are left are on their way, for what they cost: they are the newest.
    ``turned_s`` are how long the turns under way have lasted. For ``pause_s`` nobody may send.
    """

    left: Left
    pace: Pace
    quota: Quota
    workers: int
    ages_s: Sequence[float] = ()
    sent: int = 0
    turned_s: Sequence[float] = ()
    pause_s: float = 0.0


def seconds_left(lanes: Iterable[LaneLeft]) -> float:
    """Return how many seconds a run still takes: never 0 while anything of it is left.

    Lanes go side by side; what they write shares the writers.
    """
    open_lanes = [lane for lane in lanes if lane.left.anything]
    if not open_lanes:
        return 0.0
    asking_s = max(_asking_s(lane) for lane in open_lanes)
    writing_s = sum(_writing_s(lane) for lane in open_lanes)
    return max(asking_s, writing_s, SHORTEST_S)


@dataclass(frozen=True, slots=True)
class PastRun:
    """What an earlier run sent and stored, and how long that took."""

    calls: int
    bars: int
    seconds: float


def seconds_expected(
    quota: Quota, calls: int, bars: int, past: Sequence[PastRun], cost: int = 1
) -> float:
    """Return how long a run of so many calls, each of a cost, takes by what earlier runs took.

    The quota's part is computed. The rest goes with calls and bars; earlier runs tell how fast,
    those of them that the quota didn't decide.
    """
    if not calls:
        return 0.0
    free = [one for one in past if one.seconds > 2 * quota.seconds_for(one.calls * cost)]
    spent_s = sum(one.seconds - quota.seconds_for(one.calls * cost) for one in free)
    taken_s = sum(_working_s(one.calls, one.bars) for one in free)
    pace = spent_s / taken_s if taken_s else 1.0
    return quota.seconds_for(calls * cost) + pace * _working_s(calls, bars)


def _working_s(calls: int, bars: int) -> float:
    return calls * TURN_S / _AT_ONCE + bars * BAR_S


def eased(shown_s: float, passed_s: float, estimate_s: float) -> float:
    """Return what to show: it counts down by the clock, and leans to what is estimated by now."""
    if not estimate_s:
        return 0.0
    counted_s = max(shown_s - passed_s, 0.0)
    lean = min(passed_s / _LEAN_S, 1.0)
    return max(counted_s + (estimate_s - counted_s) * lean, SHORTEST_S)


def quota_s(quota: Quota, ages_s: Sequence[float], calls: int, head_s: float = 0.0) -> float:
    """Return after how many seconds the last of so many calls may be sent.

    >>> quota = Quota.parse("5/60s")
    >>> [round(quota_s(quota, [50, 10, 10, 10], calls), 2) for calls in (1, 2, 3, 7)]
    [0.0, 10.06, 50.06, 70.12]
    """
    windows = sorted(quota.windows, key=lambda window: -window.period_s)
    return _last_s(windows, ages_s, calls, head_s) if calls > 0 else 0.0


def _last_s(windows: Sequence[Window], ages_s: Sequence[float], calls: int, head_s: float) -> float:
    """When the last call goes by windows, the longest first: all alone, and each in the others."""
    if not windows:
        return 0.0
    longest, *shorter = windows
    full, rest = divmod(calls - 1, longest.limit)
    cycles_s = full * (longest.held_s + head_s)
    first_s = _first_s(longest, ages_s, rest)
    nested_s = cycles_s + max(first_s, _last_s(shorter, ages_s, rest + 1, head_s))
    return max(nested_s, _last_s(shorter, ages_s, calls, head_s))


def _first_s(window: Window, ages_s: Sequence[float], place: int) -> float:
    """When the call at a place of the next ones may go, by those that still count."""
    oldest = len(ages_s) - window.limit + place
    return max(window.held_s - ages_s[oldest], 0.0) if 0 <= oldest < len(ages_s) else 0.0


def _asking_s(lane: LaneLeft) -> float:
    left, pace = lane.left, lane.pace
    if not left.calls:
        return 0.0
    calls = math.ceil(left.calls * pace.cost) - lane.sent
    ages_s = [*lane.ages_s, *[0.0] * lane.sent]
    waiting_s = quota_s(lane.quota, ages_s, calls, pace.head_s) * pace.sharing
    alone_s = left.days * pace.turn_s + left.lists * pace.head_s
    turns_s = alone_s + pace.turn_s * _rounds(left.expected, lane.workers) * (1 - _done(lane))
    return lane.pause_s + max(waiting_s + pace.turn_s, turns_s)


def _done(lane: LaneLeft) -> float:
    """Which share of what is left of the turns those under way have behind them; half at most."""
    calls = sum(one.calls * one.number for one in lane.left.expected)
    if not calls or not lane.pace.turn_s:
        return 0.0
    return min(sum(min(one / lane.pace.turn_s, 1.0) for one in lane.turned_s) / calls, 0.5)


def _writing_s(lane: LaneLeft) -> float:
    left, pace = lane.left, lane.pace
    slots = sum(one.slots for one in left.expected)
    return (left.unwritten + slots * pace.fill) * pace.bar_s


def _rounds(streams: Sequence[Streams], workers: int) -> float:
    """How many turns follow one another: in each round every stream that is left has one."""
    ordered = sorted((one for one in streams if one.calls > 0), key=lambda one: one.calls)
    waiting = sum(one.number for one in ordered)
    before = turns = 0.0
    for calls, alike in groupby(ordered, key=lambda one: one.calls):
        turns += (calls - before) * max(waiting / workers, 1.0)
        before = calls
        waiting -= sum(one.number for one in alike)
    return turns
