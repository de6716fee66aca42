"""What an export holds, month by month, and which months are to be written anew.

A partition is the bars of all series of one timeframe that begin in one month, by UTC. Its digest
tells what it is made of: which series, from which source, what of the month each is covered for,
and by which splits it is adjusted. A partition whose digest is another by now is written again, and
so is one in whose time a run has changed bars since.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np

from backfill.core.bars import Bars
from backfill.core.coverage import Span, Spans
from backfill.core.lots import lots
from backfill.core.series import Series
from backfill.core.timeframe import DAY_MS, HOUR_MS, Timeframe

FORMATS: Final = ("parquet", "csv")
MARGIN: Final = timedelta(days=1)
"""Runs that end so long before a mark are looked at again: a replica may tell of them late."""
_TRUSTED_FOR: Final = timedelta(days=60)
"""How long a mark tells what changed since: the ledger keeps what changed for 90 days."""
_NIGHT_MS: Final = 4 * HOUR_MS
"""A trade date begins so long before its midnight where there is a night."""
_LONGEST_DAYS: Final = {Timeframe.d1: 1, Timeframe.w1: 7, Timeframe.mn1: 28}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Partition(NamedTuple):
    """The bars of a timeframe that begin in a month, which is named by its first day."""

    timeframe: Timeframe
    month: date

    @property
    def folder(self) -> str:
        """Where it lies, as DuckDB, polars and others that know Hive's folders read it.

        >>> Partition(Timeframe.d1, date(2024, 1, 1)).folder
        'timeframe=d1/month=2024-01'
        """
        return f"timeframe={self.timeframe}/month={self.month:%Y-%m}"

    @property
    def span(self) -> Span:
        """The time in which its bars begin."""
        return Span(_begins_ms(self.month), _begins_ms(_following(self.month)))


class Factor(NamedTuple):
    """By how much prices are divided from one time to before another, for the splits after it."""

    start_ms: int
    end_ms: int
    split: float


@dataclass(frozen=True, slots=True)
class Part:
    """What of a series is exported: all of it that is covered, within the range that is asked for.

    ``factors`` are empty where the bars go out as they are stored.
    """

    series: Series
    source: str
    spans: Spans
    factors: tuple[Factor, ...] = ()

    def within(self, month: Span) -> Spans:
        """Return what of a month is exported of it."""
        return self.spans & Spans.of(month)

    def adjusted_within(self, month: Span) -> list[Factor]:
        """Return the factors that bars of a month are divided by."""
        return [
            one
            for one in self.factors
            if one.start_ms < month.end_ms + _NIGHT_MS and month.start_ms < one.end_ms
        ]

    def most_bars(self, month: Span) -> int:
        """Return how many bars a month may have of it."""
        timeframe = self.series.timeframe
        if timeframe.is_intraday:
            length_ms = timeframe.length_ms
        else:
            length_ms = _LONGEST_DAYS[timeframe] * DAY_MS
        return sum((end - start) // length_ms + 1 for start, end in self.within(month))


class Changed(NamedTuple):
    """Bars of a series that a run has changed: from the start of the first to that of the last."""

    series: Series
    first_ms: int
    last_ms: int


class RunBars(NamedTuple):
    """How many bars a run has changed, and when it ended; None while it goes on."""

    ended_at: datetime | None
    bars: int


class Mark(msgspec.Struct, frozen=True):
    """Up to which changes an export stands.

    ``at`` is when the newest run that it saw had ended; ``bars`` are how many bars each run had
    changed that ended up to a day before that, or not yet.
    """

    at: datetime | None
    bars: dict[str, int]

    @classmethod
    def of(cls, runs: Mapping[str, "RunBars"]) -> Self:
        """Return the mark of an export that sees these runs."""
        at = max((one.ended_at for one in runs.values() if one.ended_at), default=None)
        late = {
            run: one.bars
            for run, one in runs.items()
            if at is None or one.ended_at is None or one.ended_at >= at - MARGIN
        }
        return cls(at, late)

    def is_trusted(self, runs: Collection[str], now: datetime) -> bool:
        """Whether what has changed since can be told by the ``runs`` that the ledger still has.

        It can't where a run has gone: the ledger forgets after 90 days, or it is an older state of
        the database that was brought back.
        """
        return self.bars.keys() <= set(runs) and (self.at is None or now - self.at < _TRUSTED_FOR)

    def changing(self, runs: Mapping[str, RunBars]) -> list[str]:
        """Return which runs have changed bars since."""
        return [run for run, one in runs.items() if one.bars != self.bars.get(run, 0)]


class File(msgspec.Struct, frozen=True):
    """A file as its folder lists it, by which it is known to be the one that was written.

    ``modified_ns`` is 0 in a bucket, which tells when a file has come only after that.
    """

    size: int
    modified_ns: int


class Written(msgspec.Struct, frozen=True):
    """A partition as it was written: how many bars, what they were made of, and as which file."""

    bars: int
    digest: str
    file: File | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an export wrote, and up to which changes it stands.

    ``writer`` names the export that wrote it: one that finds another's has been overtaken.
    """

    format: str
    adjusted: bool
    writer: str
    mark: Mark
    partitions: dict[str, Written]
    version: int = 1


def adjusted(bars: Bars, factors: Iterable[Factor]) -> Bars:
    """Return bars as the view `ohlc_bars_adjusted` has them, by the factors that apply to them.

    Those of a night are on the share basis of the trade date that follows.
    """
    split = np.ones(len(bars))
    for one in factors:
        at_ms = bars.ts_ms + _NIGHT_MS
        split[(at_ms >= one.start_ms) & (at_ms < one.end_ms)] = one.split
    return replace(
        bars,
        volume=bars.volume * split,
        **{name: getattr(bars, name) / split for name in ("open", "high", "low", "close", "vwap")},
    )


def batches(parts: Iterable[Part], month: Span, most: int) -> Iterator[list[Part]]:
    """Return the parts that have something of a month, as many at once as have ``most`` bars."""
    sized = ((part, part.most_bars(month)) for part in parts)
    return lots(((part, bars) for part, bars in sized if bars), most)


def digests(parts: Iterable[Part]) -> dict[Partition, str]:
    """Return what each partition is made of, as a digest; the parts are in the order of the files.

    A month in which a series is covered belongs to it, whether or not it has bars there.
    """
    found: dict[Partition, blake2b] = {}
    for part in parts:
        head = f"{part.series.symbol.id}\n{part.series.symbol.ticker}\n{part.source}\n"
        for month in months_of(part.spans):
            partition = Partition(part.series.timeframe, month)
            made_of = (part.within(partition.span).items, part.adjusted_within(partition.span))
            digest = found.setdefault(partition, blake2b(digest_size=16))
            digest.update(f"{head}{made_of}\n".encode())
    return {partition: digest.hexdigest() for partition, digest in found.items()}


def outdated(
    now: Mapping[Partition, str],
    written: Mapping[str, Written],
    present: Mapping[str, File],
    changed: Iterable[Changed],
) -> list[Partition]:
    """Return the partitions to be written, timeframe by timeframe, the oldest month first.

    Parameters
    ----------
    now
        What each partition is made of.
    written
        What was written before, by folder.
    present
        The files that lie there, by folder.
    changed
        What runs have changed since.
    """
    touched = {
        Partition(one.series.timeframe, month)
        for one in changed
        for month in _months(one.first_ms, one.last_ms)
    }

    def stands(partition: Partition) -> bool:
        before = written.get(partition.folder)
        return (
            before is not None
            and before.digest == now[partition]
            and (before.bars == 0 or before.file == present.get(partition.folder))
            and partition not in touched
        )

    order = list(Timeframe)
    left = [partition for partition in now if not stands(partition)]
    return sorted(left, key=lambda one: (order.index(one.timeframe), one.month))


def months_of(spans: Spans) -> Iterator[date]:
    """Yield the first day of each month that spans lie in, by UTC, in order."""
    last: date | None = None
    for start_ms, end_ms in spans:
        for month in _months(start_ms, end_ms - 1):
            if month != last:
                yield month
            last = month


def _months(first_ms: int, last_ms: int) -> Iterator[date]:
    month = _day(first_ms).replace(day=1)
    until = _day(last_ms)
    while month <= until:
        yield month
        month = _following(month)


def _day(ms: int) -> date:
    return (_EPOCH + timedelta(milliseconds=ms)).date()


def _following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _begins_ms(day: date) -> int:
    return (day - _EPOCH.date()).days * DAY_MS
