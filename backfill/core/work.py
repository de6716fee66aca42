"""Work: which series are to be fetched, under which rules, and what of each is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from backfill.core.archive import FilesOrCalls, Use
from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.capabilities import Capabilities
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import FOREVER_MS
from backfill.core.plan import PlannedRange, frontier_ms
from backfill.core.precision import EXACT, Precision
from backfill.core.series import Progress, Series, Source, Symbol, SymbolId
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import SeriesError, SourceMismatch

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn


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

    @property
    def deepens(self) -> bool:
        """Whether a series may be asked for since before it was ever wanted."""
        return self in {Mode.default, Mode.reload}

    @property
    def reopens(self) -> bool:
        """Whether it asks again for what a provider may have been late with."""
        return self in {Mode.default, Mode.incremental}


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
    """What holds for every series of a run that one provider is asked for.

    ``can`` is what the provider can be asked for, ``terms`` what its plan allows. ``adjustment`` is
    the wanted one; timeframes that can't be had so are as they are. With ``derive`` several
    timeframes of a symbol share a base. Of a provider that ``lists_splits`` these tell which
    adjusted bars are on an old basis. ``now_ms`` is the clock of planning and finality;
    ``precision`` what the table can hold; ``archive`` says whether files are read where the
    provider has some.
    """

    provider: str
    can: Capabilities
    adjustment: str
    terms: Terms
    now_ms: int
    derive: bool = True
    lists_splits: bool = False
    precision: Precision = EXACT
    archive: Use = Use.auto

    def files(self, mode: Mode) -> FilesOrCalls | None:
        """Return what decides between files and calls; None where it is calls in any case.

        A repair asks for what is missing in a file as it may be anywhere.
        """
        return self._files(mode, of_market=False)

    def market_files(self, mode: Mode) -> FilesOrCalls | None:
        """Return what decides so where a file holds every symbol."""
        return self._files(mode, of_market=True)

    def _files(self, mode: Mode, *, of_market: bool) -> FilesOrCalls | None:
        held = self.can.archive
        if held is None or held.of_market is not of_market or mode is Mode.repair:
            return None
        return FilesOrCalls(held, self.archive, self.now_ms)

    def adjustment_of(self, timeframe: Timeframe) -> str:
        """Return how the bars of a timeframe are adjusted."""
        return self.can.adjustment_of(timeframe, self.adjustment)

    def source_of(self, timeframe: Timeframe) -> Source:
        """Return the source of a timeframe's bars, where they are fetched."""
        return Source(self.provider, self.can.feed_of(timeframe), self.adjustment_of(timeframe))

    def final_ms(
        self, symbol: Symbol, calendar: Calendar, timeframe: Timeframe, delayed_ms: int = 0
    ) -> int:
        """Return up to where a symbol's bars are final; earlier by what an answer was held back."""
        settling = self.terms.of(symbol.asset_type).settling
        return frontier_ms(calendar, timeframe, settling, self.now_ms - delayed_ms)


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """One series of a piece of work: what it should hold, and what of it is missing.

    ``refusal`` is set where the series can't have all of that: it holds another source's bars, or
    the plan has refused a part. ``stored_ms`` are the starts of stored bars in the sessions that
    ``missing`` cuts, once these were looked up: they tell a slot that nobody traded from a session
    that isn't there. ``local``
    is the part of ``missing`` that stored bars of the base answer for.
    ``replaces`` is the other source whose bars all leave with the first page, if they do;
    ``is_loaded`` tells that bars of its own source are stored. ``again`` is what the provider may
    have been late with: it is asked for with what is missing where that costs no call more.
    ``alone`` is the part of it that is worth a call of its own if nothing is missing. ``answered``
    is what an answer of another day found empty. ``newest`` is how many of the newest slots can be
    had at all, if more was asked for; ``begins`` the day from which on they can, then. ``beside``
    is what is stored right beside what is missing, and asked for with that: it shows whether both
    are on one share basis.
    """

    series: Series
    source: Source
    wanted: Span | None
    missing: Spans
    refusal: SeriesError | None = None
    replaces: Source | None = None
    is_loaded: bool = False
    again: Spans = field(default_factory=Spans)
    alone: Spans = field(default_factory=Spans)
    local: Spans = field(default_factory=Spans)
    stored_ms: "IntColumn | None" = None
    answered: Spans = field(default_factory=Spans)
    newest: int | None = None
    begins: date | None = None
    beside: Spans = field(default_factory=Spans)

    @property
    def known_ms(self) -> "IntColumn":
        """The starts of stored bars, as far as they were looked up."""
        from backfill.core.bars import NO_STAMPS

        return NO_STAMPS if self.stored_ms is None else self.stored_ms

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
    ``precision`` is what the table can hold. Days that end by ``day_final_ms`` are final.
    ``fills_empty`` tells that a bar without volume says that nobody traded in its slot. ``known``
    is what it was planned by, besides the symbol: what was known of each target's series, and last
    of the base. It is None where a later plan would be another one in any case.
    """

    symbol: Symbol
    calendar: Calendar
    base: Timeframe
    targets: tuple[Target, ...]
    ranges: tuple[PlannedRange, ...]
    precision: Precision = EXACT
    day_final_ms: int = FOREVER_MS
    fills_empty: bool = False
    known: tuple[Progress | None, ...] | None = None

    @property
    def provider(self) -> str:
        """The name of the provider that is asked."""
        return self.targets[0].source.provider

    @property
    def series(self) -> list[Series]:
        """The series that the work is for."""
        return [target.series for target in self.targets]

    @property
    def is_of_shares(self) -> bool:
        """Whether it is of shares: they have splits, dividends and owners, which are listed."""
        return self.symbol.is_share

    @property
    def wants(self) -> dict[Series, int]:
        """Since when each series that bars are written to is wanted, in epoch ms."""
        return {one.series: one.wanted.start_ms for one in self.fed if one.wanted is not None}

    @property
    def oldest_first(self) -> tuple[PlannedRange, ...]:
        """The ranges up to the newest file from the oldest on, and then the calls behind it.

        They stay as they are where bars are rolled up, which go on from newer ones, and where one
        isn't behind all that is stored: a page is copied only before or after that.
        """
        newest = next((at for at, one in enumerate(self.ranges) if one.file is not None), None)
        if newest is None or not self.known:
            return self.ranges
        if [one.timeframe for one in self.series] != [self.base]:
            return self.ranges
        known, *_ = self.known
        stored = known.stored.hull if known else None
        if stored is not None and self.ranges[-1].span.start_ms < stored.end_ms:
            return self.ranges
        return self.ranges[newest:][::-1] + self.ranges[:newest]

    @property
    def due(self) -> bool:
        """Whether there is anything to do: to fetch, or to roll up from what is stored."""
        return bool(self.ranges) or any(target.local for target in self.targets)

    @property
    def fed(self) -> tuple[Target, ...]:
        """The targets that bars are written to: those that keep another source's get none."""
        return tuple(one for one in self.targets if not isinstance(one.refusal, SourceMismatch))

    def is_closed(self, answered: Mapping[Series, Spans]) -> bool:
        """Whether nothing is left to do of it once what was answered of its series is stored.

        Closed hours are nothing: a weekend before a session that was answered takes no request,
        which is for slots of the base.
        """
        asked = self.calendar.grid(self.base)
        return not any(
            asked.count(span)
            for one in self.targets
            for span in one.missing - answered.get(one.series, Spans())
        )

    def stands(self, symbol: Symbol, known: Mapping[tuple[SymbolId, Timeframe], Progress]) -> bool:
        """Whether what is known now of its symbol and series is what it was planned by."""
        return symbol.is_known_as(self.symbol) and self.known == known_of(
            known, self.series, self.base
        )

    def asked(self, planned: PlannedRange, adjustment: str) -> Asked:
        """Return what a planned range asks for, under the ticker that the symbol had in it."""
        symbol = self.symbol.on(self.calendar.trade_date(planned.span.start_ms))
        return Asked(symbol, self.calendar, self.base, planned.span, adjustment)


def known_of(
    known: Mapping[tuple[SymbolId, Timeframe], Progress], series: Sequence[Series], base: Timeframe
) -> tuple[Progress | None, ...]:
    """Return what a piece of work is planned by: what is known of its series, and of their base."""
    return tuple(known.get(one.key) for one in (*series, Series(series[0].symbol, base)))
