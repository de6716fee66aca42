"""Batches: one call for the newest few bars of many stocks, where each would take one of its own.

A job that runs every few hours finds every series of a timeframe missing the same stretch. A call
that names many symbols holds as many bars in all as one that names a single one; so batches are cut
to what surely fits a page, however much was traded.
"""

from collections.abc import Iterable
from typing import Final

from backfill.core.coverage import Span
from backfill.core.dataclass import dataclass
from backfill.core.pages import PageLaw
from backfill.core.plan import PlannedRange
from backfill.core.work import Work

_MARKET: Final = ("stock", "XNYS")


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces of work that one call serves: it asks for ``span``, which holds the range of each."""

    span: Span
    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Batching:
    """Calls that are each about several pieces of work, which need no other then."""

    batches: tuple[Batch, ...] = ()

    @property
    def work(self) -> tuple[Work, ...]:
        """The work of all batches."""
        return tuple(one for batch in self.batches for one in batch.work)

    @property
    def calls(self) -> int:
        """How many calls it takes."""
        return len(self.batches)


NO_BATCHES: Final = Batching()


def batch(work: Iterable[Work], law: PageLaw, most: int) -> Batching:
    """Return work in batches of ``most`` pieces at most, each of which surely fits one page.

    Pieces that begin alike come together, as a batch asks for all of them since its earliest. One
    that stays alone is no batch.
    """
    pieces = sorted((one for one in work if _may_join(one)), key=_alike)
    batches: list[list[Work]] = []
    for one in pieces:
        together = [*batches[-1], one] if batches else []
        if together and len(together) <= most and _fits(together, law):
            batches[-1].append(one)
        else:
            batches.append([one])
    return Batching(tuple(Batch(_hull(one), tuple(one)) for one in batches if len(one) > 1))


def range_of(work: Work) -> PlannedRange:
    """Return the one range that a piece of work in a batch misses."""
    [planned] = work.ranges
    return planned


def _may_join(work: Work) -> bool:
    """Whether a piece of work may take its bars from an answer for many symbols.

    It misses the newest bars, fewer than a page holds, and nothing else; and it asks for them under
    a name that the company always had. Not before its first own answer, which leads to the
    reference where it has to, nor where stored bars are to be looked at first.
    """
    symbol = work.symbol
    if len(work.ranges) != 1 or not work.base.is_intraday:
        return False
    if (symbol.asset_type, symbol.calendar) != _MARKET or not symbol.confirmed:
        return False
    if symbol.aliases or symbol.last_day or symbol.retired_on:
        return False
    [planned] = work.ranges
    told = symbol.reference_listed_on
    if told is not None and work.calendar.begins(told, work.base) > planned.span.start_ms:
        return False
    newest_ms = max((one.wanted.end_ms for one in work.targets if one.wanted), default=0)
    return (
        planned.file is None
        and planned.calls_max == 1
        and planned.span.end_ms == newest_ms
        and all(one.is_loaded for one in work.targets)
        and not any(one.refusal or one.replaces or one.beside or one.local for one in work.targets)
    )


def _alike(work: Work) -> tuple[str, str, int, int, str]:
    start_ms, end_ms = range_of(work).span
    return work.base, work.targets[0].source.adjustment, start_ms, end_ms, work.symbol.ticker


def _fits(work: list[Work], law: PageLaw) -> bool:
    """Whether pieces of work ask alike, and their bars fit one page if every slot was traded."""
    first, last = work[0], work[-1]
    if (first.base, first.targets[0].source.origin) != (last.base, last.targets[0].source.origin):
        return False
    slots = first.calendar.grid(first.base).count(_hull(work)) * len(work)
    return law.pages(first.calendar, first.base).at_most(slots) <= 1


def _hull(work: Iterable[Work]) -> Span:
    spans = [range_of(one).span for one in work]
    return Span(min(one.start_ms for one in spans), max(one.end_ms for one in spans))
