"""What is derived follows its base: whatever changes that, in whatever pieces it is written."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars, IntColumn, is_among
from backfill.core.coverage import Spans
from backfill.core.empty import FOREVER_MS
from backfill.core.local import Base, BaseChange, outdated_slots, roll_up_stored
from backfill.core.rollup import roll_up
from backfill.core.series import Progress, Series, Source, Symbol
from backfill.core.timeframe import Timeframe
from tests.conftest import SHARED
from tests.property.oracle import Case

PAIRS = [
    *((Timeframe.m1, to) for to in (Timeframe.m5, Timeframe.m15, Timeframe.m30, Timeframe.h1)),
    *((Timeframe.m1, Timeframe.h4), (Timeframe.h1, Timeframe.h4)),
    *((Timeframe.d1, Timeframe.w1), (Timeframe.d1, Timeframe.mn1)),
]
MARKETS = {"XNYS": "Christmas and New Year", "24/7": "autumn DST, EU then US"}


def bars_at(stamps: IntColumn, volume: int) -> Bars:
    at = np.asarray(stamps, np.int64)
    price = (100.0 + at % 7).astype(np.float64)
    return Bars(
        ts_ms=at,
        open=price,
        high=price + volume,
        low=price,
        close=price,
        volume=np.full(len(at), float(volume)),
        vwap=price,
        trade_count=np.full(len(at), volume, np.int64),
    )


@dataclass
class Table:
    """A base and what is derived from it, as the store keeps both, in memory."""

    case: Case
    timeframe: Timeframe
    base: Bars = field(default_factory=Bars.empty)
    empty: Spans = field(default_factory=Spans)
    covered: Spans = field(default_factory=Spans)
    derived: Bars = field(default_factory=Bars.empty)
    known: Progress = field(default_factory=Progress)

    def write(self, claims: Spans, answer: Bars, *, withdraws: bool) -> None:
        """Write an answer over the base, as a page does that brings the derived series nothing."""
        before = self.base
        inside = claims.holds(before.ts_ms)
        lacking = inside & ~is_among(before.ts_ms, answer.ts_ms)
        stays = ~inside | (lacking & (not withdraws))
        kept = Bars.concat([before.take(stays), answer])
        self.base = kept.take(np.argsort(kept.ts_ms))
        grid = self.case.grid
        slots = np.concatenate([grid.slots(span) for span in claims])
        bare = slots[~is_among(slots, self.base.ts_ms)]
        self.empty = (self.empty - claims) | Spans.union(
            grid.widen((ms, ms + 1)) for ms in bare.tolist()
        )
        self.covered |= claims
        apart = before.ts_ms[lacking & (not withdraws)]
        gone = before.ts_ms[lacking & withdraws]
        self._follow(BaseChange(np.concatenate((answer.ts_ms, gone)), apart, claims))

    def uncover(self, span: Spans) -> None:
        """Take a part of the base out of the coverage, and what is made of it, as a reload does."""
        self.covered -= span
        self.known = replace(self.known, coverage=self.known.coverage - span)

    def _follow(self, change: BaseChange) -> None:
        coarse = self.case.calendar.grid(self.timeframe)
        slots = outdated_slots(coarse, self.known, change, None)
        base = Base(self.case.timeframe, self.covered, self.base, self.empty)
        source = Source("massive", "sip", "raw", self.case.timeframe)
        series = Series(Symbol(1, "AAPL", "stock", "XNYS"), self.timeframe)
        chunk, left = roll_up_stored(self.case.calendar, series, source, slots, base, FOREVER_MS)
        self.load(chunk.claims, chunk.bars)
        self.known = replace(self.known, coverage=self.known.coverage - left)

    def load(self, claims: Spans, bars: Bars) -> None:
        """Put bars of the derived series in place of what is stored within their claims."""
        kept = Bars.concat([self.derived.take(~claims.holds(self.derived.ts_ms)), bars])
        self.derived = kept.take(np.argsort(kept.ts_ms))
        stamps = self.derived.ts_ms
        self.known = replace(
            self.known,
            coverage=self.known.coverage | claims,
            oldest_bar_ms=int(stamps[0]) if len(stamps) else None,
            newest_bar_ms=int(stamps[-1]) if len(stamps) else None,
        )


@pytest.mark.parametrize(("base", "to"), PAIRS)
@SHARED
@given(data=st.data())
def test_what_is_covered_is_the_roll_up_of_its_base_after_any_changes_of_that(
    base: Timeframe, to: Timeframe, data: st.DataObject
) -> None:
    market = data.draw(st.sampled_from(sorted(MARKETS)))
    case = Case(market, MARKETS[market], base)
    coarse = case.calendar.grid(to)
    # Some whole slots of the coarser series: both are loaded there.
    length = min(3, len(coarse) - 1)
    first = data.draw(st.integers(0, len(coarse) - length))
    loaded = Spans.of((coarse.start_of(first), coarse.end_of(first + length - 1)))
    fine = np.concatenate([case.grid.slots(span) for span in loaded])
    table = Table(case, to)
    chosen = st.sets(st.sampled_from(fine.tolist()), max_size=40).map(
        lambda stamps: np.array(sorted(stamps), np.int64)
    )
    table.write(loaded, bars_at(data.draw(chosen), 1), withdraws=False)
    table.load(loaded, roll_up(table.base, coarse))
    always_whole = True
    for volume in range(2, 2 + data.draw(st.integers(1, 6))):
        low, high = sorted(data.draw(st.integers(0, len(fine) - 1)) for _ in range(2))
        span = Spans.of((int(fine[low]), case.grid.widen((fine[high], fine[high] + 1)).end_ms))
        if data.draw(st.integers(0, 2)) == 0:
            table.uncover(span)
            always_whole = False
        else:
            answer = data.draw(chosen)
            answer = answer[span.holds(answer)]
            table.write(span, bars_at(answer, volume), withdraws=data.draw(st.booleans()))
        held = roll_up(table.base, coarse)
        covered = coarse.inside(table.known.coverage)
        assert table.derived.take(covered.holds(table.derived.ts_ms)).equals(
            held.take(covered.holds(held.ts_ms))
        )
        # As long as its base is whole, so is what is made of it.
        if always_whole:
            assert covered == loaded
