"""Files of a whole market: a session's for all that miss it, where that is worth it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from backfill.core.archive import FilesOrCalls, Use
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.pages import PageLaw
from backfill.core.plan import PlannedRange, plan_ranges
from backfill.core.planning import by_name, to_fetch
from backfill.core.series import Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.work import Work
from backfill.errors import BadAnswer

if TYPE_CHECKING:
    from backfill.core.bars import Bars
    from backfill.core.raw import Oddities

_MARKET: Final = ("stock", "XNYS")
_ALIKE: Final = 256

BarsByTicker: TypeAlias = "Mapping[str, tuple[Bars, Oddities]]"
"""What a file holds of some tickers; a ticker that has no bar in it isn't there."""


class MarketReader(Protocol):
    """Takes the bars of some tickers out of the text of a file, which comes in pieces."""

    def feed(self, text: bytes) -> None:
        """Read the next piece."""
        ...

    def close(self) -> BarsByTicker:
        """Return what was found, once all of the text has come."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class MarketFile:
    """A file to read: a session's bars of a timeframe, and the range that it brings to each."""

    timeframe: Timeframe
    session: Span
    ranges: Mapping[Work, PlannedRange]


@dataclass(frozen=True, slots=True)
class MarketFiles:
    """The files to read, newest first, and what they are read instead of.

    They take so many ``requests``. ``calls_left`` are those that a piece of work takes still,
    ``calls_instead`` what the files are read instead of; bytes are as they are sent, about.
    """

    files: tuple[MarketFile, ...] = ()
    requests: int = 0
    calls_left: dict[Work, int] = field(default_factory=dict)
    bytes: int = 0
    calls_instead: int = 0
    bytes_instead: int = 0

    @property
    def work(self) -> list[Work]:
        """The work that any of them is read for."""
        return list(self.calls_left)


NO_FILES: Final = MarketFiles()


@dataclass(frozen=True, eq=False, slots=True)
class _Candidate:
    """What files would bring to a piece of work, by session, and the calls that they would save."""

    work: Work
    ranges: Mapping[Span, PlannedRange]
    calls_left: int
    calls_saved: int
    bytes_saved: int


def market_files(
    work: Iterable[Work], choice: FilesOrCalls | None, adjustment: str, law: PageLaw
) -> MarketFiles:
    """Return the files that are read for some work; calls by ``law`` bring the rest.

    They hold bars of one ``adjustment``. A file is a request whoever it is read for, so pieces join
    by how far back they reach, those that miss the least first, up to where the most calls are
    saved; and they join only if that takes fewer bytes as well, unless files are always read.
    """
    if choice is None or choice.use is Use.never:
        return NO_FILES
    pieces = [one for one in work if _may_join(one, adjustment)]
    joined = [
        one
        for timeframe in sorted(choice.archive.timeframes, key=list(Timeframe).index)
        for one in _joined(
            [_candidate(one, choice, law) for one in pieces if one.base is timeframe], choice
        )
    ]
    found: dict[tuple[Timeframe, Span], dict[Work, PlannedRange]] = defaultdict(dict)
    for one in joined:
        for session, planned in one.ranges.items():
            found[one.work.base, session][one.work] = planned
    sizes = dict(choice.archive.market_bytes)
    files = [MarketFile(*key, ranges) for key, ranges in found.items()]
    return MarketFiles(
        tuple(sorted(files, key=lambda one: one.session, reverse=True)),
        len(files) * choice.archive.requests,
        {one.work: one.calls_left for one in joined},
        sum(sizes[one.timeframe] for one in files),
        sum(one.calls_saved for one in joined),
        sum(one.bytes_saved for one in joined),
    )


def _may_join(work: Work, adjustment: str) -> bool:
    return (work.symbol.asset_type, work.symbol.calendar) == _MARKET and not any(
        target.refusal is not None or target.source.adjustment != adjustment
        for target in work.targets
    )


def _candidate(work: Work, choice: FilesOrCalls, law: PageLaw) -> _Candidate:
    ranges: dict[Span, PlannedRange] = {}
    left = saved = 0
    for missing in by_name(Series(work.symbol, work.base), work.calendar, to_fetch(work.targets)):
        read, rest, instead = _read(choice, work.calendar, work.base, missing, law)
        ranges |= read
        left, saved = left + rest, saved + instead - rest
    slots = sum(one.slots for one in ranges.values())
    return _Candidate(work, ranges, left, saved, round(slots * choice.archive.call_bar_bytes))


@lru_cache(_ALIKE)
def _read(
    choice: FilesOrCalls, calendar: Calendar, timeframe: Timeframe, missing: Spans, law: PageLaw
) -> tuple[Mapping[Span, PlannedRange], int, int]:
    """Return what files bring of a range, by session, and the calls for the rest, and for all."""
    always = replace(choice, use=Use.always)
    ranges = {
        session: one
        for one in always.ranges(calendar, timeframe, missing, law)
        if (session := _session_of(calendar, timeframe, one)) is not None
    }
    rest = missing - Spans.union(span for one in ranges.values() for span in one.claims)
    left, instead = (plan_ranges(calendar, timeframe, one, law) for one in (rest, missing))
    return ranges, sum(one.calls for one in left), sum(one.calls for one in instead)


def _session_of(calendar: Calendar, timeframe: Timeframe, planned: PlannedRange) -> Span | None:
    """Return the day of the file that holds a range, from midnight to midnight.

    None where a night is kept: nobody has told whether a file holds what its name's day does, or
    what its trade date does.
    """
    grid = calendar.grid(timeframe)
    last = grid.start_of(grid.index_from(planned.span.end_ms) - 1)
    day = calendar.grid(Timeframe.d1).widen((last, last + 1))
    [(block, _)] = grid.blocks((last, last + 1))
    return day if day.start_ms <= block.start_ms and block.end_ms <= day.end_ms else None


def _joined(candidates: Sequence[_Candidate], choice: FilesOrCalls) -> Sequence[_Candidate]:
    """Return the pieces that are worth their files, those that miss the least first."""
    some = [one for one in candidates if one.ranges]
    if choice.use is Use.always or not some:
        return some
    size = dict(choice.archive.market_bytes)[some[0].work.base]
    ordered = sorted(some, key=lambda one: (-min(one.ranges).start_ms, len(one.ranges)))
    sessions: set[Span] = set()
    calls = bytes_saved = best = upto = 0
    for count, one in enumerate(ordered, 1):
        sessions.update(one.ranges)
        calls += one.calls_saved
        bytes_saved += one.bytes_saved
        saved = calls - len(sessions) * choice.archive.requests
        if saved > best and len(sessions) * size < bytes_saved:
            best, upto = saved, count
    return ordered[:upto]


def lives_on(symbol: Symbol, day: date, *, has_bars: bool) -> bool:
    """Whether what a whole, final file says of a symbol is surely about it.

    What is older than its listing may be another company's. That it has no bar says something only
    of a symbol that is known to be listed then.
    """
    listed = [one for one in (symbol.listed_on, symbol.reference_listed_on) if one is not None]
    if any(day < one for one in listed):
        return False
    return has_bars or (symbol.confirmed and bool(listed))


def check_session(file: MarketFile, found: BarsByTicker) -> None:
    """See that a file is what its name says; a bar that isn't costs only itself.

    Raises
    ------
    BadAnswer
        If all of its bars are of another session, or of another timeframe.
    """
    import numpy as np  # a run reads files, a plan doesn't

    from backfill.core.checks import refuse_coarser

    if not found:
        return
    stamps = np.concatenate([bars.ts_ms for bars, _ in found.values()])
    start_ms, end_ms = file.session
    if not ((stamps >= start_ms) & (stamps < end_ms)).any():
        raise BadAnswer("the file holds the bars of another session than it is named for")
    calendar = next(iter(file.ranges)).calendar
    grid = calendar.grid(file.timeframe)
    if file.timeframe.is_intraday:
        starts, inside = grid.floor(stamps)
        are_others = not (inside & (starts == stamps)).any()
        in_order = np.sort(stamps)
        refuse_coarser(calendar, file.timeframe, in_order, in_order, file.session)
    else:
        are_others = all(len(bars) > 1 for bars, _ in found.values())
    if are_others:
        raise BadAnswer(f"the file holds other bars than of {file.timeframe}")
