"""Whether a series is fresh: how long it has been silent, and how long it is now and then.

What the provider was asked for and didn't have is covered like anything else: that nothing is left
to ask for says nothing of whether anything came. So freshness is judged by the bars. A series is
silent from its newest bar to the last slot that is due; only slots of the regular session count. It
may be silent for as long as it usually is, and for any length that was confirmed.
"""

from bisect import bisect_right
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Self

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.grid import Grid
from backfill.core.timeframe import MINUTE_MS, Timeframe

_SESSIONS: Final = 20
_SLOTS: Final = 60
_TIMES: Final = 2
_A_MOMENT_MS: Final = 15 * MINUTE_MS
NONE: Final = Spans()


class State(StrEnum):
    """What a status says of a series."""

    fresh = "fresh"
    """Its newest bar lies within its usual silence before the last due slot, or none was due."""
    behind = "behind"
    """Bars are due that nobody has asked for, or that no answer closed."""
    silent = "silent"
    """The provider was asked, and nothing came: for longer than is usual, and not confirmed."""
    empty = "empty"
    """It has no bar at all."""


@dataclass(frozen=True, slots=True)
class Silence:
    """How many due slots of the regular session follow the newest bar of a series.

    ``unconfirmed`` are those of them that are not known to be rightly empty: neither did nobody
    trade, nor do two answers agree that their session is absent. ``usual`` is how many there may be
    now and then.
    """

    slots: int
    unconfirmed: int
    usual: int

    @classmethod
    def of(
        cls,
        grid: Grid,
        timeframe: Timeframe,
        since: Span,
        settled: Spans = NONE,
        before: Iterable[Span] = (),
    ) -> Self:
        """Return the silence of a series, on its regular grid.

        ``since`` reaches from beyond the start of its newest bar to the end of what is due.
        ``settled`` is what is rightly empty of it, ``before`` are the silences of its past, as
        `usual_silence` takes them.
        """
        slots = grid.count(since)
        confirmed = sum(map(grid.count, settled & Spans.of(since)))
        return cls(slots, slots - confirmed, usual_silence(grid, timeframe, before))

    @property
    def is_usual(self) -> bool:
        """Whether nobody need wonder at it."""
        return self.unconfirmed == 0 or self.slots <= self.usual


def usual_silence(grid: Grid, timeframe: Timeframe, before: Iterable[Span]) -> int:
    """Return for how many slots of its regular grid a series may be silent.

    That is twice the longest silence from which it came back at least twice: what happened once,
    such as an outage of the provider, isn't usual. Any intraday series may be for a quarter of an
    hour. ``before`` are spans of slots that are known to be rightly empty, as `looked_back_from`
    bounds them; those that only closed hours part are one silence.
    """
    runs: list[list[int]] = []
    for span in sorted(before):
        first, end = grid.index_from(span.start_ms), grid.index_from(span.end_ms)
        if first >= end:
            continue
        if runs and first <= runs[-1][1]:
            runs[-1][1] = max(end, runs[-1][1])
        else:
            runs.append([first, end])
    lengths = sorted((end - first for first, end in runs), reverse=True)
    seen_twice = lengths[1] if len(lengths) > 1 else 0
    moment = _A_MOMENT_MS // timeframe.length_ms if timeframe.is_intraday else 0
    return max(_TIMES * seen_twice, moment)


def looked_back_from(grid: Grid, timeframe: Timeframe, newest_ms: int) -> int:
    """Return from where on the silences before a newest bar tell what is usual, in epoch ms.

    That is 20 sessions before the one of that bar; of d1, w1 and mn1 60 bars.
    """
    blocks = grid.lists.starts
    if not blocks:
        return newest_ms
    back = _SESSIONS if timeframe.is_intraday else _SLOTS
    return blocks[max(0, bisect_right(blocks, newest_ms) - 1 - back)]


def state_of(*, bars: int, behind: int, silence: Silence) -> State:
    """Return what to say of a series with so many bars, that is so many due bars behind."""
    if not bars:
        return State.empty
    if behind:
        return State.behind
    return State.fresh if silence.is_usual else State.silent


def share_of(grid: Grid, wanted: Span | None, coverage: Spans) -> tuple[int, int]:
    """Return how many slots of what is wanted are covered, and how many there are."""
    if wanted is None:
        return 0, 0
    return sum(map(grid.count, coverage & Spans.of(wanted))), grid.count(wanted)
