"""Which of the listed splits happened, as the raw prices around them tell."""

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise
from math import inf, log
from typing import Final, NamedTuple

from backfill.core.calendar import day_begins
from backfill.core.dataclass import dataclass
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Split
from backfill.errors import UsageError

_NEAR: Final = timedelta(days=14)
_SMALL: Final = log(1.1)
DAY_MOVE: Final = log(2.0)
"""How far a price may move in a day of its own, on a logarithmic scale: to half or double."""
_MOST_SHARES: Final = 1e6


class Status(StrEnum):
    """What is held of a listed split."""

    announced = "announced"
    """Its day is still ahead."""
    applied = "applied"
    """It counts: the prices agree, or can't tell."""
    contradicted = "contradicted"
    """The raw prices around its day say that it did not happen."""
    duplicate = "duplicate"
    """The same split is listed once more: for another day near it, or under another name."""
    unproven = "unproven"
    """Its company had another name that day, and no price shows that it was this company's."""
    dropped = "dropped"
    """Somebody has said that there was no such split."""


_RATIO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?):(\d{1,9}(?:\.\d{1,9})?)")


class Ratio(NamedTuple):
    """So many ``new`` shares for so many ``old`` ones."""

    new: float
    old: float

    def __str__(self) -> str:
        return f"{self.new:g}:{self.old:g}"


def parse_ratio(text: str) -> Ratio:
    """Read how many new shares there are for how many old ones.

    Raises
    ------
    UsageError
        If it is no ratio, or changes nothing.

    >>> parse_ratio("4:1").new, parse_ratio("1:10").old
    (4.0, 10.0)
    """
    match = _RATIO.fullmatch(text.strip())
    ratio = Ratio(float(match[1]), float(match[2])) if match else None
    if ratio is None or 0 in ratio or ratio.new == ratio.old:
        raise UsageError(
            f"{text!r} is not a ratio of new shares to old ones: 4:1 makes four of one, 1:10 one "
            "of ten"
        )
    return ratio


_USUAL: Final = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
_LIKE: Final = 0.08


def looks_like(before: float, after: float) -> Ratio | None:
    """Return the usual split that would move a close like this, if one would, within 8 %.

    >>> str(looks_like(100.0, 9.8)), str(looks_like(4.0, 33.0)), looks_like(100.0, 60.0)
    ('10:1', '1:8', None)
    """
    size = log(before / after)
    nearest = min(_USUAL, key=lambda factor: abs(abs(size) - log(factor)))
    if abs(abs(size) - log(nearest)) > _LIKE:
        return None
    new, old = {1.5: (3, 2), 2.5: (5, 2)}.get(nearest, (nearest, 1))
    return Ratio(new, old) if size > 0 else Ratio(old, new)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of a split, and whether prices decided it."""

    status: Status
    tested: bool


NEW: Final = Verdict(Status.announced, tested=False)
"""What is held of a split that nobody has judged yet."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A split as it is listed, with the raw daily closes around its day, None where none is near.

    ``before`` is the last one before the execution date, ``after`` the first one from it on.
    ``held`` is what was held of it so far, as this company's. ``named`` tells that the company had
    that ticker that day; a split is also listed under names that it took on later, or had given
    up. One that is ``manual`` was set by somebody who knows: no price contradicts it.
    """

    split: Split
    before: float | None = None
    after: float | None = None
    held: Verdict = NEW
    named: bool = True
    manual: bool = False

    @property
    def factor(self) -> float:
        """How many shares one share becomes; earlier prices are divided by it."""
        return self.split.split_to / self.split.split_from


def usable(split: Split) -> bool:
    """Whether a listed split can be one at all: two counts of shares, not the same, nor far apart.

    Prices on another basis must stay numbers, also after several splits.
    """
    counts = (split.split_from, split.split_to)
    if not all(0 < one < inf for one in counts) or counts[0] == counts[1]:
        return False
    return 1 / _MOST_SHARES <= split.split_to / split.split_from <= _MOST_SHARES


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
    return jump / size >= 0.5 and abs(jump - size) <= max(abs(size), DAY_MOVE)


def judge(listed: Sequence[Listed], today: date) -> list[Verdict]:
    """Return what holds of each of one company's splits, under all its names, in their order.

    One whose day is ahead is announced. From that day on it applies unless prices contradict it;
    one that is listed under a name of another day applies only if prices show it. Listings of one
    factor within 14 days of each other are one split: where the prices agree with one of them,
    those that can't be tested are its duplicates; where none can be tested, the latest stands,
    since a date that is listed again is a correction. Of those that one jump of the price would
    explain, one stands.
    """
    verdicts = [_alone(one, today) for one in listed]
    for twins in _twins(listed):
        untested = [index for index in twins if verdicts[index].status is Status.applied]
        proven = [index for index in untested if verdicts[index].tested]
        sure = [index for index in untested if listed[index].manual]
        stands = sure or proven or untested[-1:]
        for index in untested:
            if index not in stands:
                verdicts[index] = Verdict(Status.duplicate, tested=False)
    for same in list(_of_one_jump(listed, verdicts)):
        best = max(same, key=lambda index: _weight(listed[index]))
        for index in same:
            if index != best:
                verdicts[index] = Verdict(Status.duplicate, tested=False)
    return verdicts


@dataclass(frozen=True, slots=True)
class Claim:
    """A company's claim to a split that is listed: whether it had that name, and its verdict.

    ``seen`` tells that closes on both sides of the day are stored of it.
    """

    named: bool
    seen: bool
    verdict: Verdict


def owner_of(claims: Sequence[Claim]) -> int:
    """Return which claim to a split holds, by its index.

    That is the company of which prices prove it, then the one that had the ticker that day; of
    several the one of which the prices are known, then the first.
    """

    def weight(claim: Claim) -> tuple[bool, bool, bool]:
        proven = claim.verdict.status is Status.applied and claim.verdict.tested
        return proven, claim.named, claim.seen

    return max(range(len(claims)), key=lambda index: weight(claims[index]))


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
    if listed.manual and listed.held.status is Status.dropped:
        return listed.held
    if listed.split.execution_date > today:
        return Verdict(Status.announced, tested=False)
    if listed.manual:
        return Verdict(Status.applied, tested=True)
    fit = fits(listed)
    if fit is None and listed.held.tested:
        # The bars that decided it have gone meanwhile; what they told holds.
        return listed.held
    if not listed.named:
        return Verdict(Status.applied if fit else Status.unproven, tested=fit is not None)
    status = Status.contradicted if fit is False else Status.applied
    return Verdict(status, tested=fit is not None)


def _weight(listed: Listed) -> tuple[bool, float, bool]:
    """How good a split is as the cause of the jump around it: the greatest stands."""
    if listed.before is None or listed.after is None:
        return listed.manual, -inf, listed.named
    miss = abs(log(listed.before / listed.after) - log(listed.factor))
    return listed.manual, -round(miss, 9), listed.named


def _of_one_jump(listed: Sequence[Listed], verdicts: Sequence[Verdict]) -> Iterable[list[int]]:
    """Indices of splits that apply and share the day, or the pair of closes around it."""
    groups: dict[tuple[float | date | None, ...], list[int]] = {}
    for index, (one, verdict) in enumerate(zip(listed, verdicts, strict=True)):
        if verdict.status is not Status.applied:
            continue
        day = one.split.execution_date
        known = one.before is not None and one.after is not None
        group = groups.setdefault((one.before, one.after) if known else (day,), [])
        if group and abs(listed[group[-1]].split.execution_date - day) > _NEAR:
            yield group.copy()
            group.clear()
        group.append(index)
    yield from groups.values()


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
