"""Asking again for a sample of what is covered, and holding it against what is stored."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from backfill.audit.archives import FileCheck
from backfill.audit.tracked import Tracked, base_of
from backfill.core.bars import IntColumn
from backfill.core.compare import Difference, compare
from backfill.core.coverage import Span, Spans
from backfill.core.grid import Grid
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import frontier_ms, one_page_spans, plan_ranges
from backfill.core.planning import by_name
from backfill.core.precision import Precision
from backfill.core.series import Series, Source
from backfill.core.timeframe import Timeframe
from backfill.core.work import Target, Work
from backfill.errors import BackfillError, SeriesError, SharedFault, SourceMismatch, Stopped
from backfill.fetch.tally import Tally
from backfill.run.outcomes import Failure
from backfill.settings import Account
from backfill.store.pool import Database
from backfill.store.read import stored_bars
from backfill.store.shape import bars_shape
from backfill.store.times import to_ms, to_time

if TYPE_CHECKING:
    from backfill.fetch.client import Client

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Sample:
    """One page's worth of a covered range of one series, and the timeframe it is fetched in."""

    tracked: Tracked
    source: Source
    base: Timeframe
    span: Span


@dataclass(slots=True)
class Verification:
    """What a sample told: how many bars were compared, which of them differ, and what failed.

    ``files`` are those of archives that were asked about first. ``differing`` are the slots of the
    differences; ``error`` is what ended it before its end, if
    something did.
    """

    tally: Tally
    files: FileCheck = field(default_factory=FileCheck)
    compared: dict[Series, int] = field(default_factory=dict)
    differences: dict[Series, list[Difference]] = field(default_factory=dict)
    differing: dict[Series, Spans] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    error: SharedFault | Stopped | None = None

    @property
    def bars(self) -> int:
        """How many bars were compared."""
        return sum(self.compared.values())

    @property
    def exit_code(self) -> int:
        """4 if a bar differs, or a file was replaced; a fault or a failure comes first.

        A used-up budget is no fault.
        """
        if self.error is not None and self.error.exit_code != 5:
            return self.error.exit_code
        if self.failures:
            return 1
        return 4 if self.differences or self.files.replaced else 0

    def fail(self, part: Sequence[Sample], error: BackfillError) -> None:
        """Note what kept the samples of an account, or the rest of them, from being compared."""
        for series in dict.fromkeys(sample.tracked.series for sample in part):
            if series not in self.compared:
                self.failures.append(_failure(series, error))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "calls": self.tally.calls,
            "bars": self.bars,
            "series": len(self.compared),
            "files": self.files.files,
            "replaced": [
                {"provider": one.provider, "path": one.path, "series": one.series}
                for one in self.files.replaced
            ],
            "differences": [
                {
                    "symbol": series.symbol.ticker,
                    "timeframe": str(series.timeframe),
                    "ts": to_time(one.ts_ms).isoformat(),
                    "kind": str(one.kind),
                    "stored": one.stored,
                    "provider": one.provided,
                }
                for series, found in self.differences.items()
                for one in found
            ],
            "failures": [
                {
                    "symbol": one.symbol,
                    "timeframe": one.timeframe,
                    "outcome": one.outcome,
                    "message": one.message,
                }
                for one in self.failures
            ],
        }


def samples(
    tracked: list[Tracked], now: datetime, budget: int
) -> tuple[list[Sample], list[Failure]]:
    """Choose as many pages of what is covered as the budget has calls, each as likely as another.

    A series that holds another source's bars than its account asks for can't be compared: it is
    among the failures.
    """
    pages: list[Sample] = []
    failures = []
    for one in tracked:
        source, due = one.known.source, one.due(now)
        if source is None or due is None or one.series.symbol.successor_figi:
            continue
        asked = _asked_for(one.account, source, one.series.timeframe)
        if source != asked:
            message = f"the series holds {source}; {asked} was asked for"
            failures.append(_failure(one.series, SourceMismatch(message)))
            continue
        base = source.derived_from or one.series.timeframe
        covered = one.known.coverage & Spans.of(due)
        grid = one.calendar.grid(one.series.timeframe)
        for part in by_name(Series(one.series.symbol, base), one.calendar, covered):
            law = one.account.provider.can.pages
            spans = one_page_spans(one.calendar, base, grid.inside(part), law)
            pages += [Sample(one, source, base, span) for span in spans]
    chosen = random.SystemRandom().sample(pages, min(budget, len(pages)))
    return chosen, failures


def relatives(tracked: Sequence[Tracked], differing: Mapping[Series, Spans]) -> dict[Series, Spans]:
    """Return what else is wrong where bars differ: what they are rolled up from, and what from it.

    A base that is kept on the same source is to be fetched again, as far as it is covered; then all
    that is derived from it is to be rolled up again.
    """
    by_series = {one.series: one for one in tracked}
    wrong = dict(differing)
    for series, spans in differing.items():
        base = base_of(by_series, series)
        if base is not None:
            covered = by_series[base].known.coverage
            wrong[base] = wrong.get(base, Spans()) | (spans & covered)
    for one in tracked:
        base = base_of(by_series, one.series)
        if base is not None and base in wrong:
            grid = one.calendar.grid(one.series.timeframe)
            spans = Spans.union(map(grid.widen, wrong[base])) & one.known.coverage
            wrong[one.series] = wrong.get(one.series, Spans()) | spans
    return wrong


class Verifier:
    """Fetches samples and compares them; nothing is written."""

    def __init__(
        self,
        database: Database,
        client: "Client",
        now: datetime,
        result: Verification,
    ) -> None:
        self._database = database
        self._client = client
        self._now_ms = to_ms(now)
        self._result = result

    async def verify(self, chosen: list[Sample]) -> None:
        """Compare every sample; a series that fails is noted, and the others go on.

        Raises
        ------
        SharedFault
            What ends it for all series of the provider, or of the database.
        Stopped
            If it is to end.
        """
        for sample in chosen:
            try:
                await self._compare(sample)
            except SeriesError as error:
                self._result.failures.append(_failure(sample.tracked.series, error))

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
        found = compare(stored, provided, _rejected_slots(sample, chunk), precision)
        compared = self._result.compared
        compared[chunk.series] = compared.get(chunk.series, 0) + len(stored)
        if found:
            grid = calendar.grid(timeframe)
            slots = Spans.union(_to_ask_again(grid, one.ts_ms) for one in found)
            self._result.differences.setdefault(chunk.series, []).extend(found)
            self._result.differing[chunk.series] = (
                self._result.differing.get(chunk.series, Spans()) | slots
            )
            log.warning(
                "bars.differ",
                symbol=chunk.series.symbol.ticker,
                timeframe=str(chunk.series.timeframe),
                bars=len(found),
                kinds=sorted({str(one.kind) for one in found}),
            )


def _asked_for(account: Account, source: Source, timeframe: Timeframe) -> Source:
    name, can = account.provider.name, account.provider.can
    base = source.derived_from or timeframe
    adjustment = can.adjustment_of(base, account.adjustment)
    return Source(name, can.feed_of(base), adjustment, source.derived_from)


def _to_ask_again(grid: Grid, ts_ms: int) -> Span:
    """Return the slot of a bar; for one that lies in none, from the slot before to the one after.

    An answer for both says that there is nothing between.
    """
    span = grid.widen((ts_ms, ts_ms + 1))
    if grid.count(span):
        return span
    after = grid.index_from(ts_ms)
    return Span(grid.start_of(max(after - 1, 0)), grid.end_of(min(after, len(grid) - 1)))


def _rejected_slots(sample: Sample, chunk: Chunk) -> IntColumn:
    calendar = sample.tracked.calendar
    canonical = calendar.canonical(sample.base, chunk.rejected.ts_ms)
    slots, inside = calendar.grid(chunk.series.timeframe).floor(canonical)
    return np.unique(slots[inside])


def _failure(series: Series, error: BackfillError) -> Failure:
    return Failure(series.symbol.ticker, str(series.timeframe), error.outcome, str(error))
