"""Asking again for a sample of what is covered, and holding it against what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from backfill.audit.archives import FileCheck
from backfill.audit.sampling import Pair, Sample, Sampled, chosen, failure_of, pages_of
from backfill.audit.tracked import Tracked, base_of
from backfill.core.compare import Difference, compare, exactly
from backfill.core.coverage import Span, Spans
from backfill.core.grid import Grid
from backfill.core.series import Series, Source
from backfill.core.timeframe import Timeframe
from backfill.errors import SourceMismatch
from backfill.run.outcomes import Failure
from backfill.settings import Account
from backfill.store.times import to_time

log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class Verification(Sampled):
    """What a sample told of bars whose own provider was asked again: which of them differ.

    ``files`` are those of archives that were asked about first. ``differing`` are the slots of the
    differences.
    """

    files: FileCheck = field(default_factory=FileCheck)
    differences: dict[Series, list[Difference]] = field(default_factory=dict)
    differing: dict[Series, Spans] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether a bar does, or a file was replaced."""
        return bool(self.differences or self.files.replaced)

    def note(self, pair: Pair) -> None:
        """Compare a pair to the last bit that the table holds."""
        series = pair.series
        may_lack = pair.tracked.account.provider.can.may_lack_vwap
        alike = exactly(pair.precision, may_lack_vwap=may_lack)
        found = compare(pair.stored, pair.provided, pair.rejected_ms, alike)
        self.compared[series] = self.compared.get(series, 0) + len(pair.stored)
        if found:
            grid = pair.tracked.calendar.grid(series.timeframe)
            slots = Spans.union(_to_ask_again(grid, one.ts_ms) for one in found)
            self.differences.setdefault(series, []).extend(found)
            self.differing[series] = self.differing.get(series, Spans()) | slots
            log.warning(
                "bars.differ",
                symbol=series.symbol.ticker,
                timeframe=str(series.timeframe),
                bars=len(found),
                kinds=sorted({str(one.kind) for one in found}),
            )

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
            "failures": self.failures_as_dicts(),
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
        source = one.known.source
        if source is None:
            continue
        found = pages_of(one, source, now)
        asked = _asked_for(one.account, source, one.series.timeframe)
        if found and source != asked:
            message = f"the series holds {source}; {asked} was asked for"
            failures.append(failure_of(one.series, SourceMismatch(message)))
            continue
        pages += found
    return chosen(pages, budget), failures


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
