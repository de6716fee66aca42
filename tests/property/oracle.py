"""A slow second opinion on the grids: one wall-clock reading per slot, no arithmetic on columns.

Also the hypothesis strategies that draw a market, a season and a timeframe to ask it about.
"""

from datetime import date, datetime, time, timedelta
from functools import cache
from itertools import product
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st

from backfill.core.calendar import Calendar, Session
from backfill.core.coverage import Span, Spans
from backfill.core.grid import Grid
from backfill.core.timeframe import Timeframe
from tests.calendars import MIDNIGHT_MIN, NIGHT, ZONES, calendar, sessions
from tests.conftest import FEW

MARKETS: Final = tuple(ZONES)
SEASONS: Final = {
    "spring DST, US then EU": (date(2024, 3, 4), date(2024, 4, 5)),
    "half day and Independence Day": (date(2024, 6, 24), date(2024, 7, 12)),
    "autumn DST, EU then US": (date(2024, 10, 21), date(2024, 11, 8)),
    "Thanksgiving": (date(2023, 11, 13), date(2023, 12, 1)),
    "Christmas and New Year": (date(2023, 12, 18), date(2024, 1, 10)),
}
LENGTH_MIN: Final = {"m1": 1, "m5": 5, "m15": 15, "m30": 30, "h1": 60, "h4": 240}
TRADING_DAY_MIN: Final = {"XNYS": (4 * 60, 20 * 60), NIGHT: (-3 * 60, 20 * 60)}
"""Where the trading day is longer than the session: minutes from the midnight of its date."""
HOUR_MS: Final = 3_600_000


class Slot(NamedTuple):
    start: int
    end: int
    regular: bool
    session: date
    """The session of an intraday slot; the first day of any other."""


class Case(NamedTuple):
    """One timeframe on one market in one season, with every slot of it enumerated."""

    market: str
    season: str
    timeframe: Timeframe

    @property
    def calendar(self) -> Calendar:
        return calendar(self.market, *SEASONS[self.season])

    @property
    def grid(self) -> Grid:
        return self.calendar.grid(self.timeframe)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(ZONES[self.market])

    @property
    def slots(self) -> tuple[Slot, ...]:
        return enumerate_slots(self)

    @property
    def reach(self) -> tuple[int, int]:
        """A range of instants that begins before the first slot and ends after the last."""
        return self.slots[0].start - 5 * HOUR_MS, self.slots[-1].end + 5 * HOUR_MS


@cache
def wall_ms(zone: ZoneInfo, day: date, minutes: int = 0) -> int:
    """Instant at which the wall clock of the zone shows this day and minute of the day."""
    shown = datetime.combine(day, time()) + timedelta(minutes=minutes)
    return round(shown.replace(tzinfo=zone).timestamp() * 1000)


@cache
def enumerate_slots(case: Case) -> tuple[Slot, ...]:
    zone, open_days = case.zone, sessions(case.market, *SEASONS[case.season])
    if case.timeframe in LENGTH_MIN:
        return tuple(slot for session in open_days for slot in _intraday(case, session))
    first_days = sorted({_period(case.timeframe, session.day)[0] for session in open_days})
    periods = [_period(case.timeframe, day) for day in first_days]
    off = MIDNIGHT_MIN.get(case.market, 0)
    return tuple(
        Slot(wall_ms(zone, first, off), wall_ms(zone, after, off), regular=True, session=first)
        for first, after in periods
    )


def _intraday(case: Case, session: Session) -> list[Slot]:
    zone, length = case.zone, LENGTH_MIN[case.timeframe]
    opens, closes = session.open_ms, session.close_ms
    if case.market in TRADING_DAY_MIN:
        opens, closes = (wall_ms(zone, session.day, at) for at in TRADING_DAY_MIN[case.market])
    found = []
    off = MIDNIGHT_MIN.get(case.market, 0)
    for minute in range(off - 4 * 60, off + 24 * 60, length):
        start, end = (wall_ms(zone, session.day, at) for at in (minute, minute + length))
        if start < closes and end > opens:
            regular = start < session.close_ms and end > session.open_ms
            found.append(Slot(start, end, regular, session.day))
    return found


def _period(timeframe: Timeframe, day: date) -> tuple[date, date]:
    """First day of the bar that a day falls in, and the first day after it."""
    if timeframe is Timeframe.d1:
        return day, day + timedelta(days=1)
    first = day
    while first.day != 1 if timeframe is Timeframe.mn1 else first.strftime("%a") != "Mon":
        first -= timedelta(days=1)
    after = first + timedelta(days=1)
    while after.day != 1 if timeframe is Timeframe.mn1 else after.strftime("%a") != "Mon":
        after += timedelta(days=1)
    return first, after


EVERY_CASE: Final = tuple(map(Case._make, product(MARKETS, SEASONS, Timeframe)))


def is_short(case: Case) -> bool:
    """Whether its slots are soon enumerated; of minutes that is one season of each market."""
    turn = list(SEASONS).index(case.season) == MARKETS.index(case.market) % len(SEASONS)
    return turn or case.timeframe not in {Timeframe.m1, Timeframe.m5}


def cases(timeframes: tuple[Timeframe, ...] = tuple(Timeframe)) -> st.SearchStrategy[Case]:
    """Any case of some timeframes; none of those that take long, where examples are few."""
    few = settings().max_examples <= FEW
    return st.sampled_from(
        [one for one in EVERY_CASE if one.timeframe in timeframes and (is_short(one) or not few)]
    )


def instants(case: Case) -> st.SearchStrategy[int]:
    """Instants of the season, many of them at or within 1 ms of a slot's start or end."""
    edges = st.sampled_from(case.slots).flatmap(lambda slot: st.sampled_from(slot[:2]))
    return st.one_of(
        st.integers(*case.reach),
        st.builds(lambda edge, off: edge + off, edges, st.sampled_from((-1, 0, 0, 1))),
    )


@st.composite
def slot_runs(draw: st.DrawFn, case: Case, most: int = 8) -> Spans:
    """A set of spans that each begin with some slot and end with the same or a later one."""
    last = len(case.slots) - 1
    length = st.integers(0, 3) | st.integers(0, last)
    runs = draw(st.lists(st.tuples(st.integers(0, last), length), max_size=most))
    return Spans.of(
        *(
            (case.slots[first].start, case.slots[min(first + more, last)].end)
            for first, more in runs
        )
    )


def inside(slot: Slot, spans: Spans) -> bool:
    return any(span.start_ms <= slot.start and slot.end <= span.end_ms for span in spans)


def slots_in(case: Case, spans: Spans | Span) -> list[Slot]:
    """Slots that start within the spans."""
    each = (spans,) if isinstance(spans, Span) else spans.items
    return [slot for slot in case.slots if any(s <= slot.start < e for s, e in each)]
