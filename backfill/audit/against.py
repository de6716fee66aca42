"""A sample of series held against what another provider says of the same instrument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import numpy as np

from backfill.audit.sampling import Pair, Sample, Sampled, ask, chosen, failure_of, pages_of
from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.bars import Bars, IntColumn
from backfill.core.calendar import Calendar
from backfill.core.compare import Difference, Kind, compare
from backfill.core.series import Series, Source
from backfill.core.timeframe import Timeframe
from backfill.core.tolerance import USUAL, Apart, Tolerances
from backfill.errors import NotEntitled, SeriesError, SourceMismatch, UsageError
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally
from backfill.run.connect import opened_until
from backfill.run.job import EVERYTHING, Scope
from backfill.run.outcomes import Failure
from backfill.run.venues import base_at
from backfill.settings import Account, Settings
from backfill.store.pool import Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_time


class Unlike(StrEnum):
    """How a slot differs between two providers."""

    differs = "differs"
    """Both have a bar, and a field of it lies too far apart."""
    only_stored = "only_stored"
    """The other provider has no bar of it."""
    only_provider = "only_provider"
    """The other provider has a bar that is not stored."""
    rejected = "rejected"
    """The other provider's bar fails a check."""


_UNLIKE: Final = {
    Kind.changed: Unlike.differs,
    Kind.gone: Unlike.only_stored,
    Kind.not_stored: Unlike.only_provider,
    Kind.rejected: Unlike.rejected,
}


@dataclass(slots=True)
class Comparison:
    """How one series compares: slots that both have, fields that lie apart, slots that differ.

    ``stored`` and ``provider`` are the sources: provider, feed, adjustment.
    """

    series: Series
    stored: str
    provider: str
    both: int = 0
    fields: dict[str, Apart] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def only(self, kind: Kind) -> int:
        """How many slots differ in a way."""
        return sum(one.kind is kind for one in self.differences)


@dataclass(slots=True, kw_only=True)
class Against(Sampled):
    """What a sample told of stored bars and another provider's, by series.

    ``against`` is the other provider's name, ``tolerances`` by how much fields may differ.
    """

    against: str
    tolerances: Tolerances
    own: Mapping[Series, Tracked]
    series: dict[Series, Comparison] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether a slot does."""
        return any(one.differences for one in self.series.values())

    def note(self, pair: Pair) -> None:
        """Compare a pair by the tolerances, in the slots that both feeds have the whole of."""
        series, own = pair.series, self.own[pair.series]
        calendars = own.calendar, pair.tracked.calendar
        stored = _in_common(pair.stored, calendars, series.timeframe)
        provided = _in_common(pair.provided, calendars, series.timeframe)
        found = compare(stored, provided, pair.rejected_ms, self.tolerances.alike)
        self.compared[series] = self.compared.get(series, 0) + len(stored)
        sources = str(own.known.source), str(pair.tracked.known.source)
        one = self.series.setdefault(series, Comparison(series, *sources))
        one.differences.extend(found)
        apart = self.tolerances.apart(stored, provided)
        one.both += len(stored) - sum(each.kind in {Kind.gone, Kind.rejected} for each in found)
        one.fields = {name: one.fields.get(name, Apart()) + more for name, more in apart.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types; shares are of the larger value."""
        return {
            "against": self.against,
            "calls": self.tally.calls,
            "retries": self.tally.retries,
            "rate_limited": self.tally.rate_limited,
            "bars": self.bars,
            "tolerances": dict(self.tolerances.shares),
            "series": [_as_dict(one) for one in self.series.values()],
            "differences": [
                {
                    "symbol": one.series.symbol.ticker,
                    "timeframe": str(one.series.timeframe),
                    "ts": to_time(each.ts_ms).isoformat(),
                    "kind": str(_UNLIKE[each.kind]),
                    "stored": each.stored,
                    "provider": each.provided,
                }
                for one in self.series.values()
                for each in one.differences
            ],
            "failures": self.failures_as_dicts(),
        }


async def verify(
    settings: Settings,
    against: str,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    tolerances: Tolerances = USUAL,
    max_calls: int = 10,
    stop: StopSignal | None = None,
) -> Against:
    """Ask another provider for a random sample of what is covered, and compare; nothing is stored.

    It takes at most ``max_calls`` calls, which count under the other provider's quota.

    Raises
    ------
    UsageError
        If there is no such provider, its key is missing, or nothing is of another one than it.
    DatabaseError
        As `backfill.run.execution.run` does.
    """
    now, stop = as_of or datetime.now(UTC), stop or StopSignal()
    account = settings.account(against)
    account.api_keys()
    name = account.provider.name
    async with opened_until(settings, stop) as database:
        tracked = [
            one
            for one in await tracked_series(database, settings, now, scope)
            if one.known.source is not None and one.known.source.provider != name
        ]
        if not tracked:
            raise UsageError(
                f"nothing here is from another provider than {name}; to ask a provider for its own "
                "bars again",
                mend="backfill gaps --verify",
            )
        pages, failures = await _pages(database, settings, account, tracked, now)
        result = Against(
            Tally(Budget(max_calls)),
            failures=failures,
            against=name,
            tolerances=tolerances,
            own={one.series: one for one in tracked},
        )
        with Reader() as reader:
            await ask(database, now, chosen(pages, max_calls), result, stop, reader)
    return result


async def _pages(
    database: Database,
    settings: Settings,
    account: Account,
    tracked: Sequence[Tracked],
    now: datetime,
) -> tuple[list[Sample], list[Failure]]:
    """Return the other provider's pages of what is covered, and why some can't be asked for."""
    today, provider = now.date(), account.provider
    first = min(account.terms.window_start(today), *(one.since for one in tracked))
    calendars = {
        name: await load_calendar(database, name, provider.can.feed, first, today, settings.night)
        for name in {one.calendar.name for one in tracked}
    }
    pages: list[Sample] = []
    failures: list[Failure] = []
    for one in tracked:
        try:
            asked, source = _asked_of(one, account, calendars[one.calendar.name])
            found = pages_of(asked, source, now)
            if not found:
                raise NotEntitled(f"{provider.name} can be asked for nothing of what is covered")
            pages += found
        except SeriesError as error:
            failures.append(failure_of(one.series, error))
    return pages, failures


def _asked_of(one: Tracked, account: Account, calendar: Calendar) -> tuple[Tracked, Source]:
    """Return a series as it would be kept if its bars were the other provider's.

    Raises
    ------
    SeriesError
        If the other provider can't be asked for bars that are like those.
    """
    symbol, timeframe = one.series
    provider, held = account.provider, one.known.source
    adjustment = held.adjustment if held else account.adjustment
    base = base_at(provider, symbol, timeframe)
    offered = provider.can.adjustment_of(base, adjustment)
    if offered != adjustment:
        raise SourceMismatch(
            f"its bars are adjusted as {adjustment}, those of {provider.name} as {offered}"
        )
    derived_from = None if base is timeframe else base
    source = Source(provider.name, provider.can.feed_of(base), adjustment, derived_from)
    known = replace(one.known, source=source)
    return replace(one, account=account, calendar=calendar, known=known), source


def _in_common(bars: Bars, calendars: Sequence[Calendar], timeframe: Timeframe) -> Bars:
    """Return the bars of slots in which both feeds trade for as long.

    The hour of the open begins before it where a feed has more than the regular session.
    """
    common = np.ones(len(bars), bool)
    for calendar in calendars:
        slots, inside = calendar.grid(timeframe).floor(bars.ts_ms)
        common &= inside & (slots == bars.ts_ms)
    if timeframe.is_intraday:
        one, other = (_minutes(calendar, bars, timeframe) for calendar in calendars)
        common &= one == other
    return bars.take(common)


def _minutes(calendar: Calendar, bars: Bars, timeframe: Timeframe) -> IntColumn:
    """Return how many minutes of each bar's slot a feed trades in."""
    grid, length_ms = calendar.grid(Timeframe.m1), timeframe.length_ms
    counts = [grid.count((at_ms, at_ms + length_ms)) for at_ms in bars.ts_ms.tolist()]
    return np.array(counts, np.int64)


def _as_dict(one: Comparison) -> dict[str, Any]:
    return {
        "symbol": one.series.symbol.ticker,
        "timeframe": str(one.series.timeframe),
        "stored": one.stored,
        "provider": one.provider,
        "slots": {
            "both": one.both,
            **{str(_UNLIKE[kind]): one.only(kind) for kind in _UNLIKE},
        },
        "fields": {
            name: {
                "compared": apart.compared,
                "differ": apart.differ,
                "largest": apart.largest,
                "largest_ts": (
                    None if apart.largest_ms is None else to_time(apart.largest_ms).isoformat()
                ),
            }
            for name, apart in one.fields.items()
        },
    }
