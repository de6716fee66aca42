"""Archives: finished periods of bars as whole files, and whether those or calls bring a range."""

from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.pages import Files, PageLaw
from backfill.core.plan import PlannedRange, plan_ranges
from backfill.core.timeframe import Timeframe

_ALIKE: Final = 256


class Use(StrEnum):
    """Whether files are taken where there are some."""

    auto = "auto"
    """Where they take fewer requests than calls would, and fewer bytes."""
    always = "always"
    never = "never"


@dataclass(frozen=True, slots=True)
class Period:
    """A length of files: there is one for each day, or month, that ended ``ready_ms`` ago."""

    length: Timeframe
    ready_ms: int


@dataclass(frozen=True, slots=True)
class Archive:
    """The files that a provider has beside its calls.

    Parameters
    ----------
    timeframes
        Whose bars they hold.
    periods
        How long they are, the longest first: where one is missing, those after it are tried.
    requests
        What one takes, the request for its checksum included.
    bar_bytes, call_bar_bytes
        About how many bytes a bar takes as it is sent: in a file, and in the answer to a call.
    of_market
        Whether a file holds the bars of every symbol. Whether one is worth it then depends on how
        many of its symbols are wanted: `FilesOrCalls` leaves that to `backfill.core.market_files`.
    lacks_vwap
        Whether its bars are without the vwap that those of calls have.
    market_bytes
        About how many bytes such a file takes, of each of the timeframes.
    """

    timeframes: frozenset[Timeframe]
    periods: tuple[Period, ...]
    requests: int
    bar_bytes: float
    call_bar_bytes: float
    of_market: bool = False
    lacks_vwap: bool = False
    market_bytes: tuple[tuple[Timeframe, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file as it was read: what it is called below the archive's address, and which version.

    ``checksum`` is what was published of it, None where nothing is; ``bytes`` how long it was.
    """

    path: str
    etag: str | None
    checksum: str | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a file holds, by its path: bars of a ``timeframe`` in ``span``, in epoch ms.

    ``spelling`` names the symbol as the provider does; None where it holds every symbol.
    """

    spelling: str | None
    timeframe: Timeframe
    span: Span


@dataclass(frozen=True, slots=True)
class FilesOrCalls:
    """What decides for each period whether its file is read: an archive as it is at ``now_ms``."""

    archive: Archive
    use: Use
    now_ms: int

    def ranges(
        self, calendar: Calendar, timeframe: Timeframe, missing: Spans, law: PageLaw
    ) -> tuple[PlannedRange, ...]:
        """Return the ranges that files bring, a file each; calls by ``law`` bring the rest."""
        if self.use is Use.never or timeframe not in self.archive.timeframes:
            return ()
        return _ranges(self, calendar, timeframe, missing, law)

    def instead(
        self, calendar: Calendar, timeframe: Timeframe, planned: PlannedRange, law: PageLaw
    ) -> tuple[PlannedRange, ...]:
        """Return what brings a range whose file is missing, newest first: shorter files, or calls.

        They are taken whatever they cost: a month that isn't there yet has its days.
        """
        lengths = [one.length for one in self.archive.periods]
        after = lengths.index(planned.file) + 1 if planned.file else len(lengths)
        shorter, requests = self.archive.periods[after:], self.archive.requests
        return _by(shorter, requests, calendar, timeframe, planned.claims, law)

    def bytes_of(self, calendar: Calendar, timeframe: Timeframe, planned: PlannedRange) -> int:
        """Return about how many bytes a range takes as it is sent."""
        if planned.file is None:
            return round(planned.slots * self.archive.call_bar_bytes)
        period = calendar.grid(planned.file).widen(planned.span)
        return round(calendar.grid(timeframe).count(period) * self.archive.bar_bytes)


@lru_cache(_ALIKE)
def _ranges(
    choice: FilesOrCalls, calendar: Calendar, timeframe: Timeframe, missing: Spans, law: PageLaw
) -> tuple[PlannedRange, ...]:
    found: list[PlannedRange] = []
    periods, requests = choice.archive.periods, choice.archive.requests
    for at, period in enumerate(periods):
        lengths = calendar.grid(period.length)
        for one in _by(periods[at:], requests, calendar, timeframe, missing, law):
            ready_ms = lengths.widen(one.span).end_ms + period.ready_ms
            if ready_ms <= choice.now_ms and _is_worth_it(choice, calendar, timeframe, one, law):
                found.append(one)
                missing -= one.claims
    return tuple(found)


def _by(
    periods: tuple[Period, ...],
    requests: int,
    calendar: Calendar,
    timeframe: Timeframe,
    missing: Spans,
    law: PageLaw,
) -> tuple[PlannedRange, ...]:
    """Return the files of the first of some periods that bring a range, or else the calls.

    At most each is missing, whatever the request for its checksum said, and what is instead, too.
    """
    if not periods:
        return plan_ranges(calendar, timeframe, missing, law)
    first, *others = periods
    return tuple(
        replace(
            one,
            calls=requests,
            calls_max=requests
            + sum(
                other.calls_max
                for other in _by(tuple(others), requests, calendar, timeframe, one.claims, law)
            ),
            file=first.length,
        )
        for one in plan_ranges(calendar, timeframe, missing, Files(first.length))
    )


def _is_worth_it(
    choice: FilesOrCalls,
    calendar: Calendar,
    timeframe: Timeframe,
    planned: PlannedRange,
    law: PageLaw,
) -> bool:
    if choice.use is Use.always:
        return True
    calls = plan_ranges(calendar, timeframe, planned.claims, law)
    by_calls = sum(choice.bytes_of(calendar, timeframe, one) for one in calls)
    return (
        planned.calls < sum(one.calls for one in calls)
        and choice.bytes_of(calendar, timeframe, planned) < by_calls
    )
