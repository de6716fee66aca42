"""Checks: which bars of a page are the bars that were asked for, and why the others aren't."""

# Over 300 lines: all that a bar can fail by stands in one place, in the order in which it is told.

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.precision import EXACT, Precision
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page
from backfill.errors import BadAnswer

EARLIEST_MS: Final = 100_000_000_000
LATEST_MS: Final = 10_000_000_000_000
"""Epoch milliseconds from 1973 to 2286; seconds and microseconds of any date lie outside."""


_LEAST: Final = 1e-30
_MOST: Final = 1e30
_MOST_TRADES: Final = 2**53
"""Sums and products of what lies between stay numbers, in a roll-up and in Postgres' views.

There one value that doesn't ends every query.
"""


class Reason(StrEnum):
    """Why a bar is in quarantine."""

    off_grid = "off_grid"
    """Its stamp starts no slot of the timeframe: a weekend, a holiday, another window."""
    outside_range = "outside_range"
    """It lies outside the range that was asked for."""
    forming = "forming"
    """Its slot had not ended when it was asked for."""
    not_finite = "not_finite"
    """A price, the volume or the vwap is infinite, or past 1e30."""
    price = "price"
    """A price is zero or negative, or below 1e-30."""
    high_low = "high_low"
    """High is below low, or open or close lie outside low…high."""
    precision = "precision"
    """The table that was adopted has columns too narrow for it."""
    volume = "volume"
    """Volume or trade count is negative, the volume below 1e-30, or the count past 2^53."""
    conflict = "conflict"
    """The page holds two different bars for one slot; neither is stored."""
    before_listing = "before_listing"
    """The ticker was another company's then: the bars break at the listing of this one."""
    withdrawn = "withdrawn"
    """It was stored, and a complete reload no longer has it."""
    source_changed = "source_changed"
    """It was stored, and is of another source, another share basis, or another company."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A page's bars, sorted, one per slot, canonical; and what was rejected, as it came.

    ``reasons[i]`` says why ``rejected`` bar ``i`` was. ``edge_ms`` is the oldest stamp within the
    range that was asked for, rejected bars included; None for a page that has none there.
    ``ignored`` counts the bars of the night, good or bad, where that is dropped.
    """

    bars: Bars
    rejected: Bars
    reasons: tuple[Reason, ...]
    edge_ms: int | None
    ignored: int = 0

    def with_rejected(self, bars: Bars, reason: Reason) -> Self:
        """Return it with more bars rejected, all for one reason."""
        return replace(
            self,
            rejected=Bars.concat([self.rejected, bars]),
            reasons=(*self.reasons, *[reason] * len(bars)),
        )


def check_page(
    calendar: Calendar,
    timeframe: Timeframe,
    bars: Bars,
    asked: Span,
    now_ms: int,
    precision: Precision = EXACT,
    *,
    among_others: bool = False,
) -> Checked:
    """Sort a page's bars into those to store and those to quarantine.

    ``asked`` is the range of whole slots that the request named; ``precision`` is what the table
    can hold, if that is less than a provider may send. Bars that came ``among_others`` are known to
    be of the timeframe by all of them: three trades of one symbol may well start a coarser bar.
    Where the calendar's night is dropped, its bars are neither stored nor quarantined.

    Raises
    ------
    BadAnswer
        If the page as a whole is not what was asked for: stamps in another unit, or bars of a
        coarser timeframe (R2).
    """
    if not len(bars):
        return Checked(bars, bars, (), None)
    _refuse_other_units(bars)
    canonical = calendar.canonical(timeframe, bars.ts_ms)
    oldest_first = np.argsort(canonical, kind="stable")
    bars, canonical = bars.take(oldest_first), canonical[oldest_first]
    if not among_others:
        refuse_coarser(calendar, timeframe, bars.ts_ms, canonical, asked)
    within = (canonical >= asked.start_ms) & (canonical < asked.end_ms)
    edge_ms = int(canonical[within][0]) if within.any() else None
    dropped = calendar.drops(timeframe, canonical)
    bars, canonical = bars.take(~dropped), canonical[~dropped]
    kept, bad, reasons = _sorted_out(calendar, timeframe, bars, canonical, asked, now_ms, precision)
    return Checked(
        bars=replace(bars, ts_ms=canonical).take(kept),
        rejected=bars.take(bad),
        reasons=reasons,
        edge_ms=edge_ms,
        ignored=int(np.count_nonzero(dropped)),
    )


def _sorted_out(
    calendar: Calendar,
    timeframe: Timeframe,
    bars: Bars,
    canonical: IntColumn,
    asked: Span,
    now_ms: int,
    precision: Precision,
) -> tuple[NDArray[np.bool_], NDArray[np.intp], tuple[Reason, ...]]:
    """Return which bars are good, one per slot, which are bad, and why each of those is."""
    # The number of the first check that a bar fails, 0 for none.
    verdict = np.zeros(len(bars), np.int8)
    checks = (
        *_faults(calendar, timeframe, replace(bars, ts_ms=canonical), asked, now_ms, precision),
        (Reason.conflict, _conflicts(bars, canonical)),
    )
    for number, (_, failed) in enumerate(checks, start=1):
        if failed.any():
            verdict[failed & (verdict == 0)] = number
    bad = np.flatnonzero(verdict)
    good = np.flatnonzero(verdict == 0)
    kept = np.zeros(len(bars), bool)
    kept[good[np.diff(canonical[good], prepend=0) != 0]] = True
    return kept, bad, tuple(checks[number - 1][0] for number in verdict[bad].tolist())


def sound(
    calendar: Calendar,
    timeframe: Timeframe,
    bars: Bars,
    asked: Span,
    now_ms: int,
    precision: Precision = EXACT,
) -> NDArray[np.bool_]:
    """Return which bars `check_page` keeps, each a page of its own, at canonical stamps."""
    good = ~calendar.drops(timeframe, bars.ts_ms)
    for _, failed in _faults(calendar, timeframe, bars, asked, now_ms, precision):
        good &= ~failed
    return good


def _faults(
    calendar: Calendar,
    timeframe: Timeframe,
    bars: Bars,
    asked: Span,
    now_ms: int,
    precision: Precision,
) -> list[tuple[Reason, NDArray[np.bool_]]]:
    """Mark the bars, at canonical stamps, that fail a check by themselves, check by check."""
    grid = calendar.grid(timeframe)
    slots, inside = grid.floor(bars.ts_ms)
    ended = grid.narrow((asked.start_ms, now_ms)) or Span(asked.start_ms, asked.start_ms)
    return [
        (Reason.off_grid, ~inside | (slots != bars.ts_ms)),
        (Reason.outside_range, (bars.ts_ms < asked.start_ms) | (bars.ts_ms >= asked.end_ms)),
        (Reason.forming, bars.ts_ms >= ended.end_ms),
        *_bad_values(bars),
        (Reason.precision, precision.loses(bars)),
    ]


def drop_repeated(
    calendar: Calendar, timeframe: Timeframe, bars: Bars, before: Bars, *, forgets: bool = False
) -> Bars:
    """Return a page's bars without those that the page before it brought as well.

    If it ``forgets``, ``before`` are the oldest bars of that page only: a page that repeats them
    all reaches back over it, and what is newer than they are is repeated, too.

    Raises
    ------
    BadAnswer
        If a bar of one slot differs from all that the page before had for it, or stamps are in
        another unit.
    """
    if not len(bars) or not len(before):
        return bars
    _refuse_other_units(bars)
    canonical = calendar.canonical(timeframe, bars.ts_ms)
    known = calendar.canonical(timeframe, before.ts_ms)
    if canonical.max() < known.min():
        return bars
    repeated = is_among(canonical, known)
    if repeated.any():
        overlap = is_among(known, canonical)
        again = _rows(canonical[repeated], bars.take(repeated))
        if not again <= _rows(known[overlap], before.take(overlap)):
            raise BadAnswer("two pages in a row tell differently of one bar")
        if forgets and overlap.all():
            repeated |= canonical > known.max()
    return bars.take(~repeated)


def _rows(slots: IntColumn, bars: Bars) -> set[tuple[float, ...]]:
    """Bars as values that compare equal where they are the same, absent ones included."""
    return set(zip(slots.tolist(), *(column.tolist() for column in _values(bars)), strict=True))


def _values(bars: Bars) -> NDArray[np.float64]:
    """All columns but the stamps, with a number for what is absent."""
    columns = [getattr(bars, field.name) for field in fields(bars) if field.name != "ts_ms"]
    values: NDArray[np.float64] = np.nan_to_num(np.stack(columns), nan=-1.0)
    return values


def _refuse_other_units(bars: Bars) -> None:
    if bars.ts_ms.min() < EARLIEST_MS or bars.ts_ms.max() > LATEST_MS:
        raise BadAnswer("stamps are not epoch milliseconds")


def refuse_coarser_count(timeframe: Timeframe, page: Page) -> None:
    """Refuse a page made of twice as many base aggregates as its bars can hold, or more (R2).

    A page that another one follows may be cut in the midst of a bar that it counts and doesn't
    carry.

    Raises
    ------
    BadAnswer
        If the provider's own count says that the bars are of a coarser granularity.
    """
    if not len(page.bars) or page.base_count is None:
        return
    bars = len(page.bars) + (page.next is not None)
    if page.base_count >= 2 * timeframe.most_base * bars:
        raise BadAnswer(
            f"{len(page.bars)} bars came for {timeframe}, made of {page.base_count} base "
            f"aggregates: of a coarser granularity"
        )


def _bad_values(bars: Bars) -> list[tuple[Reason, NDArray[np.bool_]]]:
    prices = np.stack((bars.open, bars.high, bars.low, bars.close))
    # A NaN is no number between; a vwap may be missing.
    finite = (np.abs(prices) <= _MOST).all(axis=0) & (np.abs(bars.volume) <= _MOST)
    return [
        (Reason.not_finite, ~finite | (np.abs(bars.vwap) > _MOST)),
        (
            Reason.price,
            (prices < _LEAST).any(axis=0)
            | ((bars.vwap < _LEAST) & ((bars.vwap != 0) | (bars.volume > 0))),
        ),
        (
            Reason.high_low,
            (bars.low > np.minimum(bars.open, bars.close))
            | (bars.high < np.maximum(bars.open, bars.close)),
        ),
        (
            Reason.volume,
            ((bars.volume < _LEAST) & (bars.volume != 0))
            | (bars.trade_count < NO_COUNT)
            | (bars.trade_count > _MOST_TRADES),
        ),
    ]


def _conflicts(bars: Bars, canonical: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the bars, sorted by their slots, that share one with a bar of other values."""
    same_slot = canonical[1:] == canonical[:-1]
    if not same_slot.any():
        return np.zeros(len(bars), bool)
    values = _values(bars)
    differs = same_slot & (values[:, 1:] != values[:, :-1]).any(axis=0)
    return is_among(canonical, canonical[1:][differs])


def refuse_coarser(
    calendar: Calendar,
    timeframe: Timeframe,
    stamps: IntColumn,
    canonical: IntColumn,
    asked: Span,
) -> None:
    """Refuse three bars or more that all start one coarser bar and are under half of the slots.

    Both halves are counted in regular sessions: in extended hours nobody can say what to expect.
    ``stamps`` are those of the bars as they came, ``canonical`` the starts of their slots, both in
    order.

    Raises
    ------
    BadAnswer
        If they are of a coarser timeframe (R2).
    """
    if np.count_nonzero(np.diff(canonical)) < 2:
        return
    finer_first = tuple(Timeframe)
    of_coarser = [
        coarser
        for coarser in finer_first[finer_first.index(timeframe) + 1 :]
        if all(calendar.starts_bar(coarser, part).all() for part in (stamps[:9], stamps))
    ]
    if not of_coarser:
        return
    first, last = int(stamps.min()), int(stamps.max())
    expected = calendar.regular_grid(timeframe).slots(
        (max(first, asked.start_ms), min(last + 1, asked.end_ms))
    )
    if np.count_nonzero(is_among(expected, canonical)) * 2 < len(expected):
        raise BadAnswer(f"bars of {of_coarser[0]} came for {timeframe}")
