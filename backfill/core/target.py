"""What one series should hold by now, what of it is missing, and why it can't be had."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from backfill.core.basis import RAW, beside
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.empty import ALONE_AFTER, FOREVER_MS
from backfill.core.grid import Grid
from backfill.core.pages import FOREVER_BACK_MS
from backfill.core.plain import argument
from backfill.core.plan import (
    Limits,
    final_days_end,
    missing_spans,
    wanted_span,
)
from backfill.core.series import Progress, Series, Symbol
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.core.work import Demand, Mode, Rules, Target
from backfill.errors import NotEntitled, SeriesError, SourceMismatch

ALONE_AFTER_MS: Final = ALONE_AFTER // timedelta(milliseconds=1)


def life_of(
    series: Series,
    calendar: Calendar,
    terms: Terms,
    now_ms: int,
    begins_ms: int = FOREVER_BACK_MS,
) -> Limits:
    """Return the bounds of what a series may want; nothing is had before ``begins_ms``."""
    symbol, timeframe = series
    window = terms.window_start(calendar.day_of(now_ms))
    return Limits(
        listed_ms=calendar.begins(symbol.listed_on, timeframe) if symbol.listed_on else None,
        delisted_ms=calendar.begins(symbol.last_day + timedelta(days=1), timeframe)
        if symbol.last_day
        else None,
        window_ms=max(calendar.midnight(window), begins_ms),
    )


def readable_from_ms(series: Series, base: Timeframe, calendar: Calendar, rules: Rules) -> int:
    """Return the first instant of which a series can be read, in epoch ms: by plan and provider."""
    terms = rules.terms.of(series.symbol.asset_type)
    begins_ms = rules.can.begins_ms(calendar, base, rules.now_ms)
    window_ms = life_of(series, calendar, terms, rules.now_ms, begins_ms).window_ms
    return 0 if window_ms is None else window_ms


def target_of(
    series: Series,
    base: Timeframe,
    calendar: Calendar,
    rules: Rules,
    demand: Demand,
    known: Progress,
) -> Target:
    """Return a series that is fed from ``base`` with what a demand finds missing of it."""
    symbol, timeframe = series
    source = (
        rules.source_of(base)
        if base is timeframe
        else replace(rules.source_of(base), derived_from=base)
    )
    grid = calendar.grid(timeframe)
    terms = rules.terms.of(symbol.asset_type)
    frontier = rules.final_ms(symbol, calendar, timeframe)
    start = _start_ms(calendar, timeframe, demand, known)
    end = demand.last.end_ms(calendar, timeframe) if demand.last else None
    begins_ms = rules.can.begins_ms(calendar, base, rules.now_ms)
    limits = life_of(series, calendar, terms, rules.now_ms, begins_ms)
    known_life = symbol.begins_within(calendar.day_of(start))
    asked_limits = limits if known_life else replace(limits, listed_ms=None)
    wanted = wanted_span(grid, start, end, frontier, asked_limits)
    is_loaded = known.source == source and known.newest_bar_ms is not None
    target = Target(
        series,
        source,
        wanted,
        Spans(),
        is_loaded=is_loaded,
        answered=known.answered,
        newest=rules.can.pages.newest_slots if start < begins_ms else None,
        begins=calendar.trade_date(begins_ms)
        if start < begins_ms and base in rules.can.reach
        else None,
    )
    if (refusal := why_ended(symbol)) is not None:
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
        if rules.can.doubts_empty:
            covered |= known.held
        missing |= missing_spans(grid, wanted, covered)
    allowed = missing - denied
    if allowed != missing:
        message = "the plan refused this range before; it is asked again after a day"
        target = replace(target, refusal=NotEntitled(message))
    life = wanted_span(grid, 0, None, frontier, limits)
    kept = known.coverage & (Spans.of(life) if life else Spans())
    target = _with_beside(replace(target, missing=allowed), grid, rules, kept, known.newest_bar_ms)
    if demand.mode not in {Mode.default, Mode.incremental} or target.replaces or not wanted:
        return target
    has_ended = life is not None and life.end_ms + ALONE_AFTER_MS <= frontier
    reach = Spans.of(wanted) - denied
    return _with_late(target, calendar, rules, known, reach, has_ended=has_ended)


def _with_beside(
    target: Target, grid: Grid, rules: Rules, covered: Spans, newest_ms: int | None
) -> Target:
    """Tell a target what is ``covered`` beside what it misses, if that tells of its share basis.

    Raw bars have one for ever. Whose provider lists splits is told by these, for less: a session of
    many series at once has no bar of another.
    """
    if not target.is_loaded or target.source.adjustment == RAW or rules.lists_splits:
        return target
    found = beside(grid, target.series.timeframe, target.missing, covered, newest_ms)
    return replace(target, beside=found)


def _with_late(
    target: Target,
    calendar: Calendar,
    rules: Rules,
    known: Progress,
    reach: Spans,
    *,
    has_ended: bool,
) -> Target:
    """Tell a target what the provider may have been late with, within what can be asked for.

    That is worth a call of its own only if the series ``has_ended``, since nothing of it became due
    for four days, and a second answer is believed.
    """
    if not (known.unconfirmed or known.provisional):
        return target
    day_final_ms = rules.final_ms(target.series.symbol, calendar, Timeframe.d1)
    past = Spans.of((-FOREVER_MS, final_days_end(calendar, day_final_ms)))
    again = (known.unconfirmed | (known.provisional & past)) & reach
    alone = (known.askable | (known.provisional & past)) & again if has_ended else Spans()
    return replace(target, again=again, alone=alone)


def why_ended(symbol: Symbol) -> SeriesError | None:
    """Return why nothing, or nothing more, of a symbol is fetched; None if it is."""
    if symbol.set_aside is not None:
        return NotEntitled(f"{symbol.ticker} is set aside: {symbol.set_aside}")
    if symbol.retired_on is not None:
        return SourceMismatch(f"{symbol.ticker} was retired on {symbol.retired_on}")
    if symbol.successor_figi is None:
        return None
    return SourceMismatch(
        f"{symbol.ticker} belongs to another company now: its FIGI is {symbol.successor_figi}, "
        f"that of the stored bars {symbol.figi or 'is not known'}; set those aside",
        mend=f"backfill symbols retire {argument(symbol.ticker)}",
    )


def _start_ms(calendar: Calendar, timeframe: Timeframe, demand: Demand, known: Progress) -> int:
    asked = demand.first.start_ms(calendar, timeframe) if demand.first else None
    if not demand.mode.deepens and known.wanted_from_ms is not None:
        return max(known.wanted_from_ms, asked if asked is not None else known.wanted_from_ms)
    return asked if asked is not None else calendar.begins(demand.since, timeframe)


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
    message = f"the series holds {known.source}; {target.source} was asked for"
    is_others = known.source is not None and known.source.provider != target.source.provider
    if is_others and symbol.venue is None:
        other = argument(f"{symbol.ticker}@{target.source.provider}")
        message += f". To keep both, the other's are a symbol of its own: {other}"
    if not reach or (held and not reach.covers(*held)):
        message += ". Its bars reach beyond what can be read now, so they stay"
        return SourceMismatch(message)
    command = f"backfill run --symbol {argument(symbol.ticker)} --timeframe {timeframe} --reload"
    if is_others:
        command += f" --provider {target.source.provider}"
    if held:
        command += f" --from {calendar.trade_date(held.start_ms)}"
    return SourceMismatch(f"{message}. To replace all of it", mend=command)
