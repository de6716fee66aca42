"""One series as a chart shows it: some of its bars, where they are from, whether it is fresh."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Final, Self

from backfill.audit.bars import begins
from backfill.audit.status import judged, silence_of
from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.bars import Bars
from backfill.core.basis import RAW
from backfill.core.coverage import Span, Spans
from backfill.core.export import adjusted
from backfill.core.freshness import State
from backfill.core.series import Series, Symbol, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import BeingLoaded, UsageError
from backfill.settings import Settings
from backfill.store import status, universe
from backfill.store.pool import Connection, Database
from backfill.store.read import some_bars
from backfill.store.source import EVER
from backfill.store.standing import Standing, standing
from backfill.store.times import to_ms, to_time

SPLIT: Final = "split"
_KEPT_S: Final = 60.0
"""How long it is remembered what the watchlist says of a series, and its calendar."""
_MISSED_S: Final = 5.0
"""How long for a series that was not among what was read: it may be new."""
_BLOCK: Final = 20_000
"""How many bars are read at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which bars somebody asks for: those from a time to before another; None for no bound.

    A date stands for the beginning of its session. ``adjustment`` is ``raw`` or ``split``, or None
    for what is stored.
    """

    ticker: str
    timeframe: Timeframe
    first: Bound | None = None
    last: Bound | None = None
    adjustment: str | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Some of the bars of a series: how it stands, and which of them are asked for.

    Those that may be on another share basis than the others are in none: nobody could tell them
    apart.
    """

    series: Series
    known: Standing
    asked: Asked
    span: Span

    @property
    def left_out(self) -> Spans:
        """Where bars are left out, since they are to be loaded again, after a split above all."""
        return self.known.doubtful & Spans.of(self.span)

    @property
    def spans(self) -> Spans:
        """Where the bars begin that are shown."""
        return Spans.of(self.span) - self.known.doubtful

    @property
    def adjustment(self) -> str | None:
        """How the bars are adjusted that are shown; None if nothing is known of them."""
        source = self.known.progress.source
        if self._is_adjusted:
            return SPLIT
        return source.adjustment if source is not None else None

    @property
    def version(self) -> str:
        """What the bars are made of: another once something of the series is written."""
        known = self.known
        of = (self.series.key, known.progress.source, known.progress.coverage.items, known.updated)
        made_of = repr((of, known.newest_ms, known.factors, self.asked)).encode()
        return blake2b(made_of, digest_size=12).hexdigest()

    def shown(self, bars: Bars) -> Bars:
        """Return stored bars as they are asked for."""
        return adjusted(bars, self.known.factors) if self._is_adjusted else bars

    def within(self, span: Span) -> Self:
        """Return an excerpt of another range."""
        return replace(self, span=span)

    def before(self, at_ms: int) -> Self:
        """Return an excerpt of all that begins before an instant."""
        return replace(self, span=Span(EVER.start_ms, at_ms))

    @property
    def _is_adjusted(self) -> bool:
        source = self.known.progress.source
        return self.asked.adjustment == SPLIT and source is not None and source.adjustment == RAW


@dataclass(frozen=True, slots=True)
class Chart:
    """The newest bars of a range; ``has_more`` tells whether there are older ones in it."""

    excerpt: Excerpt
    limit: int
    bars: Bars
    has_more: bool


async def excerpt(connection: Connection, asked: Asked) -> Excerpt:
    """Return a series, and how it stands.

    Raises
    ------
    NotKnown
        If there is no such symbol.
    UsageError
        If raw bars are asked for, and others are stored.
    """
    symbol = await universe.known(connection, asked.ticker)
    series = Series(symbol, asked.timeframe)
    known = await standing(connection, series, adjusted=asked.adjustment == SPLIT)
    source = known.progress.source
    if asked.adjustment == RAW and source is not None and source.adjustment != RAW:
        raise UsageError(
            f"{symbol.ticker} {asked.timeframe} holds {source.adjustment}-adjusted bars of "
            f"{source.provider}, no raw ones"
        )
    return Excerpt(series, known, asked, _span(symbol, asked))


async def newest(connection: Connection, seen: Excerpt, limit: int) -> tuple[Bars, bool]:
    """Return the newest bars of an excerpt, and whether there are older ones."""
    bars = await some_bars(connection, seen.series, seen.spans, limit + 1, newest=True)
    more = len(bars) > limit
    return seen.shown(bars.take(slice(1, None)) if more else bars), more


async def whole_excerpt(connection: Connection, asked: Asked) -> Excerpt:
    """Return a series, and how it stands, as `excerpt` does, if none of its bars is left out.

    Raises
    ------
    BeingLoaded
        If one is.
    """
    seen = await excerpt(connection, asked)
    if seen.left_out and len(
        last := await some_bars(connection, seen.series, seen.left_out, 1, newest=True)
    ):
        until = to_time(int(last.ts_ms[0])).isoformat(timespec="seconds")
        raise _being_loaded(seen, f"that of {until} and those before may be")
    return seen


async def blocks(database: Database, seen: Excerpt) -> AsyncIterator[Bars]:
    """Yield all bars of an excerpt as they are asked for, oldest first, a block at a time.

    Each is read when it is asked for, and none is empty.

    Raises
    ------
    BeingLoaded
        If the series is found to be on another share basis meanwhile.
    """
    start_ms, end_ms = seen.span
    while True:
        left = Spans.of((start_ms, end_ms)) & seen.spans
        bars = await database.run(partial(_block, seen=seen, spans=left))
        if len(bars):
            yield seen.shown(bars)
            start_ms = int(bars.ts_ms[-1]) + 1
        if len(bars) < _BLOCK:
            return


async def _block(connection: Connection, seen: Excerpt, spans: Spans) -> Bars:
    source = seen.known.progress.source
    if source is not None and source.adjustment != RAW:
        now = await standing(connection, seen.series, adjusted=False)
        if (now.loaded, now.doubtful) != (seen.known.loaded, seen.known.doubtful):
            raise _being_loaded(seen, "those that were read may be")
    return await some_bars(connection, seen.series, spans, _BLOCK, newest=False)


def _being_loaded(seen: Excerpt, what: str) -> BeingLoaded:
    symbol, timeframe = seen.series
    return BeingLoaded(
        f"{symbol.ticker} {timeframe} is being loaded again: of its bars {what} on the share basis "
        "before a split; ask for newer ones, or later"
    )


def _span(symbol: Symbol, asked: Asked) -> Span:
    first, last = (
        to_ms(begins(symbol, one.at, asked.timeframe)) if one else None
        for one in (asked.first, asked.last)
    )
    return Span(EVER.start_ms if first is None else first, EVER.end_ms if last is None else last)


class Judge:
    """Tells of single series whether they are fresh, as `backfill status` does.

    What the watchlist says of them, and their calendars, are read once a minute for all.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reading = asyncio.Lock()
        self._read_s = float("-inf")
        self._tracked: Mapping[tuple[SymbolId, Timeframe], Tracked] = {}

    async def is_fresh(self, database: Database, seen: Excerpt, now: datetime) -> bool:
        """Whether a series is fresh by a clock; one that isn't kept is not."""
        kept = await self._kept(database, seen.series.key, now)
        newest_ms = seen.known.newest_ms
        if kept is None or newest_ms is None:
            return False
        tracked = replace(kept, known=seen.known.progress)
        due = tracked.due(now)
        quiet = status.Quiet()
        if asked := silence_of(tracked, due, newest_ms):
            every = await database.run(partial(status.silences, asked=[asked]))
            quiet = every.get(seen.series, quiet)
        state, _, _ = judged(tracked, due, newest_ms, quiet)
        return state is State.fresh

    async def _kept(
        self, database: Database, key: tuple[SymbolId, Timeframe], now: datetime
    ) -> Tracked | None:
        """Return what is kept of a series; one that isn't may be new since it was read."""
        clock = asyncio.get_running_loop().time
        async with self._reading:
            good_for_s = _KEPT_S if key in self._tracked else _MISSED_S
            if clock() > self._read_s + good_for_s:
                every = await tracked_series(database, self._settings, now)
                self._tracked = {one.series.key: one for one in every}
                self._read_s = clock()
            return self._tracked.get(key)
