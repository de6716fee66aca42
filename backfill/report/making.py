"""Facts, made of what was looked up: what stands on the page, in which order, and how much."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Final, NamedTuple

from backfill.audit.overview import LOOKED_BACK, Overview, Standing
from backfill.audit.queue import QueueState
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.series import IMPORT
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.present.status import fresh_text
from backfill.report.drawing import COLUMNS
from backfill.report.facts import (
    Cell,
    Closes,
    Facts,
    Group,
    NextRun,
    RunFacts,
    SeriesFacts,
)
from backfill.report.problems import Lack, problems
from backfill.report.strips import Axis, Lot, cells, mixed
from backfill.run.planned import Plan
from backfill.store.recent import RunDay, RunRow
from backfill.store.times import to_ms, to_time

MOST_LINES: Final = 2_000
"""How many series have a line of their own at most: a page stays one that a browser opens."""
_SHOWN_AS: Final = {
    None: Cell.gap,
    EmptyReason.unconfirmed: Cell.unconfirmed,
    EmptyReason.absent: Cell.unconfirmed,
    EmptyReason.quarantined: Cell.quarantined,
}


class _Kind(NamedTuple):
    """What the series of a group have in common."""

    place: int
    provider: str
    calendar: str


def facts_of(seen: Overview, *, most_lines: int = MOST_LINES) -> Facts:
    """Return what a page shows of what was looked up.

    Of more than ``most_lines`` series those with something to tell have a line of their own first;
    the others are named.
    """
    groups: dict[_Kind, list[Standing]] = {}
    for one in seen.standings:
        groups.setdefault(_kind(one), []).append(one)
    lines = max(most_lines // max(len(groups), 1), 1)
    found = [_group(seen, kind, groups[kind], lines) for kind in sorted(groups)]
    series = [pair for _, mine in found for pair in mine]
    lacks = [Lack(standing, one.missing) for standing, one in series if one.missing]
    shares = [
        one.status.share
        for one in seen.standings
        if one.status.judged and one.status.share is not None
    ]
    return Facts(
        at=seen.at,
        version=version("ohlc-backfill"),
        series=len(seen.standings),
        judged=sum(one.status.judged for one in seen.standings),
        stale=sum(one.status.is_stale for one in seen.standings),
        bars=sum(one.status.bars for one in seen.standings),
        missing=sum(one.missing for one in lacks),
        quarantined=sum(one.status.quarantined for one in seen.standings),
        share=_mean(shares),
        problems=tuple(problems(seen, lacks)),
        groups=tuple(group for group, _ in found),
        days=_days(seen),
        runs=tuple(_run(seen, one) for one in seen.recent.runs),
        runs_before=sum(one.runs for one in seen.recent.days) - len(seen.recent.runs),
        quotas=tuple((name, str(pace.quota)) for name, pace in seen.paces.items()),
        next_run=_next(seen.plan),
        with_bars=seen.closes is not None,
        queue=_queue(seen.queue),
    )


def _kind(one: Standing) -> _Kind:
    tracked = one.tracked
    provider = IMPORT if tracked.is_imported else tracked.account.provider.name
    place = list(Timeframe).index(tracked.series.timeframe)
    return _Kind(place, provider, tracked.series.symbol.calendar)


def _group(
    seen: Overview, kind: _Kind, standings: Sequence[Standing], lines: int
) -> tuple[Group, list[tuple[Standing, SeriesFacts]]]:
    axis = _axis(seen.at, standings)
    every = [(one, _series(seen, axis, one)) for one in standings]
    ordered = sorted((one for _, one in every), key=lambda one: not one.has_trouble)
    listed, others = ordered[:lines], ordered[lines:]
    shares = [one.share for _, one in every if one.share is not None]
    group = Group(
        timeframe=str(list(Timeframe)[kind.place]),
        provider=kind.provider,
        calendar=kind.calendar,
        since=to_time(axis.start_ms),
        until=to_time(axis.end_ms),
        series=len(every),
        judged=sum(one.status.judged for one in standings),
        stale=sum(one.is_stale for _, one in every),
        missing=sum(one.missing for _, one in every),
        quarantined=sum(one.quarantined for _, one in every),
        bars=sum(one.bars for _, one in every),
        share=_mean(shares),
        mix=mixed((one.cells for _, one in every), len(axis.slots)),
        listed=tuple(listed),
        unlisted=tuple(one.symbol for one in others),
        unlisted_troubled=sum(one.has_trouble for one in others),
    )
    return group, every


def _axis(at: datetime, standings: Sequence[Standing]) -> Axis:
    """Return the axis of a group: from the first that is wanted of any to the last."""
    now_ms = to_ms(at)
    wanted = [one.wanted for one in standings if one.wanted is not None]
    start_ms = min((span.start_ms for span in wanted), default=now_ms - DAY_MS)
    span = Span(start_ms, max((span.end_ms for span in wanted), default=now_ms))
    first = standings[0].tracked
    return Axis.over(span, COLUMNS, first.calendar.regular_grid(first.series.timeframe))


def _series(seen: Overview, axis: Axis, one: Standing) -> SeriesFacts:
    status, tracked = one.status, one.tracked
    closes = seen.closes.get(tracked.series.key) if seen.closes is not None else None
    covered = tracked.known.coverage
    missing = Spans.union(gap.span for gap in one.gaps if gap.reason is None) & covered
    regular = tracked.calendar.regular_grid(tracked.series.timeframe)
    return SeriesFacts(
        symbol=status.symbol,
        timeframe=status.timeframe,
        told=fresh_text(status) if status.judged else "not judged: nobody watches it",
        is_stale=status.is_stale,
        bars=status.bars,
        newest=status.newest,
        share=status.share if status.judged else None,
        missing=sum(map(regular.count, missing)),
        unconfirmed=sum(gap.slots for gap in one.gaps if _SHOWN_AS[gap.reason] is Cell.unconfirmed),
        quarantined=status.quarantined,
        uncovered=status.missing if status.judged else 0,
        cells=_cells(axis, one, missing),
        closes=Closes(*closes) if closes is not None else None,
    )


def _cells(axis: Axis, one: Standing, missing: Spans) -> str:
    covered = one.tracked.known.coverage
    wanted = covered  # of what nobody keeps up to date nobody wants more than there is
    if one.status.judged:
        wanted = Spans.of(one.wanted) if one.wanted is not None else Spans()
    holes = {
        Cell.gap: missing.items,
        **{
            cell: [gap.span for gap in one.gaps if _SHOWN_AS[gap.reason] is cell]
            for cell in (Cell.unconfirmed, Cell.quarantined)
        },
    }
    return cells(axis, Lot(wanted, wanted - covered, one.settled & wanted, holes))


def _mean(shares: Sequence[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None


def _days(seen: Overview) -> tuple[RunDay, ...]:
    """Return the days of the last weeks, those without a run as well."""
    found = {one.on: one for one in seen.recent.days}
    if not found:
        return ()
    last = max(seen.at.astimezone(UTC).date(), *found)  # the ledger's clock is its own
    days = (last - timedelta(days=back) for back in range(LOOKED_BACK.days, -1, -1))
    return tuple(found.get(day, RunDay(day)) for day in days)


def _run(seen: Overview, run: RunRow) -> RunFacts:
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    pace = seen.paces.get(run.provider)
    used = pace.used(run.calls + run.lookups, seconds) if pace and seconds is not None else None
    return RunFacts(
        started_at=run.started_at,
        seconds=seconds,
        mode=run.mode,
        provider=run.provider,
        status=run.status,
        calls=run.calls,
        lookups=run.lookups,
        used=used,
        failed=run.failed,
        inserted=run.inserted,
        updated=run.updated,
        rejected=run.rejected,
        error=run.error,
    )


def _queue(queue: QueueState | str | None) -> QueueState | str | None:
    """Return what is told of the queue: nothing where nobody uses it."""
    return None if isinstance(queue, QueueState) and not queue.is_used else queue


def _next(plan: Plan | str) -> NextRun:
    command = "backfill run --all"
    if isinstance(plan, str):
        return NextRun(command, refused=plan)
    seconds = plan.expected.seconds if plan.expected is not None else plan.seconds
    due = sum(1 for one in plan.series if one.bars and one.refusal is None)
    return NextRun(command, plan.calls, plan.calls_max, plan.bars, seconds, due)
