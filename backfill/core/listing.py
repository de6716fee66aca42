"""Whether a listing date cuts a series: only where the bars break there too.

References date listings wrong, and a ticker may pass to another company overnight. The bars tell
which it is: they break where the price jumps beyond any listed split, or after ten silent sessions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from math import log
from typing import Final, Self

import numpy as np

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.calendar import Calendar
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.splits import DAY_MOVE
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Split

SILENT_SESSIONS: Final = 10
"""No trade for two weeks: the ticker may have been another company's before."""
SESSIONS_PER_BAR: Final = {Timeframe.w1: 5, Timeframe.mn1: 23}


@dataclass(frozen=True, slots=True)
class Jump:
    """Two closes that follow one another, the one at least twice the other.

    ``size`` is the logarithm of the first by the second, ``first_end_ms`` and ``second_end_ms``
    are where their bars end, in epoch ms.
    """

    size: float
    first_end_ms: int
    second_end_ms: int

    def is_explained(self, splits: Iterable[Split], calendar: Calendar) -> bool:
        """Whether splits that are listed between the two leave no more than a day's own move."""
        sizes = [
            log(split.split_to / split.split_from)
            for split in splits
            if self.first_end_ms <= calendar.midnight(split.execution_date) < self.second_end_ms
        ]
        return any(abs(self.size - size) <= DAY_MOVE for size in (*sizes, sum(sizes)))


@dataclass(frozen=True, slots=True, eq=False)
class Closes:
    """The closes of bars of one timeframe on its grid, oldest first."""

    calendar: Calendar
    timeframe: Timeframe
    ts_ms: IntColumn
    close: FloatColumn

    @classmethod
    def of(cls, calendar: Calendar, timeframe: Timeframe, bars: Bars) -> Self:
        """Return the closes of bars that have not been checked yet, without those of no sense."""
        usable = (bars.ts_ms >= EARLIEST_MS) & (bars.ts_ms <= LATEST_MS)
        usable &= np.isfinite(bars.close) & (bars.close > 0)
        stamps, close = calendar.canonical(timeframe, bars.ts_ms[usable]), bars.close[usable]
        order = np.argsort(stamps, kind="stable")
        return cls(calendar, timeframe, stamps[order], close[order])

    def jumps(self) -> list[Jump]:
        """The jumps from one close to the next, of minutes and hours from session to session."""
        at = np.flatnonzero(np.abs(np.diff(np.log(self.close))) > DAY_MOVE)
        if self.timeframe.is_intraday and len(at):
            session = self.calendar.session_of(self.ts_ms)
            at = at[session[at] != session[at + 1]]
        return [self._jump(int(index)) for index in at]

    def first_from(self, listed_on: date) -> int:
        """The index of the first bar of which a part lies after a listing."""
        at = self.calendar.begins(listed_on, self.timeframe)
        slot = self.calendar.grid(self.timeframe).widen((at, at + 1))
        return int(np.searchsorted(self.ts_ms, slot.start_ms))

    def break_at(self, listed_on: date, splits: Iterable[Split]) -> bool | None:
        """Whether the bars break at a listing; None if there are none on one side of it."""
        after = self.first_from(listed_on)
        if after in {0, len(self.ts_ms)}:
            return None
        session = self.calendar.session_of(self.ts_ms[[after - 1, after]])
        usual = SESSIONS_PER_BAR.get(self.timeframe, 1)
        if int(session[1] - session[0]) - usual >= SILENT_SESSIONS:
            return True
        jump = self._jump(after - 1)
        return abs(jump.size) > DAY_MOVE and not jump.is_explained(splits, self.calendar)

    def _jump(self, index: int) -> Jump:
        grid = self.calendar.grid(self.timeframe)
        first, second = (int(self.ts_ms[at]) for at in (index, index + 1))
        return Jump(
            float(np.log(self.close[index] / self.close[index + 1])),
            grid.widen((first, first + 1)).end_ms,
            grid.widen((second, second + 1)).end_ms,
        )
