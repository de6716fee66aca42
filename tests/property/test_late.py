"""A provider that is late, cut off or lacking: in the end a series holds what it would have.

The pure core against a provider and a store of a few lines: thousands of runs in simulated time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.bars import Bars, IntColumn, is_among
from backfill.core.confirmed import Entry, entries
from backfill.core.coverage import Span, Spans
from backfill.core.empty import FOREVER_MS, EmptyReason
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import frontier_ms
from backfill.core.planning import plan_piece
from backfill.core.series import Progress, Symbol, SymbolId
from backfill.core.terms import Quota, Settling, Terms
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page
from backfill.core.work import Demand, Mode, Rules, Work
from tests.calendars import calendar
from tests.capable import capable
from tests.conftest import first_of

FIRST: Final = date(2024, 11, 11)
"""A Monday; the second week after it has a holiday and a half day."""
LAST: Final = date(2024, 12, 13)
MARKETS: Final = {
    "XNYS": Symbol(1, "FMC", "stock", "XNYS"),
    "24/7": Symbol(2, "BTC", "crypto", "24/7"),
}
INTRADAY: Final = tuple(one for one in Timeframe if one.is_intraday)
ADVANCED: Final = Settling(MINUTE_MS, HOUR_MS)
FREE: Final = Settling(MINUTE_MS, HOUR_MS, end_of_day=True)

Serve = Callable[[IntColumn, int], IntColumn]
"""From the minutes that traded, and the instant, to those that the provider has by then."""


def minutes(market: str, share: float) -> IntColumn:
    """Return the minutes that traded: a share of the regular ones, a fifth of it of the others."""
    days = calendar(market, FIRST, LAST)
    grid, regular = days.grid(Timeframe.m1), days.regular_grid(Timeframe.m1)
    slots = grid.slots((0, FOREVER_MS))
    chance = np.where(is_among(slots, regular.slots((0, FOREVER_MS))), share, share / 5)
    return slots[np.random.default_rng(7).random(len(slots)) < chance]


def bars_of(market: str, timeframe: Timeframe, traded: IntColumn, span: Span) -> Bars:
    """Return the bars that minutes make; the volume of each counts them."""
    grid = calendar(market, FIRST, LAST).grid(timeframe)
    slots, inside = grid.floor(traded)
    starts, counts = np.unique(slots[inside], return_counts=True)
    chosen = (starts >= span.start_ms) & (starts < span.end_ms)
    starts, counts = starts[chosen], counts[chosen].astype(np.int64)
    ones = np.ones(len(starts))
    return Bars(starts, ones, ones, ones, ones, counts.astype(np.float64), ones, counts)


def always(traded: IntColumn, now_ms: int) -> IntColumn:
    """A provider without faults."""
    return traded[traded < now_ms]


def behind(late_ms: int, since_ms: int = 0, until_ms: int = FOREVER_MS) -> Serve:
    """A provider that has everything later than it should, for a while."""

    def serve(traded: IntColumn, now_ms: int) -> IntColumn:
        return always(traded, now_ms - late_ms if since_ms <= now_ms < until_ms else now_ms)

    return serve


def lacking(span: Span, until_ms: int) -> Serve:
    """A provider that lacks a range until it mends that."""

    def serve(traded: IntColumn, now_ms: int) -> IntColumn:
        there = always(traded, now_ms)
        if now_ms >= until_ms:
            return there
        return there[(there < span.start_ms) | (there >= span.end_ms)]

    return serve


@dataclass
class Ledger:
    """A store of a few lines: what runs wrote of some series of one symbol, fed from one base."""

    market: str
    base: Timeframe
    timeframes: tuple[Timeframe, ...]
    settling: Settling = ADVANCED
    delisted_on: date | None = None
    progress: dict[tuple[SymbolId, Timeframe], Progress] = field(default_factory=dict)
    empty: dict[Timeframe, list[Entry]] = field(default_factory=dict)
    bars: dict[Timeframe, dict[int, float]] = field(default_factory=dict)
    asked: list[Span] = field(default_factory=list)

    def run(self, now_ms: int, serve: Serve, traded: IntColumn, mode: Mode = Mode.default) -> Work:
        """Run once; what was asked of the provider is noted."""
        symbol = replace(MARKETS[self.market], delisted_on=self.delisted_on)
        work = plan_piece(
            symbol,
            self.timeframes,
            self.base,
            calendar=calendar(self.market, FIRST, LAST),
            rules=self._rules(now_ms),
            demand=Demand(FIRST, mode),
            known={key: self._known(key, one, now_ms) for key, one in self.progress.items()},
        )
        newer = None
        there = serve(traded, now_ms)
        for planned in work.ranges:
            self.asked.append(planned.span)
            newer = Paging(work, planned, now_ms, newer)
            page = Page(bars_of(self.market, self.base, there, planned.span), None)
            final_ms = frontier_ms(work.calendar, self.base, self.settling, now_ms)
            for chunk in newer.read(page, None, final_ms):
                self._write(chunk, now_ms)
        return work

    def entries(self, timeframe: Timeframe, *reasons: EmptyReason) -> Spans:
        """Return what is held as empty for some reasons."""
        held = self.empty.get(timeframe, [])
        return Spans.union(span for one in held if one.reason in reasons for span in one.slots)

    def _rules(self, now_ms: int) -> Rules:
        terms = Terms("p", Quota(), self.settling, None, date(2004, 1, 1))
        return Rules("p", capable("f"), "raw", terms, now_ms)

    def _known(self, key: tuple[SymbolId, Timeframe], one: Progress, now_ms: int) -> Progress:
        now = at(now_ms)
        held = self.empty.get(key[1], [])
        late = [one for one in held if one.reason is EmptyReason.unconfirmed]
        due = [one for one in held if one.expires_at is not None and one.expires_at <= now]
        absent = [
            one for one in held if one.reason is EmptyReason.absent and one.confirmed_on is None
        ]
        newest = -FOREVER_MS if one.newest_bar_ms is None else one.newest_bar_ms
        tail = Spans.of((newest, FOREVER_MS))
        return Progress(
            one.source,
            one.coverage,
            expired=_slots(entry for entry in due if entry not in late),
            unconfirmed=_slots(late) | (_slots(absent) & tail),
            askable=_slots(entry for entry in due if entry in late),
            provisional=one.provisional,
            wanted_from_ms=0,
            oldest_bar_ms=one.oldest_bar_ms,
            newest_bar_ms=one.newest_bar_ms,
        )

    def _write(self, chunk: Chunk, now_ms: int) -> None:
        timeframe = chunk.series.timeframe
        before = self.empty.get(timeframe, [])
        kept = [
            Entry(one.month, one.reason, one.asked_on, left, one.expires_at, one.confirmed_on)
            for one in before
            if (left := one.slots - chunk.claims)
        ]
        self.empty[timeframe] = kept + entries(chunk.empty, before, at(now_ms))
        stored = self.bars.setdefault(timeframe, {})
        stored |= dict(zip(chunk.bars.ts_ms.tolist(), chunk.bars.volume.tolist(), strict=True))
        known = self.progress.get(chunk.series.key, Progress())
        self.progress[chunk.series.key] = Progress(
            chunk.source,
            known.coverage | chunk.claims,
            provisional=(known.provisional - chunk.claims) | chunk.provisional,
            oldest_bar_ms=min(stored, default=None),
            newest_bar_ms=max(stored, default=None),
        )


def _slots(held: "Iterator[Entry] | Sequence[Entry]") -> Spans:
    return Spans.union(span for one in held for span in one.slots)


def at(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def ms(text: str) -> int:
    """Epoch milliseconds of a wall clock in New York, in winter."""
    return round(datetime.fromisoformat(f"{text}-05:00").timestamp() * 1000)


def due(ledger: Ledger, timeframe: Timeframe, traded: IntColumn, now_ms: int) -> dict[int, float]:
    """Return the bars that a series should hold by now."""
    days = calendar(ledger.market, FIRST, LAST)
    upto = frontier_ms(days, timeframe, ledger.settling, now_ms)
    whole = days.grid(timeframe).narrow((days.midnight(FIRST), upto))
    true = bars_of(ledger.market, timeframe, traded, whole or Span(0, 0))
    return dict(zip(true.ts_ms.tolist(), true.volume.tolist(), strict=True))


def every(hours: float, first_ms: int, last_ms: int) -> range:
    return range(first_ms, last_ms, round(hours * HOUR_MS))


BASES: Final = [
    *((one, (one,)) for one in (Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.h4)),
    *(pytest.param(one, (one,), marks=pytest.mark.soak) for one in (Timeframe.m15, Timeframe.m30)),
    (Timeframe.m1, INTRADAY),
    (Timeframe.m1, (Timeframe.m5,)),
    (Timeframe.h1, (Timeframe.h4,)),
]


@pytest.mark.parametrize("mode", first_of(Mode.default, Mode.incremental))
@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("base", "timeframes"), BASES, ids=str)
def test_a_provider_that_is_always_minutes_late_loses_nothing(
    base: Timeframe, timeframes: tuple[Timeframe, ...], market: str, mode: Mode
) -> None:
    traded = minutes(market, 0.9)
    ledger, calm = (Ledger(market, base, timeframes) for _ in range(2))
    last_ms = ms("2024-11-14T14:40")
    runs = [*every(6, ms("2024-11-12T14:30"), last_ms), last_ms - 10 * MINUTE_MS, last_ms]
    for now_ms in sorted(runs):
        ledger.run(now_ms, behind(12 * MINUTE_MS), traded, mode)
        calm.run(now_ms, always, traded, mode)
    # The day after, the provider has caught up.
    for now_ms in every(6, ms("2024-11-15T12:00"), ms("2024-11-16T13:00")):
        ledger.run(now_ms, always, traded, mode)
        calm.run(now_ms, always, traded, mode)
    for timeframe in timeframes:
        assert ledger.bars[timeframe] == due(ledger, timeframe, traded, now_ms)
    assert len(ledger.asked) == len(calm.asked)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("base", "timeframes"), BASES, ids=str)
def test_a_session_cut_off_on_its_day_is_whole_once_it_is_mended_days_later(
    base: Timeframe, timeframes: tuple[Timeframe, ...], market: str
) -> None:
    traded = minutes(market, 0.9)
    cut = Span(ms("2024-11-12T14:33"), ms("2024-11-13T02:00"))
    serve = lacking(cut, ms("2024-11-18T00:00"))
    for settling in (ADVANCED, FREE):
        ledger = Ledger(market, base, timeframes, settling)
        ledger.run(ms("2024-11-13T01:30"), serve, traded)
        for timeframe in timeframes:
            true = due(ledger, timeframe, traded, ms("2024-11-13T01:30"))
            assert ledger.bars[timeframe] != true
        ledger.run(ms("2024-11-19T01:30"), serve, traded)
        for timeframe in timeframes:
            true = due(ledger, timeframe, traded, ms("2024-11-19T01:30"))
            assert ledger.bars[timeframe] == true
        assert len(ledger.asked) == 2


@pytest.mark.parametrize("mode", [Mode.default, Mode.incremental])
def test_what_is_late_in_extended_hours_arrives_with_the_first_request_after_the_day_is_final(
    mode: Mode,
) -> None:
    traded = minutes("XNYS", 1.0)
    ledger = Ledger("XNYS", Timeframe.m1, (Timeframe.m1, Timeframe.m5))
    ledger.run(ms("2024-11-12T20:05"), behind(15 * MINUTE_MS), traded, mode)
    late = ms("2024-11-12T19:50")
    assert late not in ledger.bars[Timeframe.m1]
    assert not ledger.entries(Timeframe.m1, *EmptyReason)  # nothing tells of it but that
    ledger.run(ms("2024-11-13T00:30"), always, traded, mode)
    assert len(ledger.asked) == 1  # nothing is due, and the day is not final
    now_ms = ms("2024-11-13T06:00")
    ledger.run(now_ms, always, traded, mode)
    assert ledger.bars[Timeframe.m1] == due(ledger, Timeframe.m1, traded, now_ms)
    assert ledger.bars[Timeframe.m5] == due(ledger, Timeframe.m5, traded, now_ms)
    ledger.run(now_ms + HOUR_MS, always, traded, mode)
    once, after = ledger.asked[1:]
    assert once.start_ms == ms("2024-11-12T04:00")
    assert after.start_ms > now_ms - 10 * MINUTE_MS


@pytest.mark.parametrize("mode", first_of(Mode.default, Mode.incremental))
@pytest.mark.parametrize("market", MARKETS)
def test_a_day_s_bar_that_comes_hours_late_comes_with_the_next_day_s(
    market: str, mode: Mode
) -> None:
    traded = minutes(market, 0.5)
    for late in (date(2024, 11, 12), date(2024, 11, 15)):  # a Tuesday, a Friday
        ledger, calm = (Ledger(market, Timeframe.d1, (Timeframe.d1,)) for _ in range(2))
        begins = calendar(market, FIRST, LAST).midnight(late)
        serve = lacking(Span(begins, begins + DAY_MS), begins + 40 * HOUR_MS)
        for now_ms in every(6, begins - 24 * HOUR_MS, begins + 6 * DAY_MS):
            ledger.run(now_ms, serve, traded, mode)
            calm.run(now_ms, always, traded, mode)
            if begins + 30 * HOUR_MS < now_ms < begins + 40 * HOUR_MS:
                assert begins not in ledger.bars[Timeframe.d1]
        assert ledger.bars == calm.bars
        own = mode is Mode.default  # an absent session is worth a call of its own after a day
        assert len(calm.asked) <= len(ledger.asked) <= len(calm.asked) + own


@settings(max_examples=25)
@given(
    st.sampled_from(tuple(MARKETS)),
    st.sampled_from((0.01, 0.1, 0.6)),
    st.lists(st.floats(0.1, 22), min_size=4, max_size=12),
)
def test_an_empty_slot_is_believed_between_bars_or_after_twelve_hours_and_the_day_s_end(
    market: str, share: float, hours: list[float]
) -> None:
    traded = minutes(market, share)
    ledger = Ledger(market, Timeframe.m1, (Timeframe.m1,))
    days = calendar(market, FIRST, LAST)
    grid = days.regular_grid(Timeframe.m1)
    first: dict[int, int] = {}
    believed: set[int] = set()
    now_ms = ms("2024-11-13T10:00")
    for wait in hours:
        now_ms += round(wait * HOUR_MS)
        ledger.run(now_ms, always, traded, Mode.incremental)
        slots = grid.slots((days.midnight(FIRST), now_ms))
        newest = max(ledger.bars[Timeframe.m1])
        held = ledger.entries(Timeframe.m1, EmptyReason.unconfirmed)
        for slot in slots[held.holds(slots)].tolist():
            first.setdefault(slot, now_ms)
        known = ledger.entries(Timeframe.m1, EmptyReason.no_trades)
        for slot in set(slots[known.holds(slots)].tolist()) - believed:
            believed.add(slot)
            day = int(np.searchsorted(days.midnight_ms, slot, side="right")) - 1
            over_ms = int(days.next_midnight_ms[day]) + HOUR_MS
            late = slot in first and now_ms - first[slot] >= 12 * HOUR_MS and over_ms <= now_ms
            assert slot < newest or late
        assert not believed & set(slots[held.holds(slots)].tolist())


def test_unconfirmed_slots_of_an_ended_series_cost_one_call_of_their_own_after_four_days() -> None:
    traded = minutes("XNYS", 0.2)
    ledger = Ledger("XNYS", Timeframe.m1, (Timeframe.m1,))
    ledger.delisted_on = date(2024, 11, 14)
    asked = []
    for now_ms in every(6, ms("2024-11-14T20:30"), ms("2024-12-12T20:30")):
        before = len(ledger.asked)
        ledger.run(now_ms, always, traded, Mode.incremental)
        asked += [now_ms] * (len(ledger.asked) - before)
    assert asked == [ms("2024-11-14T20:30"), ms("2024-11-18T20:30")]
    assert not ledger.entries(Timeframe.m1, EmptyReason.unconfirmed)


def test_an_absent_session_is_asked_for_ever_less_often_and_never_after_a_year() -> None:
    ledger = Ledger("XNYS", Timeframe.d1, (Timeframe.d1,))
    # Long ago is as good as now: the calendar of the test ends with the year.
    days = calendar("XNYS", FIRST, LAST)
    traded = minutes("XNYS", 0.2)
    gone = traded[
        (traded < days.midnight(date(2024, 11, 13))) | (traded >= days.midnight(date(2024, 11, 14)))
    ]
    first = ms("2024-11-16T02:00")
    asked = []
    for day in range(900):
        before = len(ledger.asked)
        ledger.run(first + day * DAY_MS, always, gone)
        lone = ms("2024-11-13T00:00")
        asked += [day] * any(span.start_ms == lone for span in ledger.asked[before:])
    assert asked == [1, 31, 91, 211]
    [entry] = [one for one in ledger.empty[Timeframe.d1] if one.reason is EmptyReason.absent]
    # Once confirmed it is kept by the day of that: nothing unconfirmed is ever merged with it.
    assert (entry.expires_at, entry.asked_on) == (None, date(2024, 11, 17))
