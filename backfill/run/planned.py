"""What a run would fetch, and what it would cost: the plan, as people and JSON are told it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

from backfill.core.archive import FilesOrCalls
from backfill.core.batched import NO_BATCHES, Batching
from backfill.core.coverage import Spans
from backfill.core.dataclass import dataclass
from backfill.core.grouped import Grouping
from backfill.core.market_files import NO_FILES, MarketFiles
from backfill.core.pages import PageLaw
from backfill.core.plan import plan_ranges
from backfill.core.series import Series
from backfill.core.terms import Quota
from backfill.core.work import Target, Work
from backfill.errors import SeriesError


class PlannedSeries(NamedTuple):
    """What a run would fetch for one series.

    A series that is rolled up from another of the run costs no calls of its own. ``newest`` is how
    many of the newest slots the provider has at all, where more was asked for, ``begins`` the day
    from which on it has any, then.
    """

    symbol: str
    timeframe: str
    calls: int
    calls_max: int
    bars: int
    first: str | None
    last: str | None
    derived_from: str | None
    refusal: str | None
    newest: int | None = None
    begins: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run probably takes: time, by ``runs`` earlier ones, and at most so much of the disk.

    ``measured`` tells that ``bytes_per_bar`` is this table's own, its index included.
    """

    seconds: float
    runs: int
    bytes: int
    bytes_per_bar: float
    measured: bool


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What of a plan is read out of files, and what all of that would take by calls alone.

    ``requests`` are among the plan's calls. Bytes are as they are sent, about.
    """

    requests: int = 0
    bytes: int = 0
    calls_instead: int = 0
    bytes_instead: int = 0

    def __add__(self, other: Self) -> Self:
        """Return both together."""
        sums = zip(astuple(self), astuple(other), strict=True)
        return type(self)(*(one + more for one, more in sums))

    @classmethod
    def of_market(cls, files: MarketFiles) -> Self:
        """Return what files of a whole market are read for."""
        return cls(files.requests, files.bytes, files.calls_instead, files.bytes_instead)

    @classmethod
    def of(cls, work: Work, files: FilesOrCalls, law: PageLaw) -> Self:
        """Return what of a piece of work is read out of files."""
        read = [one for one in work.ranges if one.file is not None]
        if not read:
            return cls()
        calendar, base = work.calendar, work.base
        missing = Spans.union(span for one in read for span in one.claims)
        calls = plan_ranges(calendar, base, missing, law)
        return cls(
            sum(one.calls for one in read),
            sum(files.bytes_of(calendar, base, one) for one in read),
            sum(one.calls for one in calls),
            sum(files.bytes_of(calendar, base, one) for one in calls),
        )


NO_ARCHIVE: Final = ArchivePlan()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would fetch: calls as expected and at most, bars at most, seconds at the quota.

    ``calls_saved`` is how many more it would take without rolling up one timeframe from another.
    ``calls_grouped`` of them bring one session each of many series, or their newest bars: these
    have no calls of their own then, unless an answer leaves one out: at most, those count as well.
    ``archive`` is what of it is read out of files; a file that is missing costs calls, which count
    at most.
    """

    calls: int
    calls_max: int
    calls_saved: int
    calls_grouped: int
    bars: int
    seconds: float
    series: list[PlannedSeries]
    expected: Expected | None = None
    archive: ArchivePlan = NO_ARCHIVE

    @classmethod
    def of(
        cls,
        work: Sequence[Work],
        quota: Quota,
        cost: int,
        calls_saved: int,
        grouping: Grouping,
        archive: ArchivePlan = NO_ARCHIVE,
        files: MarketFiles = NO_FILES,
        batched: Batching = NO_BATCHES,
    ) -> Self:
        """Sum up pieces of work for one provider, some of which calls for many close, or files.

        A request takes its ``cost`` from the quota, one for a file nothing.
        """
        grouped = grouping.calls + batched.calls
        archive += ArchivePlan.of_market(files)
        left = files.calls_left | dict.fromkeys((*grouping.work, *batched.work), 0)
        series = [
            _planned(piece, target, left.get(piece) if target is piece.targets[0] else 0)
            for piece in work
            for target in piece.targets
        ]
        calls = sum(one.calls for one in series) + grouped + files.requests
        return cls(
            calls=calls,
            calls_max=sum(one.calls_max for one in series) + grouped + files.requests,
            calls_saved=calls_saved,
            calls_grouped=grouped,
            bars=sum(one.bars for one in series),
            seconds=round(quota.seconds_for(calls - archive.requests, cost), 1),
            series=series,
            archive=archive,
        )

    @classmethod
    def joined(
        cls, parts: Sequence["Plan"], refused: Mapping[Series, SeriesError], seconds: float
    ) -> Self:
        """Return what is asked of several providers at once, with what can't be kept."""
        series = [series for part in parts for series in part.series]
        series += [_refused(one, error) for one, error in refused.items()]
        return cls(
            calls=sum(part.calls for part in parts),
            calls_max=sum(part.calls_max for part in parts),
            calls_saved=sum(part.calls_saved for part in parts),
            calls_grouped=sum(part.calls_grouped for part in parts),
            bars=sum(part.bars for part in parts),
            seconds=round(seconds, 1),
            series=series,
            archive=sum((part.archive for part in parts), NO_ARCHIVE),
        )

    def totals(self) -> dict[str, Any]:
        """Return the sums, without the series."""
        values = asdict(replace(self, series=[])) | {"series": len(self.series)}
        if self.expected is None:
            del values["expected"]
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON's own types."""
        return self.totals() | {"series": [one._asdict() for one in self.series]}


def _planned(work: Work, target: Target, left: int | None) -> PlannedSeries:
    """Return what is fetched of a series; ``left`` are the calls of its own, if not all."""
    pays = target is work.targets[0]
    grid = work.calendar.grid(target.series.timeframe)
    hull = target.missing.hull
    return PlannedSeries(
        symbol=target.series.symbol.ticker,
        timeframe=str(target.series.timeframe),
        calls=sum(one.calls for one in work.ranges) if left is None else left,
        calls_max=sum(one.calls_max for one in work.ranges) if pays else 0,
        bars=sum(grid.count(span) for span in target.missing),
        first=_iso(hull.start_ms) if hull else None,
        last=_iso(hull.end_ms) if hull else None,
        derived_from=str(derived) if (derived := target.source.derived_from) else None,
        refusal=target.refusal.outcome if target.refusal else None,
        newest=target.newest,
        begins=target.begins.isoformat() if target.begins else None,
    )


def _refused(series: Series, error: SeriesError) -> PlannedSeries:
    return PlannedSeries(
        symbol=series.symbol.ticker,
        timeframe=str(series.timeframe),
        calls=0,
        calls_max=0,
        bars=0,
        first=None,
        last=None,
        derived_from=None,
        refusal=error.outcome,
    )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
