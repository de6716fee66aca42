"""From series and what is known of them to work: what to fetch, for whom, and what can't be."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

from backfill.core.archive import FilesOrCalls
from backfill.core.calendar import Calendar
from backfill.core.coverage import Spans
from backfill.core.derive import choose_bases
from backfill.core.pages import PageLaw
from backfill.core.plan import PlannedRange, newest_first, plan_ranges, reach_back
from backfill.core.series import Progress, Series, Symbol, SymbolId
from backfill.core.target import target_of, why_ended
from backfill.core.timeframe import Timeframe
from backfill.core.work import Demand, Mode, Rules, Target, Work, known_of
from backfill.errors import NotEntitled, SourceMismatch

_FIRST_MS: Final = -(2**62)
_LAST_MS: Final = 2**62
NOTHING: Final = Spans()


def plan_work(
    symbol: Symbol,
    timeframes: list[Timeframe],
    calendar: Calendar,
    rules: Rules,
    demand: Demand,
    known: Mapping[tuple[SymbolId, Timeframe], Progress],
) -> list[Work]:
    """Return the work for a symbol's timeframes, one piece per timeframe that is fetched.

    A piece that isn't due has nothing to do. ``known`` lacks series that were never seen.
    """
    plan = partial(plan_piece, symbol, calendar=calendar, rules=rules, demand=demand, known=known)
    native: dict[Timeframe, Timeframe] = {}
    nothing: list[Work] = []
    for timeframe in timeframes:
        try:
            native[timeframe] = _base(symbol, timeframe, rules)
        except NotEntitled as error:
            series = Series(symbol, timeframe)
            refusal = why_ended(symbol) or error
            target = Target(series, rules.source_of(timeframe), None, Spans(), refusal=refusal)
            nothing.append(Work(symbol, calendar, timeframe, (target,), ()))
    bases = native
    if rules.derive and rules.can.derives_for_less:
        held = {one: known[symbol.id, one] for one in native if (symbol.id, one) in known}
        bases = kept = choose_bases(native, held, rules.source_of)
        if demand.mode is Mode.reload:
            # All may change, but for those of which the reload doesn't reach everything stored.
            bases = choose_bases(native, {}, rules.source_of)
            for timeframe, base in bases.items():
                [target] = plan({timeframe}, base).targets
                if isinstance(target.refusal, SourceMismatch):
                    bases[timeframe] = kept[timeframe]
    return [
        plan({timeframe for timeframe in native if bases[timeframe] is base}, base)
        for base in dict.fromkeys(bases.values())
    ] + nothing


def plan_piece(
    symbol: Symbol,
    timeframes: Collection[Timeframe],
    base: Timeframe,
    *,
    calendar: Calendar,
    rules: Rules,
    demand: Demand,
    known: Mapping[tuple[SymbolId, Timeframe], Progress],
) -> Work:
    """Return the work for those of a symbol's timeframes that are fed from one base.

    A week in which the name changed can't be asked for under either: then days are the base.
    """
    if symbol.straddles and base in {Timeframe.w1, Timeframe.mn1}:
        base = Timeframe.d1
    targets: list[Target] = []
    for timeframe in sorted(timeframes, key=list(Timeframe).index):
        series = Series(symbol, timeframe)
        progress = known.get(series.key, Progress())
        target = target_of(series, base, calendar, rules, demand, progress)
        if base is not timeframe and demand.mode is not Mode.reload:
            feeding = next((one for one in targets if one.series.timeframe is base), None)
            stored = _stored_base(target, progress, known.get((symbol.id, base)), feeding)
            if demand.mode is not Mode.repair:
                stored -= progress.invalidated
            target = replace(target, local=_local(target, calendar, base, stored))
            if feeding is not None:
                target = replace(target, again=_follow(target, calendar, feeding))
            if feeding is not None or not target.missing - target.local:
                target = replace(target, beside=NOTHING)
        targets.append(target)
    ranges = requests(
        symbol,
        calendar,
        base,
        to_fetch(targets),
        rules.can.pages,
        asked_again(targets),
        rules.files(demand.mode),
    )
    if not ranges and any(target.alone for target in targets):
        alone = Spans.union(span for target in targets for span in target.alone)
        ranges = requests(symbol, calendar, base, alone, rules.can.pages)
    return Work(
        symbol,
        calendar,
        base,
        tuple(_reached(target, calendar, ranges) for target in targets),
        ranges,
        rules.precision,
        rules.final_ms(symbol, calendar, Timeframe.d1),
        rules.can.fills_empty,
        None
        if demand.mode is Mode.reload
        else known_of(known, [target.series for target in targets], base),
    )


def calls_saved(work: Work, rules: Rules, mode: Mode = Mode.default) -> int:
    """Return how many calls more it would take to fetch every timeframe that can be fetched."""
    alone: dict[Timeframe, list[Target]] = {}
    for target in work.targets:
        timeframe = target.series.timeframe
        native = timeframe if timeframe is work.base else _base(work.symbol, timeframe, rules)
        alone.setdefault(native, []).append(target)
    if alone.keys() == {work.base} and not any(target.local for target in work.targets):
        return 0
    calls = sum(
        planned.calls
        for base, targets in alone.items()
        for planned in requests(
            work.symbol,
            work.calendar,
            base,
            Spans.union(span for target in targets for span in target.missing),
            rules.can.pages,
            files=rules.files(mode),
        )
    )
    return calls - sum(planned.calls for planned in work.ranges)


def requests(
    symbol: Symbol,
    calendar: Calendar,
    base: Timeframe,
    missing: Spans,
    law: PageLaw,
    again: Spans = NOTHING,
    files: FilesOrCalls | None = None,
) -> tuple[PlannedRange, ...]:
    """Return the requests for what is missing, newest first, none over a change of name.

    What ``files`` bring is asked of no call. Calls go back over what is to be asked ``again`` where
    that takes none more.
    """
    series = Series(symbol, base)
    parts = zip(by_name(series, calendar, missing), by_name(series, calendar, again), strict=True)
    ranges: list[PlannedRange] = []
    for part, late in parts:
        read = files.ranges(calendar, base, part, law) if files else ()
        rest = part - Spans.union(span for one in read for span in one.claims) if read else part
        calls = reach_back(calendar, base, plan_ranges(calendar, base, rest, law), late, law)
        ranges += newest_first((*read, *calls)) if read else calls
    return tuple(ranges)


def to_fetch(targets: Iterable[Target]) -> Spans:
    """Return what no stored bar answers for, and what is beside it."""
    kept = list(targets)
    left = Spans.union(span for target in kept for span in target.missing - target.local)
    return left | Spans.union(span for target in kept for span in target.beside) if left else left


def asked_again(targets: Iterable[Target]) -> Spans:
    """Return what the provider may have been late with, for any of the targets."""
    return Spans.union(span for target in targets for span in target.again)


def _follow(target: Target, calendar: Calendar, feeding: Target) -> Spans:
    """Return what is to be asked again of a target with the base that it is rolled up from."""
    if target.wanted is None:
        return target.again
    grid = calendar.grid(target.series.timeframe)
    wide = Spans.union(map(grid.widen, feeding.again))
    return target.again | grid.inside(wide & Spans.of(target.wanted))


def _reached(target: Target, calendar: Calendar, ranges: Iterable[PlannedRange]) -> Target:
    """Count to the missing part of a target what the requests reach of what may be late."""
    if not target.again:
        return target
    asked = Spans.union(planned.span for planned in ranges)
    reached = calendar.grid(target.series.timeframe).inside(target.again & asked)
    return replace(target, missing=target.missing | reached)


def by_name(series: Series, calendar: Calendar, missing: Spans) -> list[Spans]:
    """Cut what is missing of a series where the symbol changed its name, the newest part first.

    Nothing from before it took the ticker over from another company.
    """
    symbol, timeframe = series
    if symbol.cut_on is not None:
        missing &= Spans.of((calendar.begins(symbol.cut_on, timeframe), _LAST_MS))
    if not symbol.aliases:
        return [missing]
    changes = [calendar.begins(alias.valid_until, timeframe) for alias in symbol.aliases]
    bounds = pairwise((_FIRST_MS, *changes, _LAST_MS))
    return [missing & Spans.of(part) for part in reversed(list(bounds))]


def _local(target: Target, calendar: Calendar, base: Timeframe, stored: Spans) -> Spans:
    """Return the missing slots of a target that hold no slot of the base but stored ones."""
    if not stored:
        return Spans()
    grid, fetched = calendar.grid(target.series.timeframe), calendar.grid(base)
    open_spans = (span for span in target.missing - stored if fetched.count(span))
    return grid.inside(target.missing - Spans.union(map(grid.widen, open_spans)))


def _stored_base(
    target: Target, progress: Progress, base: Progress | None, feeding: Target | None
) -> Spans:
    """Return what stored bars of the base answer for, so that a target can be rolled up from them.

    What is about to be fetched of the base again is not among it.
    """
    if base is None:
        return progress.base_coverage
    source = base.source
    if source is None or source.origin != target.source.origin:
        return Spans()
    return base.coverage - (feeding.missing if feeding else Spans())


def _base(symbol: Symbol, timeframe: Timeframe, rules: Rules) -> Timeframe:
    """The timeframe to fetch; a week in which the name changed can't be asked for under either."""
    base = rules.can.base_of(symbol.asset_type, timeframe)
    return Timeframe.d1 if symbol.straddles and base in {Timeframe.w1, Timeframe.mn1} else base
