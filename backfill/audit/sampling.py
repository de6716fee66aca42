"""Asking a provider for a sample of what is covered, and pairing it with what is stored.

Nothing is written.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backfill.audit.tracked import Tracked
from backfill.core.bars import Bars, IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import frontier_ms, one_page_spans, plan_ranges
from backfill.core.planning import by_name
from backfill.core.precision import Precision
from backfill.core.series import Series, Source
from backfill.core.timeframe import Timeframe
from backfill.core.work import Target, Work
from backfill.errors import (
    BackfillError,
    DatabaseError,
    QuotaUsedUp,
    SeriesError,
    SharedFault,
    Stopped,
    Unauthorised,
    UsageError,
)
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.run.connect import open_client
from backfill.run.outcomes import Failure
from backfill.settings import Account
from backfill.store.pool import Database
from backfill.store.read import stored_bars
from backfill.store.shape import bars_shape
from backfill.store.times import to_ms

if TYPE_CHECKING:
    from backfill.fetch.client import Client


@dataclass(frozen=True, slots=True)
class Sample:
    """One page's worth of a covered range of one series, and the timeframe it is fetched in.

    ``source`` is what is asked for; the account and the calendar are those of ``tracked``.
    """

    tracked: Tracked
    source: Source
    base: Timeframe
    span: Span


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """The stored bars and the provider's of what an answer proves of a series, sorted.

    ``rejected_ms`` are the slots of which the provider's bar failed a check.
    """

    tracked: Tracked
    stored: Bars
    provided: Bars
    rejected_ms: IntColumn
    precision: Precision

    @property
    def series(self) -> Series:
        """The series that both are of."""
        return self.tracked.series


@dataclass(slots=True)
class Sampled(ABC):
    """What a sample told: how many bars were compared, and what failed.

    ``error`` is what ended it before its end, if something did.
    """

    tally: Tally
    compared: dict[Series, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    error: SharedFault | Stopped | None = None

    @abstractmethod
    def note(self, pair: Pair) -> None:
        """Compare a pair and keep what it tells."""

    @property
    @abstractmethod
    def differs(self) -> bool:
        """Whether something is not as it should be."""

    @property
    def bars(self) -> int:
        """How many stored bars were compared."""
        return sum(self.compared.values())

    @property
    def exit_code(self) -> int:
        """4 if a bar differs; a fault or a failure comes first.

        A used-up budget or quota is no fault, unless not one bar was compared before.
        """
        if self.error is not None and (self.error.exit_code != 5 or not self.bars):
            return self.error.exit_code
        if self.failures:
            return 1
        return 4 if self.differs else 0

    @property
    def nothing(self) -> str | None:
        """That nothing was compared, and why, if so: then nothing is known to be right."""
        if self.bars or self.differs:
            return None
        return "nothing was compared" + (f": {self.error}" if self.error else "")

    def fail(self, part: Sequence[Sample], error: BackfillError) -> None:
        """Note what kept the samples of an account, or the rest of them, from being compared."""
        for series in dict.fromkeys(sample.tracked.series for sample in part):
            if series not in self.compared:
                self.failures.append(failure_of(series, error))

    def failures_as_dicts(self) -> list[dict[str, Any]]:
        """Return the failures as JSON's own types."""
        return [
            {
                "symbol": one.symbol,
                "timeframe": one.timeframe,
                "outcome": one.outcome,
                "message": one.message,
            }
            for one in self.failures
        ]


def pages_of(one: Tracked, source: Source, now: datetime) -> list[Sample]:
    """Return all that a series is covered for in pages, each of which is surely one call."""
    due = one.due(now)
    if due is None or one.series.symbol.successor_figi:
        return []
    base = source.derived_from or one.series.timeframe
    covered = one.known.coverage & Spans.of(due)
    grid = one.calendar.grid(one.series.timeframe)
    law = one.account.provider.can.pages
    return [
        Sample(one, source, base, span)
        for part in by_name(Series(one.series.symbol, base), one.calendar, covered)
        for span in one_page_spans(one.calendar, base, grid.inside(part), law)
    ]


def chosen(pages: Sequence[Sample], budget: int) -> list[Sample]:
    """Choose as many pages as the budget has calls, each as likely as another."""
    return random.SystemRandom().sample(pages, min(budget, len(pages)))


async def ask(
    database: Database,
    now: datetime,
    samples: Sequence[Sample],
    result: Sampled,
    stop: StopSignal,
    reader: Reader,
) -> None:
    """Compare the samples of each account; one that can't go on fails its series and no other's."""
    parts = _by_account(samples)
    if len(parts) == 1:
        parts[0][0].api_keys()
    faults: list[SharedFault] = []
    for account, part in parts:
        try:
            async with open_client(
                account,
                database,
                result.tally,
                stop,
                reader,
                now_ms=to_ms(now),
                symbols=len({sample.tracked.series.symbol.id for sample in part}),
            ) as client:
                await _Sampler(database, client, now, result).compare(part)
        except QuotaUsedUp as error:
            result.error = error
        except (DatabaseError, Stopped) as error:
            result.error = error
            return
        except (SharedFault, UsageError) as error:
            faults.append(error if isinstance(error, SharedFault) else Unauthorised(str(error)))
            if len(parts) > 1:
                result.fail(part, faults[-1])
    if faults and len(faults) == len(parts):
        result.error = faults[0]


def failure_of(series: Series, error: BackfillError) -> Failure:
    """Return an error as a series' own."""
    return Failure(series.symbol.ticker, str(series.timeframe), error.outcome, str(error))


class _Sampler:
    """Fetches samples of one provider and pairs them."""

    def __init__(
        self, database: Database, client: "Client", now: datetime, result: Sampled
    ) -> None:
        self._database = database
        self._client = client
        self._now_ms = to_ms(now)
        self._result = result

    async def compare(self, samples: Sequence[Sample]) -> None:
        """Compare every sample; a series that fails is noted, and the others go on.

        Raises
        ------
        SharedFault
            What ends it for all series of the provider, or of the database.
        Stopped
            If it is to end.
        """
        for sample in samples:
            try:
                await self._compare(sample)
            except SeriesError as error:
                self._result.failures.append(failure_of(sample.tracked.series, error))

    async def _compare(self, sample: Sample) -> None:
        series, calendar = sample.tracked.series, sample.tracked.calendar
        provider = sample.tracked.account.provider
        source = sample.source
        wanted = Spans.of(sample.span)
        [planned] = plan_ranges(calendar, sample.base, wanted, provider.can.pages)
        target = Target(series, source, sample.span, wanted)
        precision = (await self._database.run(bars_shape)).precision
        work = Work(
            series.symbol,
            calendar,
            sample.base,
            (target,),
            (planned,),
            precision,
            fills_empty=provider.can.fills_empty,
        )
        paging = Paging(work, planned, self._now_ms)
        asked = work.asked(planned, source.adjustment)
        request = provider.bars(asked)
        while True:
            page = await self._client.fetch(
                request,
                partial(provider.read_bars, asked=asked),
                asker=f"{series.symbol.ticker} {sample.base}",
            )
            now_ms = self._now_ms - page.delayed_ms
            settling = sample.tracked.terms.settling
            final = frontier_ms(calendar, sample.base, settling, now_ms)
            for chunk in paging.read(page, None, final):
                await self._note(sample, chunk, precision)
            if page.next is None:
                return
            request = page.next

    async def _note(self, sample: Sample, chunk: Chunk, precision: Precision) -> None:
        stored = await self._database.run(
            partial(stored_bars, series=chunk.series, spans=chunk.claims)
        )
        calendar, timeframe = sample.tracked.calendar, chunk.series.timeframe
        stored = stored.take(~calendar.drops(timeframe, stored.ts_ms))
        provided = chunk.bars.take(chunk.claims.holds(chunk.bars.ts_ms))
        rejected_ms = _rejected_slots(sample, chunk)
        self._result.note(Pair(sample.tracked, stored, provided, rejected_ms, precision))


def _rejected_slots(sample: Sample, chunk: Chunk) -> IntColumn:
    calendar = sample.tracked.calendar
    canonical = calendar.canonical(sample.base, chunk.rejected.ts_ms)
    slots, inside = calendar.grid(chunk.series.timeframe).floor(canonical)
    return np.unique(slots[inside])


def _by_account(samples: Sequence[Sample]) -> list[tuple[Account, list[Sample]]]:
    """Return the samples of each account."""
    parts: dict[str, tuple[Account, list[Sample]]] = {}
    for sample in samples:
        account = sample.tracked.account
        parts.setdefault(account.provider.name, (account, []))[1].append(sample)
    return list(parts.values())
