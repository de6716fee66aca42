"""Grouped days: one call for a session of all series, where that is cheaper than a call each."""

from collections.abc import Iterable
from typing import Final

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.timeframe import Timeframe
from backfill.core.work import Work

_MARKET: Final = ("stock", "XNYS")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Sessions that are worth a call each, newest first, and the work that needs no other call.

    A call is about ``most`` pieces of work; None for any number.
    """

    sessions: tuple[Span, ...] = ()
    work: tuple[Work, ...] = ()
    most: int | None = None

    @property
    def batches(self) -> tuple[tuple[Work, ...], ...]:
        """The work, as it is asked for in each session, a call a batch."""
        step = self.most or max(len(self.work), 1)
        return tuple(self.work[at : at + step] for at in range(0, len(self.work), step))

    @property
    def calls(self) -> int:
        """How many calls it takes."""
        return len(self.sessions) * len(self.batches)


def group(work: Iterable[Work], most: int | None = None) -> Grouping:
    """Return the sessions to ask for grouped, so that all the work takes the fewest calls.

    A call is about ``most`` pieces of work; None for any number.

    A session serves every piece of work that misses it, but a piece saves its own calls only when
    all that it misses is among the sessions. So pieces join by how far back they reach, those that
    miss the least first, up to where the most calls are saved.
    """
    pieces = [one for one in work if _may_join(one)]
    apart = sum(_calls(one) for one in pieces)
    missed = {one: _missed(one) for one in pieces if _sessions(one) < apart}
    ordered = sorted(missed, key=lambda one: (-missed[one][0].start_ms, len(missed[one])))
    sessions: set[Span] = set()
    saved = best = 0
    joined: list[Work] = []
    for count, one in enumerate(ordered, 1):
        sessions.update(missed[one])
        saved += _calls(one)
        paid = len(sessions) * (-(-count // most) if most else 1)
        if saved - paid > best:
            best, joined = saved - paid, ordered[:count]
    needed = {session for one in joined for session in missed[one]}
    return Grouping(tuple(sorted(needed, reverse=True)), tuple(joined), most)


def _may_join(work: Work) -> bool:
    """Whether a piece of work may take its days from grouped answers.

    Not before its first own answer, which leads to the reference where it has to; nor for days on
    which the symbol had another name.
    """
    days, *others = work.targets
    symbol, hull = work.symbol, days.missing.hull
    if (
        days.series.timeframe is not Timeframe.d1
        or (symbol.asset_type, symbol.calendar) != _MARKET
        or not (symbol.confirmed and days.is_loaded)
        or hull is None
        or days.wanted is None
        or any(target.refusal or target.replaces or target.beside for target in work.targets)
    ):
        return False
    if symbol.on(work.calendar.day_of(hull.start_ms)).ticker != symbol.ticker:
        return False
    # Weeks and months are rolled up once their days are stored, if those are all theirs.
    grid = work.calendar.grid(Timeframe.d1)
    coarser = Spans.union(span for one in others for span in one.missing - one.local)
    return not any(grid.count(span) for span in coarser - Spans.of(days.wanted))


def _missed(work: Work) -> list[Span]:
    """The sessions that a piece of work misses, oldest first."""
    grid = work.calendar.grid(Timeframe.d1)
    return [
        Span(grid.start_of(index), grid.end_of(index))
        for span in work.targets[0].missing
        for index in range(grid.index_from(span.start_ms), grid.index_from(span.end_ms))
    ]


def _sessions(work: Work) -> int:
    grid = work.calendar.grid(Timeframe.d1)
    return sum(grid.count(span) for span in work.targets[0].missing)


def _calls(work: Work) -> int:
    return sum(planned.calls for planned in work.ranges)
