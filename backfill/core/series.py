"""Symbols, series, and what is known of a series before a run."""

# Over 300 lines: the words of the core: symbols, series, sources, progress, names.

from collections.abc import Iterable
from dataclasses import field, fields, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import Final, NamedTuple, Self, TypeAlias
from uuid import UUID

from backfill.core.calendar import ALWAYS_OPEN, FX, ZONES
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.instrument import Instrument, Pair, Stock, instrument_of, read_instrument
from backfill.core.plain import argument
from backfill.core.ticker import Ticker, spelling_of
from backfill.core.timeframe import Timeframe
from backfill.core.wire import DatedName
from backfill.errors import UsageError

SymbolId: TypeAlias = int | UUID
"""The key of a symbol: whatever the table ``symbols`` uses."""

IMPORT: Final = "import"
"""What stands for the provider in the source of bars that came by a file."""

_CALENDARS: Final = {"stock": "XNYS", "crypto": ALWAYS_OPEN, "fx": FX}
_LATE: Final = timedelta(days=7)
_TIRED: Final = 3


@dataclass(frozen=True, slots=True)
class Alias:
    """A ticker under which a symbol traded before: from ``valid_from`` to before ``valid_until``.

    Both are exchange dates, sessions or not.
    """

    ticker: str
    valid_from: date
    valid_until: date


class ListingVerdict(StrEnum):
    """What the bars say of a listing date, once an answer has reached back to it."""

    agreed = "agreed"
    """No bar is older."""
    cut = "cut"
    """Older ones are another company's: the bars break there. They are not kept."""
    doubted = "doubted"
    """Older ones are the same company's: nothing breaks. They are kept."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol as the table ``symbols`` holds it; ``confirmed`` once a provider has known it.

    ``aliases`` are its former tickers, oldest first; with ``names_manual`` somebody set them by
    hand, and the provider's events don't count. ``successor_figi`` is another company's that
    the ticker belongs to by now; ``retired_on`` the day on which it was set aside for that. What
    is known of a symbol doesn't make it another one: two with the same id and ticker are equal.

    ``listed_on`` is where its life begins: where the reference says (``reference_listed_on``), or
    at its oldest bar where the bars doubt that; ``listing`` is what they say of it. Where they
    doubt it, ``bars_asked_since`` is how far back was asked. What is older than ``kept_from`` was
    trimmed: nobody wants it who doesn't name it. One that ``was_watched`` was taken off the
    watchlist, lately or long ago.

    ``renamed_to`` is what its company is called since ``renamed_on``, if that is another ticker; on
    ``gone_on`` the reference knew it no longer, without saying why. ``unknown_runs`` counts the
    runs in which nobody knew it, before anybody ever did.

    ``listing_of`` is the plain symbol of whose instrument this is another venue's bars: its names,
    and what became of its company, are this one's too. ``spelled_at`` are the providers that a
    spelling of it is noted for.
    """

    id: SymbolId
    ticker: str
    asset_type: str
    calendar: str
    listed_on: date | None = field(default=None, compare=False)
    delisted_on: date | None = field(default=None, compare=False)
    confirmed: bool = field(default=False, compare=False)
    reference_at: datetime | None = field(default=None, compare=False)
    figi: str | None = field(default=None, compare=False)
    successor_figi: str | None = field(default=None, compare=False)
    retired_on: date | None = field(default=None, compare=False)
    set_aside: str | None = field(default=None, compare=False)
    aliases: tuple[Alias, ...] = field(default=(), compare=False)
    names_manual: bool = field(default=False, compare=False)
    listing: ListingVerdict | None = field(default=None, compare=False)
    reference_listed_on: date | None = field(default=None, compare=False)
    bars_asked_since: date | None = field(default=None, compare=False)
    kept_from: date | None = field(default=None, compare=False)
    successor_listed_on: date | None = field(default=None, compare=False)
    renamed_to: str | None = field(default=None, compare=False)
    renamed_on: date | None = field(default=None, compare=False)
    gone_on: date | None = field(default=None, compare=False)
    unknown_runs: int = field(default=0, compare=False)
    was_watched: bool = field(default=False, compare=False)
    listing_of: SymbolId | None = field(default=None, compare=False)
    spelled_at: tuple[str, ...] = field(default=(), compare=False)

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides under which tickers its bars are asked for, since when, if at all."""
        return *self.named_as, self.cut_on

    @property
    def named_as(self) -> tuple[object, ...]:
        """What decides under which tickers its bars are asked for."""
        return self.aliases, self.successor_figi, self.retired_on

    def is_known_as(self, other: Self) -> bool:
        """Whether nothing else is known of it than of another account of the same symbol."""
        return _all_of(self) == _all_of(other)

    @property
    def is_share(self) -> bool:
        """Whether it is of a company: shares have splits, dividends and owners; pairs have none."""
        return self.asset_type == "stock"

    @property
    def instrument(self) -> Instrument:
        """What its ticker names."""
        return instrument_of(self.ticker.partition("@")[0], self.asset_type)

    @property
    def venue(self) -> str | None:
        """The provider whose bars alone it holds, as its suffix names it; None for a plain one."""
        _, at, venue = self.ticker.rpartition("@")
        return venue if at and self.listing_of is not None else None

    @property
    def listed_as(self) -> str:
        """The name under which lists of everybody's name it: ``BRK.B``, however it is written."""
        return str(self.instrument)

    @property
    def spelling(self) -> str:
        """What all ways to write its ticker have in common."""
        return spelling_of(self.ticker)

    @property
    def last_day(self) -> date | None:
        """The last day of its life under this ticker, if that has ended."""
        if self.renamed_on is not None:
            return self.renamed_on - timedelta(days=1)
        return self.delisted_on

    @property
    def is_unknown(self) -> bool:
        """Whether runs have asked for it often enough to leave it out: nobody ever knew it."""
        return not self.confirmed and self.unknown_runs >= _TIRED

    @property
    def doubt(self) -> str | None:
        """What its row says that can't be meant, in one line; None if there is nothing."""
        if self.calendar not in ZONES:
            return f"its calendar is {self.calendar!r}, which is none of {', '.join(ZONES)}"
        if {self.listed_on, self.delisted_on} & {date.min, date.max}:
            return "it is listed or delisted at infinity: without a date the column is null"
        try:
            read = read_instrument(self.ticker.partition("@")[0])
        except UsageError:
            return None
        if isinstance(read, Pair) and read.asset_type != self.asset_type:
            return f"its ticker names {read} ({read.asset_type}), and it is a {self.asset_type}"
        return None

    @property
    def cut_on(self) -> date | None:
        """The day before which the ticker was another company's, if bars of that were seen."""
        return self.listed_on if self.listing is ListingVerdict.cut else None

    @property
    def straddles(self) -> bool:
        """Whether a week or month may hold days of two names, or companies: then days are asked."""
        return bool(self.aliases) or self.cut_on is not None

    def kept_since(self, since: date) -> date:
        """Return how deep it is kept by itself, for who would go back to a day."""
        return max(since, self.kept_from) if self.kept_from is not None else since

    def begins_within(self, since: date) -> bool:
        """Whether its life is known to begin where it says, for who asks back to a day."""
        if self.listing is ListingVerdict.doubted:
            return self.bars_asked_since is not None and self.bars_asked_since <= since
        return self.listing is not None or self.reference_listed_on is None

    def on(self, day: date) -> Self:
        """Return the symbol under the ticker that it had on a day."""
        for alias in self.aliases:
            if day < alias.valid_until:
                return replace(self, ticker=alias.ticker)
        return self


_all_of: Final = attrgetter(*(one.name for one in fields(Symbol)))


class Series(NamedTuple):
    """One symbol × one timeframe."""

    symbol: Symbol
    timeframe: Timeframe

    @property
    def key(self) -> tuple[SymbolId, Timeframe]:
        """The key of the series in every table."""
        return self.symbol.id, self.timeframe


@dataclass(frozen=True, slots=True)
class Source:
    """Where a series' bars come from; bars of two sources never share a series (R1)."""

    provider: str
    feed: str
    adjustment: str
    derived_from: Timeframe | None = None

    @property
    def origin(self) -> tuple[str, str, str]:
        """Provider, feed and adjustment: a series and what is rolled up from it share them."""
        return self.provider, self.feed, self.adjustment

    def __str__(self) -> str:
        derived = f", derived from {self.derived_from}" if self.derived_from else ""
        return f"{self.provider}/{self.feed}/{self.adjustment}{derived}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the ledger knows of a series; a series never seen has the defaults.

    ``wanted_from_ms`` is how deep its first load meant to go. ``denied`` is a range that the plan
    refused and that isn't asked again until the refusal expires. ``invalidated`` is what a reload
    or a repair took out of the coverage, ``expired`` what was found empty and may be asked again.
    ``unconfirmed`` is what the provider may have been late with, and a second answer about
    ``askable`` slots of it is believed; ``provisional`` what it answered before the day was final.
    ``held`` is what an answer found empty and that isn't asked again today, ``answered`` what one
    more answer that finds it empty would confirm.
    ``base_coverage`` is what the series that it is derived from is covered for, on the same source.
    """

    source: Source | None = None
    coverage: Spans = field(default_factory=Spans)
    invalidated: Spans = field(default_factory=Spans)
    expired: Spans = field(default_factory=Spans)
    unconfirmed: Spans = field(default_factory=Spans)
    askable: Spans = field(default_factory=Spans)
    provisional: Spans = field(default_factory=Spans)
    held: Spans = field(default_factory=Spans)
    answered: Spans = field(default_factory=Spans)
    wanted_from_ms: int | None = None
    oldest_bar_ms: int | None = None
    newest_bar_ms: int | None = None
    base_coverage: Spans = field(default_factory=Spans)
    denied: Span | None = None
    denied_until_ms: int | None = None

    @property
    def stored(self) -> Spans:
        """The span from the start of the oldest stored bar to right after that of the newest."""
        if self.oldest_bar_ms is None or self.newest_bar_ms is None:
            return Spans()
        return Spans.of((self.oldest_bar_ms, self.newest_bar_ms + 1))


def aliases_of(ticker: str, names: Iterable[DatedName]) -> tuple[Alias, ...]:
    """Return the former tickers of who is called ``ticker`` now, oldest first.

    None if the newest of the names is another: then they tell of somebody else.

    >>> was = DatedName("FB", date(2012, 5, 18))
    >>> [fb] = aliases_of("META", [DatedName("META", date(2022, 6, 11)), was])
    >>> fb.ticker, fb.valid_until
    ('FB', datetime.date(2022, 6, 11))
    """
    dated: list[DatedName] = []
    for name in sorted(names, key=lambda name: name.since):
        if not dated or dated[-1].ticker != name.ticker:
            dated.append(name)
    if not dated or dated[-1].ticker != ticker:
        return ()
    return tuple(
        Alias(old.ticker, old.since, new.since)
        for old, new in pairwise(dated)
        if old.since < new.since
    )


def dated_back(aliases: tuple[Alias, ...], began: date | None) -> tuple[Alias, ...]:
    """Return former names whose last ended where trade under the present one began.

    Providers date a change some days late: META traded from a Thursday on that is listed as the
    Saturday after. ``began`` is the first day of the trade that the change lies in, if that is
    known; one that is more than a week off is of somebody else.
    """
    if not aliases or began is None:
        return aliases
    last = aliases[-1]
    if timedelta() < last.valid_until - began <= _LATE and last.valid_from < began:
        return (*aliases[:-1], replace(last, valid_until=began))
    return aliases


def renamed(ticker: str, names: Iterable[DatedName], today: date) -> DatedName | None:
    """Return what a company is called ``today``, and since when, that was called ``ticker``.

    None if it still is, never was, or has a name now that no symbol can have.

    >>> names = [DatedName("META", date(2022, 6, 11)), DatedName("FB", date(2012, 5, 18))]
    >>> renamed("FB", names, date(2024, 1, 1))
    DatedName(ticker='META', since=datetime.date(2022, 6, 11))
    >>> renamed("FB", names, date(2022, 1, 1)), renamed("META", names, date(2024, 1, 1))
    (None, None)
    """
    dated = sorted((one for one in names if one.since <= today), key=lambda name: name.since)
    if not dated or dated[-1].ticker == ticker or not _names_a_stock(dated[-1].ticker):
        return None
    was = [one for one in dated if one.ticker == ticker and one.since < dated[-1].since]
    return dated[-1] if was else None


def _names_a_stock(ticker: str) -> bool:
    try:
        return isinstance(read_instrument(ticker), Stock)
    except UsageError:
        return False


def with_alias(symbol: Symbol, alias: Alias) -> tuple[Alias, ...]:
    """Return the former names of a symbol with one more, oldest first.

    Raises
    ------
    UsageError
        If it never ended, is the name of today, or the symbol had another name then.
    """
    if alias.valid_until <= alias.valid_from:
        raise UsageError(f"--from {alias.valid_from} is not before --until {alias.valid_until}")
    if alias.ticker == symbol.ticker:
        raise UsageError(f"{alias.ticker} is the name of today: name a former one")
    for one in symbol.aliases:
        if alias.valid_from < one.valid_until and one.valid_from < alias.valid_until:
            raise UsageError(
                f"{symbol.ticker} was {one.ticker} from {one.valid_from} until {one.valid_until}: "
                "drop that first",
                mend="backfill symbols alias drop "
                f"{argument(symbol.ticker)} {argument(one.ticker)}",
            )
    return tuple(sorted((*symbol.aliases, alias), key=lambda one: one.valid_from))


def without_alias(symbol: Symbol, ticker: str) -> tuple[Alias, ...]:
    """Return the former names of a symbol without one.

    Raises
    ------
    UsageError
        If it is none of them.
    """
    left = tuple(one for one in symbol.aliases if one.ticker != ticker)
    if left == symbol.aliases:
        known = ", ".join(one.ticker for one in symbol.aliases) or "none is known"
        raise UsageError(f"{ticker} is not a former name of {symbol.ticker}: {known}")
    return left


def renamed_days(old: Symbol, new: Symbol) -> tuple[date, date] | None:
    """Return from which day on to before which two accounts of a symbol name it otherwise.

    ``date.min`` stands for ever; None if they never do.

    >>> was = Alias("FB", date(2012, 5, 18), date(2022, 6, 9))
    >>> meta = Symbol(1, "META", "stock", "XNYS")
    >>> renamed_days(meta, replace(meta, aliases=(was,)))
    (datetime.date(1, 1, 1), datetime.date(2022, 6, 9))
    """
    changes = sorted({one.valid_until for one in (*old.aliases, *new.aliases)})
    parts = [
        (first, until)
        for first, until in pairwise([date.min, *changes])
        if old.on(first).ticker != new.on(first).ticker
    ]
    return (parts[0][0], parts[-1][1]) if parts else None


def unregistered(ticker: str) -> Symbol:
    """Return what a ticker's form tells of a symbol that no database has.

    Its id stands for none, and so does that of the plain symbol.

    Raises
    ------
    UsageError
        As `ticker_traits` does.
    """
    listing_of = -1 if Ticker.read(ticker).provider is not None else None
    return Symbol(-1, ticker, *ticker_traits(ticker), listing_of=listing_of)


def ticker_traits(ticker: str) -> tuple[str, str]:
    """Return the asset type and calendar that a ticker's form implies.

    A pair, however written, is crypto, and fx if both of it are money; what is none is a US equity.

    Raises
    ------
    UsageError
        If it is no ticker, or of a market that isn't kept (options, indices).

    >>> ticker_traits("BRK.B")
    ('stock', 'XNYS')
    >>> ticker_traits("X:BTCUSD"), ticker_traits("EUR/USD")
    (('crypto', '24/7'), ('fx', 'FX'))
    """
    read = Ticker.read(ticker)
    if read.retired is not None:
        raise UsageError(f"{ticker!r} names a retired symbol: its bars stay, nothing is fetched")
    asset_type = read_instrument(read.body).asset_type
    return asset_type, _CALENDARS[asset_type]
