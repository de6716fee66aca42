"""From series and what is known of them to work: what to fetch, for whom, and what can't be."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.calendar import Calendar, Grid
from backfill.core.coverage import Span, Spans
from backfill.core.derive import choose_bases
from backfill.core.plan import (
    Limits,
    PlannedRange,
    frontier_ms,
    missing_spans,
    plan_ranges,
    wanted_span,
)
from backfill.core.precision import EXACT, Precision
from backfill.core.series import Progress, Series, Source, Symbol, SymbolId
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import NotEntitled, SeriesError, SourceMismatch

_FIRST_MS: Final = -(2**62)
_LAST_MS: Final = 2**62


class Mode(StrEnum):
    """How much of what is wanted a run fetches."""

    default = "default"
    """All that is missing."""
    incremental = "incremental"
    """What is new, and whatever a first load or a reload left unfinished; never deeper."""
    reload = "reload"
    """All that is wanted, whatever is covered."""
    repair = "repair"
    """What was taken out of the coverage because a bar of it is missing, and nothing else."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the series of a symbol: how deep, until when, and in which mode.

    ``since`` is how deep where ``first`` doesn't say; a date names a session, a datetime an
    instant. A higher ``priority`` is served first.
    """

    since: date
    mode: Mode = Mode.default
    first: Bound | None = None
    last: Bound | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every series of a run: its source, the plan's terms, the clock.

    ``base_of`` names the timeframe to fetch for a series that stands alone; with ``derive``,
    several of a symbol share one. ``now_ms`` is the clock of planning and finality; ``precision``
    what the table can hold.
    """

    provider: str
    feed: str
    adjustment: str
    terms: Terms
    page_size: int
    base_of: Callable[[Symbol, Timeframe], Timeframe]
    now_ms: int
    derive: bool = True
    precision: Precision = EXACT


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """One series of a piece of work: what it should hold, and what of it is missing.

    ``refusal`` is set where the series can't have all of that: it holds another source's bars, or
    the plan has refused a part. ``stored_ms`` are the starts of stored bars in the sessions that
    ``missing`` cuts: they tell a slot that nobody traded from a session that isn't there. ``local``
    is the part of ``missing`` that stored bars of the base answer for.
    ``replaces`` is the other source whose bars all leave with the first page, if they do;
    ``is_loaded`` tells that bars of its own source are stored.
    """

    series: Series
    source: Source
    wanted: Span | None
    missing: Spans
    refusal: SeriesError | None = None
    replaces: Source | None = None
    is_loaded: bool = False
    local: Spans = field(default_factory=Spans)
    stored_ms: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))

    def cut_sessions(self, calendar: Calendar) -> Spans:
        """The trading days that ``missing`` holds a part of and not the whole."""
        if not self.series.timeframe.is_intraday:
            return Spans()
        cuts = {bound for span in self.missing for bound in span}
        return Spans.union(
            day
            for bound in cuts
            for day, _ in calendar.grid(self.series.timeframe).blocks((bound, bound))
            if day.start_ms < bound < day.end_ms
        )


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """What one stream of requests fetches: bars of ``base``, for one series or several.

    All targets are of one symbol, finest timeframe first, which is the order in which their rows
    are locked and counted; ``ranges`` come newest first, and none straddles a change of its name.
    ``precision`` is what the table can hold.
    """

    symbol: Symbol
    calendar: Calendar
    base: Timeframe
    targets: tuple[Target, ...]
    ranges: tuple[PlannedRange, ...]
    precision: Precision = EXACT

    @property
    def series(self) -> list[Series]:
        """The series that the work is for."""
        return [target.series for target in self.targets]

    @property
    def wants(self) -> dict[Series, int]:
        """Since when each series that bars are written to is wanted, in epoch ms."""
        return {one.series: one.wanted.start_ms for one in self.fed if one.wanted is not None}

    @property
    def due(self) -> bool:
        """Whether there is anything to do: to fetch, or to roll up from what is stored."""
        return bool(self.ranges) or any(target.local for target in self.targets)

    @property
    def fed(self) -> tuple[Target, ...]:
        """The targets that bars are written to: those that keep another source's get none."""
        return tuple(one for one in self.targets if not isinstance(one.refusal, SourceMismatch))

    def asked_as(self, planned: PlannedRange) -> Symbol:
        """Return the symbol under the ticker that it had in a planned range."""
        return self.symbol.on(self.calendar.day_of(planned.span.start_ms))


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
    native = {timeframe: _base(symbol, timeframe, rules) for timeframe in timeframes}
    bases = native
    if rules.derive:
        held = {one: known[symbol.id, one] for one in native if (symbol.id, one) in known}
        source = Source(rules.provider, rules.feed, rules.adjustment)
        bases = kept = choose_bases(native, held, source)
        if demand.mode is Mode.reload:
            # All may change, but for those of which the reload doesn't reach everything stored.
            bases = choose_bases(native, {}, source)
            for timeframe, base in bases.items():
                [target] = plan({timeframe}, base).targets
                if isinstance(target.refusal, SourceMismatch):
                    bases[timeframe] = kept[timeframe]
    return [
        plan({timeframe for timeframe in native if bases[timeframe] is base}, base)
        for base in dict.fromkeys(bases.values())
    ]


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
    if symbol.aliases and base in {Timeframe.w1, Timeframe.mn1}:
        base = Timeframe.d1
    targets: list[Target] = []
    for timeframe in sorted(timeframes, key=list(Timeframe).index):
        series = Series(symbol, timeframe)
        progress = known.get(series.key, Progress())
        target = _target(series, base, calendar, rules, demand, progress)
        if base is not timeframe and demand.mode is not Mode.reload:
            feeding = next((one for one in targets if one.series.timeframe is base), None)
            stored = _stored_base(target, progress, known.get((symbol.id, base)), feeding)
            if demand.mode is not Mode.repair:
                stored -= progress.invalidated
            target = replace(target, local=_local(target, calendar, base, stored))
        targets.append(target)
    return Work(
        symbol,
        calendar,
        base,
        tuple(targets),
        requests(symbol, calendar, base, to_fetch(targets), rules.page_size),
        rules.precision,
    )


def calls_saved(work: Work, rules: Rules) -> int:
    """Return how many calls more it would take to fetch every timeframe that can be fetched."""
    alone: dict[Timeframe, list[Target]] = {}
    for target in work.targets:
        native = _base(work.symbol, target.series.timeframe, rules)
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
            rules.page_size,
        )
    )
    return calls - sum(planned.calls for planned in work.ranges)


def requests(
    symbol: Symbol, calendar: Calendar, base: Timeframe, missing: Spans, page_size: int
) -> tuple[PlannedRange, ...]:
    """Return the requests for what is missing, newest first, none over a change of name."""
    return tuple(
        planned
        for part in by_name(symbol, calendar, missing)
        for planned in plan_ranges(calendar, base, part, page_size)
    )


def to_fetch(targets: Iterable[Target]) -> Spans:
    """Return what no stored bar answers for."""
    return Spans.union(span for target in targets for span in target.missing - target.local)


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


def life_of(symbol: Symbol, calendar: Calendar, terms: Terms, now_ms: int) -> Limits:
    """Return the bounds of what a symbol's series may want."""
    window = terms.window_start(calendar.day_of(now_ms))
    return Limits(
        listed_ms=calendar.midnight(symbol.listed_on) if symbol.listed_on else None,
        delisted_ms=calendar.midnight(symbol.delisted_on + timedelta(days=1))
        if symbol.delisted_on
        else None,
        window_ms=calendar.midnight(window),
    )


def _target(
    series: Series,
    base: Timeframe,
    calendar: Calendar,
    rules: Rules,
    demand: Demand,
    known: Progress,
) -> Target:
    symbol, timeframe = series
    source = Source(
        rules.provider,
        rules.feed,
        rules.adjustment,
        derived_from=None if base is timeframe else base,
    )
    grid = calendar.grid(timeframe)
    frontier = frontier_ms(calendar, timeframe, rules.terms.settling, rules.now_ms)
    start = _start_ms(calendar, demand, known)
    end = demand.last.end_ms(calendar) if demand.last else None
    limits = life_of(symbol, calendar, rules.terms, rules.now_ms)
    wanted = wanted_span(grid, start, end, frontier, limits)
    is_loaded = known.source == source and known.newest_bar_ms is not None
    target = Target(series, source, wanted, Spans(), is_loaded=is_loaded)
    if (refusal := _ended(symbol)) is not None:
        return replace(target, refusal=refusal)
    denied = Spans()
    if known.denied and (known.denied_until_ms or 0) > rules.now_ms:
        denied = Spans.of(known.denied)
    if known.source not in {None, source}:
        asked = known.invalidated
        if demand.mode is Mode.reload and wanted:
            asked |= Spans.of(wanted)
        life = wanted_span(grid, 0, None, frontier, limits)
        reach = (Spans.of(life) if life else Spans()) - denied
        held = _held_span(grid, known, frontier, rules.now_ms, limits)
        if not asked & reach or (held and not (asked & reach).covers(*held)):
            return replace(target, refusal=_mismatch(target, calendar, known, held, reach))
        # What the other source answered says nothing of this one.
        target = replace(target, replaces=known.source)
        known = replace(known, coverage=Spans(), expired=Spans())
    missing = known.invalidated
    if missing:
        readable = grid.narrow((limits.window_ms or 0, frontier))
        missing &= Spans.of(readable) if readable else Spans()
    if known.expired and wanted and demand.mode is Mode.default:
        missing |= known.expired & Spans.of(wanted)
    if demand.mode is not Mode.repair:
        covered = known.coverage if demand.mode is not Mode.reload else Spans()
        missing |= missing_spans(grid, wanted, covered)
    allowed = missing - denied
    if allowed != missing:
        message = "the plan refused this range before; it is asked again after a day"
        target = replace(target, refusal=NotEntitled(message))
    return replace(target, missing=allowed)


def _base(symbol: Symbol, timeframe: Timeframe, rules: Rules) -> Timeframe:
    """The timeframe to fetch; a week in which the name changed can't be asked for under either."""
    base = rules.base_of(symbol, timeframe)
    return Timeframe.d1 if symbol.aliases and base in {Timeframe.w1, Timeframe.mn1} else base


def _ended(symbol: Symbol) -> SeriesError | None:
    """Why nothing, or nothing more, of a symbol is fetched."""
    if symbol.set_aside is not None:
        return NotEntitled(f"{symbol.ticker} is set aside: {symbol.set_aside}")
    if symbol.retired_on is not None:
        return SourceMismatch(f"{symbol.ticker} was retired on {symbol.retired_on}")
    if symbol.successor_figi is None:
        return None
    return SourceMismatch(
        f"{symbol.ticker} belongs to another company now: its FIGI is {symbol.successor_figi}, "
        f"that of the stored bars {symbol.figi or 'is not known'}; set those aside with: "
        f"backfill symbols retire {symbol.ticker}"
    )


def by_name(symbol: Symbol, calendar: Calendar, missing: Spans) -> list[Spans]:
    """Cut what is missing where the symbol changed its name, the newest part first."""
    if not symbol.aliases:
        return [missing]
    changes = [calendar.midnight(alias.valid_until) for alias in symbol.aliases]
    bounds = pairwise((_FIRST_MS, *changes, _LAST_MS))
    return [missing & Spans.of(part) for part in reversed(list(bounds))]


def _start_ms(calendar: Calendar, demand: Demand, known: Progress) -> int:
    asked = demand.first.start_ms(calendar) if demand.first else None
    deepens = demand.mode in {Mode.default, Mode.reload}
    if not deepens and known.wanted_from_ms is not None:
        return max(known.wanted_from_ms, asked if asked is not None else known.wanted_from_ms)
    return asked if asked is not None else calendar.midnight(demand.since)


def _held_span(
    grid: Grid, known: Progress, frontier: int, now_ms: int, limits: Limits
) -> Span | None:
    """Return the whole slots from a series' oldest bar to its newest, by which all is replaced.

    What is closed and not final yet can't be asked for and leaves with the rest, and so does what
    lies outside the symbol's life. But bars from after ``now_ms`` are there because that clock is
    set back: they count.
    """
    if known.oldest_bar_ms is None or known.newest_bar_ms is None:
        return None
    newest = grid.widen((known.newest_bar_ms, known.newest_bar_ms + 1))
    upto = frontier if newest.end_ms <= now_ms else newest.end_ms
    return wanted_span(
        grid, known.oldest_bar_ms, newest.end_ms, upto, replace(limits, window_ms=None)
    )


def _mismatch(
    target: Target, calendar: Calendar, known: Progress, held: Span | None, reach: Spans
) -> SourceMismatch:
    """Say which sources meet, and how to replace all of the one by the other."""
    symbol, timeframe = target.series
    message = f"the series holds {known.source}; {target.source} was asked for. "
    if not reach or (held and not reach.covers(*held)):
        return SourceMismatch(message + "Its bars reach beyond what can be read now, so they stay")
    command = f"backfill run --symbol {symbol.ticker} --timeframe {timeframe} --reload"
    if held:
        command += f" --from {calendar.day_of(held.start_ms)}"
    return SourceMismatch(f"{message}To replace all of it: {command}")
