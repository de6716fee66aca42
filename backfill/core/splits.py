"""Which of the listed splits happened, as the raw prices around them tell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise
from math import inf, log
from typing import Final

from backfill.core.calendar import day_begins
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Split

_NEAR: Final = timedelta(days=14)
_SMALL: Final = log(1.1)
_DAY_MOVE: Final = log(2.0)


class Status(StrEnum):
    """What is held of a listed split."""

    announced = "announced"
    """Its day is still ahead."""
    applied = "applied"
    """It counts: the prices agree, or can't tell."""
    contradicted = "contradicted"
    """The raw prices around its day say that it did not happen."""
    duplicate = "duplicate"
    """It can't be tested, and the same split is listed for another day near it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A split as it is listed, with the raw daily closes around its day, None where none is near.

    ``before`` is the last one before the execution date, ``after`` the first one from it on.
    """

    split: Split
    before: float | None = None
    after: float | None = None

    @property
    def factor(self) -> float:
        """How many shares one share becomes; earlier prices are divided by it."""
        return self.split.split_to / self.split.split_from


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of a split, and whether prices decided it."""

    status: Status
    tested: bool


def usable(split: Split) -> bool:
    """Whether a listed split can be one at all: two finite counts of shares, not the same."""
    counts = (split.split_from, split.split_to)
    return all(0 < one < inf for one in counts) and counts[0] != counts[1]


def fits(listed: Listed) -> bool | None:
    """Return whether the prices moved as the split says; None if they can't tell.

    They agree when the jump between the closes is nearer to the factor than to no split at all, on
    a logarithmic scale, and not further beyond it than the factor itself (or than half or double
    the price, for a small factor): a day's own move comes on top. A factor within 10 % of 1 is lost
    in such moves.

    >>> ten_for_one = Split("A", date(2024, 6, 10), 1, 10)
    >>> fits(Listed(ten_for_one, 1200.0, 121.0)), fits(Listed(ten_for_one, 1200.0, 720.0))
    (True, False)
    """
    if listed.before is None or listed.after is None or abs(log(listed.factor)) < _SMALL:
        return None
    size, jump = log(listed.factor), log(listed.before / listed.after)
    return jump / size >= 0.5 and abs(jump - size) <= max(abs(size), _DAY_MOVE)


def judge(listed: Sequence[Listed], today: date) -> list[Verdict]:
    """Return what holds of each of one ticker's splits, in their order.

    One whose day is ahead is announced. From that day on it applies unless prices contradict it.
    Listings of one factor within 14 days of each other are one split: where the prices agree with
    one of them, those that can't be tested are its duplicates; where none can be tested, the latest
    stands, since a date that is listed again is a correction.
    """
    verdicts = [_alone(one, today) for one in listed]
    for twins in _twins(listed):
        untested = [index for index in twins if verdicts[index].status is not Status.contradicted]
        proven = [index for index in untested if verdicts[index].tested]
        stands = proven or untested[-1:]
        for index in untested:
            if index not in stands and verdicts[index].status is Status.applied:
                verdicts[index] = Verdict(Status.duplicate, tested=False)
    return verdicts


def basis_ends(timeframe: Timeframe, execution_date: date, calendar: str) -> int:
    """Return where the bars end that a split puts on another basis, in epoch ms.

    That is where its day begins, or the end of the week or month in which it falls.
    """
    before = execution_date - timedelta(days=1)
    match timeframe:
        case Timeframe.w1:
            day = before + timedelta(days=7 - before.weekday())
        case Timeframe.mn1:
            day = date(before.year + before.month // 12, before.month % 12 + 1, 1)
        case _:
            day = execution_date
    return day_begins(calendar, day, timeframe)


def _alone(listed: Listed, today: date) -> Verdict:
    if listed.split.execution_date > today:
        return Verdict(Status.announced, tested=False)
    fit = fits(listed)
    status = Status.contradicted if fit is False else Status.applied
    return Verdict(status, tested=fit is not None)


def _twins(listed: Sequence[Listed]) -> Iterable[list[int]]:
    """Indices of listings of one factor on neighbouring days, each group oldest first."""

    def place(index: int) -> tuple[float, date]:
        return listed[index].factor, listed[index].split.execution_date

    order = sorted(range(len(listed)), key=place)
    group = order[:1]
    for (factor, day), (next_factor, next_day), index in (
        (place(one), place(two), two) for one, two in pairwise(order)
    ):
        if factor != next_factor or next_day - day > _NEAR:
            yield group
            group = []
        group.append(index)
    yield group
