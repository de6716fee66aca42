"""Symbols and the watchlist: which series there are to keep."""

# Over 300 lines: a third is SQL; symbols and the watchlist are read by one statement.

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from backfill.core.dataclass import dataclass
from backfill.core.likely import hint
from backfill.core.series import Alias, ListingVerdict, Symbol, SymbolId, ticker_traits
from backfill.core.ticker import Ticker, spelling_of, stored_spellings
from backfill.core.timeframe import Timeframe
from backfill.core.when import parse_since
from backfill.core.wire import Reference
from backfill.errors import NotKept, NotKnown, UsageError
from backfill.store.keys import told_id
from backfill.store.pool import Connection
from backfill.store.quote import Quoted, bound
from backfill.store.session import Asks
from backfill.store.times import day_of, told_day, told_time

WATCHLIST_CHANNEL: Final = "backfill_watchlist"
"""Where the database sends an empty notice when the watchlist changes, by a trigger."""

# Symbols with their former names, oldest first, and their entries of the watchlist, if any; another
# venue's with the names and the fate of the plain one.
_SYMBOLS: Final = """
    SELECT s.*, w.timeframes::text[] AS watched_timeframes, w.since, w.paused, w.priority,
        l.provider AS watched_provider,
        CASE WHEN s.gone_on IS NOT NULL AND NOT EXISTS (
            SELECT
            FROM backfill_progress AS p
            WHERE p.symbol_id = s.id AND p.newest_bar >= s.gone_on
        ) THEN s.gone_on END AS gone,
        coalesce(p.retired_on, s.retired_on) AS ended_on,
        coalesce(p.successor_figi, s.successor_figi) AS heir_figi,
        coalesce(p.successor_listed_on, s.successor_listed_on) AS heir_listed_on,
        coalesce(p.renamed_to, s.renamed_to) AS renamed_as,
        coalesce(p.renamed_on, s.renamed_on) AS renamed_since,
        coalesce(p.names_manual, s.names_manual) AS named_by_hand,
        ARRAY(
            SELECT json_build_object(
                'ticker', a.ticker, 'since', a.valid_from, 'until', a.valid_until
            )
            FROM symbol_aliases AS a
            WHERE a.symbol_id = coalesce(s.listing_of, s.id)
            ORDER BY a.valid_from
        ) AS aliases,
        ARRAY(SELECT provider FROM provider_symbols WHERE symbol_id = s.id) AS spelled_at
    FROM symbols AS s
    LEFT JOIN symbols AS p ON p.id = s.listing_of
    LEFT JOIN watched AS w ON w.symbol_id = s.id
    LEFT JOIN watchlist AS l ON l.symbol_id = w.symbol_id
"""
# One at a time adds symbols: no index knows that two spellings are of one.
_REGISTERING: Final = "SELECT pg_advisory_xact_lock(7206151903)"
# Symbols that are new, under the first of their spellings.
_REGISTER: Final = """
    INSERT INTO symbols (ticker, asset_type, calendar)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
    ON CONFLICT DO NOTHING
"""
# Other venues' of plain symbols; by the primary key.
_REGISTER_VENUES: Final = """
    INSERT INTO symbols (ticker, asset_type, calendar, listing_of)
    SELECT n.ticker, p.asset_type, p.calendar, p.id
    FROM unnest($1::text[], $2::symbol_id[]) AS n (ticker, plain)
    JOIN symbols AS p ON p.id = n.plain
    ON CONFLICT DO NOTHING
"""
# By the index on the spelling; of several rows for one spelling the oldest comes first.
_BY_TICKER: Final = _SYMBOLS + "WHERE s.spelling = ANY ($1::text[]) ORDER BY s.created_at, s.id"
_BY_ID: Final = _SYMBOLS + "WHERE s.id = ANY ($1::symbol_id[])"
_KNOWN: Final = (
    _SYMBOLS
    + """
    WHERE s.confirmed_at IS NOT NULL OR w.symbol_id IS NOT NULL
    ORDER BY s.ticker
"""
)
# The ids of tickers, by the index on the spelling.
_IDS_BY_TICKER: Final = "SELECT id FROM symbols WHERE spelling = ANY ($1::text[])"
# The ids of what is watched, by the view of the watchlist.
_IDS_OF_WATCHED: Final = "SELECT symbol_id FROM watched"
_WATCHED: Final = _SYMBOLS + "WHERE w.symbol_id IS NOT NULL ORDER BY w.priority DESC, s.ticker"
# The ids of tickers, and of what these are called now; by the indexes on spelling and ticker.
_IDS_MEANT: Final = """
    SELECT id FROM symbols WHERE spelling = ANY ($1::text[])
    UNION ALL
    SELECT t.id
    FROM symbols AS n
    LEFT JOIN symbols AS o ON o.id = n.listing_of
    JOIN symbols AS t ON t.ticker = coalesce(o.renamed_to, n.renamed_to)
    WHERE n.spelling = ANY ($1::text[])
"""
_WATCHED_OF: Final = (
    _SYMBOLS + "WHERE w.symbol_id IS NOT NULL AND s.id IN ($1) ORDER BY w.priority DESC, s.ticker"
)
# What is named changes, and nothing else; of what an adopted list keeps, the rest comes along.
_WATCH: Final = """
    INSERT INTO watchlist AS w (symbol_id, timeframes, since, priority, provider)
    SELECT
        s.id,
        coalesce($2::text[]::timeframe[], e.timeframes, '{d1}'),
        nullif($3, 'default'),
        coalesce($4, 0),
        nullif($5, 'default')
    FROM symbols AS s
    LEFT JOIN watched AS e ON e.symbol_id = s.id
    WHERE s.ticker = ANY ($1::text[])
    ON CONFLICT (symbol_id) DO UPDATE
    SET timeframes = coalesce($2::text[]::timeframe[], w.timeframes),
        since = CASE WHEN $3 IS NULL THEN w.since ELSE excluded.since END,
        priority = coalesce($4, w.priority),
        provider = CASE WHEN $5 IS NULL THEN w.provider ELSE excluded.provider END
"""
# Who names a depth wants what was trimmed before, too.
_KEEP_ALL: Final = """
    UPDATE symbols
    SET kept_from = NULL
    WHERE ticker = ANY ($1::text[]) AND kept_from IS NOT NULL
"""
# Entries taken off the watchlist; by the unique ticker.
_UNWATCH: Final = """
    DELETE FROM watchlist AS w
    USING symbols AS s
    WHERE s.id = w.symbol_id AND s.ticker = ANY ($1::text[])
    RETURNING s.ticker
"""
# Which symbols are watched all the same: by a list of another system, which stays as it is.
_STILL_WATCHED: Final = """
    SELECT s.ticker
    FROM watched AS w
    JOIN symbols AS s ON s.id = w.symbol_id
    WHERE s.ticker = ANY ($1::text[])
    ORDER BY s.ticker
"""
# Pauses what `watched` shows; what an adopted list keeps gets an entry of its own for that.
_PAUSE: Final = """
    INSERT INTO watchlist AS l (symbol_id, timeframes, since, paused, priority)
    SELECT w.symbol_id, w.timeframes, w.since, $2, w.priority
    FROM watched AS w
    JOIN symbols AS s ON s.id = w.symbol_id
    WHERE s.ticker = ANY ($1::text[])
    ON CONFLICT (symbol_id) DO UPDATE SET paused = excluded.paused
    RETURNING symbol_id
"""
# A provider has known the symbols; by the primary key, in the order of all that lock them.
_CONFIRM: Final = """
    WITH mine AS MATERIALIZED (
        SELECT id
        FROM symbols
        WHERE id = ANY ($1::symbol_id[]) AND confirmed_at IS NULL
        ORDER BY id
        FOR UPDATE
    )
    UPDATE symbols AS s
    SET confirmed_at = coalesce(s.confirmed_at, now()), unknown_runs = 0
    FROM mine
    WHERE s.id = mine.id
"""
# Another listing date than before is judged by the bars anew; but who took a ticker over from a
# symbol that was set aside begins after that, whatever the reference says.
_NOTE_REFERENCE: Final = """
    UPDATE symbols
    SET confirmed_at = coalesce(confirmed_at, now()),
        reference_at = now(),
        listed_on = CASE
            WHEN $2::date IS NULL OR $2 = reference_listed_on THEN listed_on
            WHEN listing_verdict = 'cut' AND reference_listed_on IS NULL
                THEN greatest(listed_on, $2)
            ELSE $2
        END,
        listing_verdict = CASE
            WHEN $2 IS NULL OR $2 = reference_listed_on THEN listing_verdict
            WHEN listing_verdict = 'cut' AND reference_listed_on IS NULL THEN 'cut'
        END,
        bars_asked_since = CASE WHEN $2 = reference_listed_on THEN bars_asked_since END,
        reference_listed_on = coalesce($2, reference_listed_on),
        delisted_on = $3,
        figi = coalesce($4, figi),
        renamed_to = $5::text,
        renamed_on = $6,
        gone_on = CASE WHEN NOT $7 AND $5::text IS NULL THEN coalesce(gone_on, now()::date) END,
        unknown_runs = 0
    WHERE id = $1
"""
# Another run in which nobody knew a symbol that nobody ever did; by the primary key.
_COUNT_UNKNOWN: Final = """
    UPDATE symbols
    SET unknown_runs = unknown_runs + 1
    WHERE id = ANY ($1) AND confirmed_at IS NULL
"""
# Whoever is named on the watchlist anew is asked for again.
_ASK_ANEW: Final = """
    UPDATE symbols
    SET unknown_runs = 0
    WHERE ticker = ANY ($1::text[]) AND unknown_runs > 0
"""
# A ticker that the provider doesn't know leaves nothing behind, unless somebody watches it.
_FORGET: Final = """
    DELETE FROM backfill_progress AS p
    USING symbols AS s
    WHERE s.id = p.symbol_id AND s.id = ANY ($1) AND s.confirmed_at IS NULL
"""
# The symbol goes too, unless something else is known of it; by the primary key.
_FORGET_SYMBOLS: Final = """
    DELETE FROM symbols AS s
    WHERE id = ANY ($1) AND confirmed_at IS NULL AND adopted_at IS NULL
        AND NOT EXISTS (SELECT FROM watchlist AS w WHERE w.symbol_id = s.id)
        AND NOT EXISTS (SELECT FROM backfill_progress AS p WHERE p.symbol_id = s.id)
        AND NOT EXISTS (SELECT FROM ohlc_bars AS b WHERE b.symbol_id = s.id)
        AND NOT EXISTS (SELECT FROM quarantined_bars AS q WHERE q.symbol_id = s.id)
        AND NOT EXISTS (SELECT FROM symbols AS v WHERE v.listing_of = s.id)
    RETURNING listing_of
"""


@dataclass(frozen=True, slots=True)
class WatchEntry:
    """A symbol that is kept: in which timeframes, and how deep (None: as deep as the default).

    Of the entries that a run takes, those with a higher ``priority`` come first. ``provider`` is
    whom to ask, of another venue's symbol always that; None for the run's default.
    """

    symbol: Symbol
    timeframes: tuple[Timeframe, ...]
    since: str | None
    paused: bool
    priority: int
    provider: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether runs of the watchlist take it."""
        return not self.paused and not self.symbol.is_unknown

    def since_day(self, today: date) -> date | None:
        """Return how deep it is kept; None for as deep as the default.

        Raises
        ------
        NotKept
            If what the table says is no depth.
        """
        try:
            return parse_since(self.since, today) if self.since else None
        except UsageError as error:
            raise NotKept(f"its depth on the watchlist: {error}") from None


async def register(connection: Connection, tickers: Iterable[str]) -> list[Symbol]:
    """Return the symbols of tickers, in their order, adding those that are new.

    Before another venue's the plain symbol of its instrument is added.

    Raises
    ------
    UsageError
        If a ticker has no valid form, or can't be told from that of another symbol.
    """
    wanted = {ticker: ticker_traits(ticker) for ticker in tickers}
    found = await found_by(connection, wanted)
    if len(found) < len(wanted):
        await connection.execute(_REGISTERING)
        await _add(connection, wanted)
        found = await found_by(connection, wanted)
    if strange := [ticker for ticker in wanted if ticker not in found]:
        raise UsageError(f"{strange[0]} can't be told from another symbol that is kept")
    return list(dict.fromkeys(found[ticker] for ticker in wanted))


async def _add(connection: Connection, wanted: Mapping[str, tuple[str, str]]) -> None:
    """Add the symbols of tickers, each with its traits, that are not there."""
    plain_of = {one: read.plain for one in wanted if (read := Ticker.read(one)).provider}
    traits = {plain_of.get(one, one): found for one, found in wanted.items()}
    found = await found_by(connection, [*traits, *plain_of])
    if new := _firsts(one for one in traits if one not in found):
        kinds, calendars = zip(*(traits[one] for one in new), strict=True)
        await connection.execute(_REGISTER, new, kinds, calendars)
    if venues := _firsts(one for one in plain_of if one not in found):
        found |= await found_by(connection, plain_of.values())
        plain_ids = [found[plain_of[one]].id for one in venues]
        await connection.execute(_REGISTER_VENUES, venues, plain_ids)


def _firsts(tickers: Iterable[str]) -> list[str]:
    """Return of those tickers the first of each symbol."""
    firsts: dict[str, str] = {}
    for one in tickers:
        firsts.setdefault(spelling_of(one), one)
    return list(firsts.values())


async def by_ticker(connection: Connection, tickers: list[str]) -> list[Symbol]:
    """Return the symbols of those tickers that there are, each once, in the order given.

    Any way to write one finds it: ``BTC/USD``, ``X:BTCUSD`` and ``BTC-USD`` are one symbol.
    """
    return list(dict.fromkeys((await found_by(connection, tickers)).values()))


async def found_by(connection: Connection, tickers: Iterable[str]) -> dict[str, Symbol]:
    """Return the symbols of those tickers that there are, by the tickers as they are given."""
    wanted = list(tickers)
    (rows,) = await connection.ask(finding(wanted))
    return read_found(rows, wanted)


def finding(tickers: Iterable[str]) -> str:
    """Return the query for the symbols of tickers; `read_found` reads its rows."""
    return bound(_BY_TICKER, stored_spellings(*tickers))


def read_found(rows: Sequence[Mapping[str, Any]], tickers: Iterable[str]) -> dict[str, Symbol]:
    """Return the symbols that rows tell of by the tickers that are meant, as `found_by` does."""
    symbols = [_symbol(row) for row in reversed(rows)]
    found = {one.spelling: one for one in symbols} | {one.ticker: one for one in symbols}
    pairs = ((one, found.get(one) or found.get(spelling_of(one))) for one in tickers)
    return {one: symbol for one, symbol in pairs if symbol is not None}


def ids_of(tickers: Iterable[str] | None) -> Quoted:
    """Return the query for the ids of the symbols of tickers; of what is watched where None are."""
    if tickers is None:
        return Quoted(_IDS_OF_WATCHED)
    return Quoted(bound(_IDS_BY_TICKER, stored_spellings(*tickers)))


async def known(connection: Connection, ticker: str) -> Symbol:
    """Return the symbol of a ticker, found as `by_ticker` finds it.

    Raises
    ------
    NotKnown
        If there is none.
    """
    found = await by_ticker(connection, [ticker])
    if not found:
        meant = hint(ticker, await _tickers(connection))
        raise NotKnown(f"{ticker} is not known{meant}", mend="backfill symbols list")
    return found[0]


async def hinted(connection: Connection, tickers: Iterable[str]) -> str:
    """Return tickers that aren't there in a line, each with what it may have been meant for."""
    known = await _tickers(connection)
    return ", ".join(f"{one}{hint(one, known)}" for one in tickers)


async def _tickers(connection: Connection) -> list[str]:
    return [one.ticker for one in await known_symbols(connection)]


async def known_plain(connection: Connection, ticker: str) -> Symbol:
    """Return the plain symbol of a ticker: of another venue's the one whose instrument it is.

    Raises
    ------
    UsageError
        If there is no symbol of that ticker.
    """
    found = await known(connection, ticker)
    return found if found.listing_of is None else await by_id(connection, found.listing_of)


async def by_id(connection: Connection, symbol_id: SymbolId) -> Symbol:
    """Return a symbol as it is known by now."""
    return (await by_ids(connection, [symbol_id]))[symbol_id]


async def by_ids(connection: Connection, symbol_ids: list[SymbolId]) -> dict[SymbolId, Symbol]:
    """Return symbols as they are known by now, by their ids."""
    (rows,) = await connection.ask(naming(symbol_ids))
    return read_named(rows)


def naming(symbol_ids: Iterable[SymbolId]) -> str:
    """Return the query for symbols as they are known by now; `read_named` reads its rows."""
    return bound(_BY_ID, list(symbol_ids))


def read_named(rows: Iterable[Mapping[str, Any]]) -> dict[SymbolId, Symbol]:
    """Return the symbols that rows tell of, by their ids."""
    return {one.id: one for one in map(_symbol, rows)}


async def known_symbols(connection: Connection) -> list[Symbol]:
    """Return the symbols that a provider has confirmed or somebody watches, by ticker."""
    (rows,) = await connection.ask(_KNOWN)
    return list(map(_symbol, rows))


async def watched(asks: Asks) -> list[WatchEntry]:
    """Return the watchlist, the highest priority first, then by ticker; paused ones included."""
    (rows,) = await asks.ask(_WATCHED)
    return read_watched(rows)


def watching(tickers: Iterable[str] | None) -> str:
    """Return the query for what is watched of the symbols of tickers; for all where None are named.

    What is watched of the symbols that these are called now comes along. `read_watched` reads its
    rows. A job of a large market asks for one symbol, and the whole list would cost more than it.
    """
    if tickers is None:
        return _WATCHED
    return bound(_WATCHED_OF, Quoted(bound(_IDS_MEANT, stored_spellings(*tickers))))


def read_watched(rows: Iterable[Mapping[str, Any]]) -> list[WatchEntry]:
    """Return the entries of the watchlist that the rows of `watching` tell of."""
    return [_entry(row, _symbol(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class WatchChange:
    """What of an entry is named, to be changed; None leaves it as it is.

    ``default`` as depth or provider takes what an entry says of it away.
    """

    timeframes: tuple[Timeframe, ...] | None = None
    since: str | None = None
    priority: int | None = None
    provider: str | None = None


async def watch(connection: Connection, tickers: list[str], change: WatchChange) -> None:
    """Put symbols on the watchlist, or change what is named of their entries.

    A new entry is kept in d1 where no timeframes are named.
    """
    symbols = [symbol.ticker for symbol in await register(connection, tickers)]
    names = [str(one) for one in change.timeframes] if change.timeframes else None
    await connection.execute(_WATCH, symbols, names, change.since, change.priority, change.provider)
    await connection.execute(_ASK_ANEW, symbols)
    if change.since is not None:
        await connection.execute(_KEEP_ALL, symbols)


async def unwatch(connection: Connection, tickers: list[str]) -> list[str]:
    """Take symbols off the watchlist and return those that were on it; their bars stay.

    Raises
    ------
    UsageError
        If an adopted list keeps one of them; then none is taken off.
    """
    symbols = [symbol.ticker for symbol in await by_ticker(connection, tickers)]
    removed = [row["ticker"] for row in await connection.fetch(_UNWATCH, symbols)]
    if still := [row["ticker"] for row in await connection.fetch(_STILL_WATCHED, symbols)]:
        names = " ".join(still)
        raise UsageError(
            f"the adopted list watchlist_items keeps {names}, and is not changed from here: "
            f"remove it there, or leave it out: backfill watch pause {names}"
        )
    return removed


async def pause(connection: Connection, tickers: list[str], *, paused: bool) -> None:
    """Pause entries of the watchlist, or end their pause; what was set aside is asked for again.

    Raises
    ------
    UsageError
        If one isn't on it: it says what would help; then none changes.
    """
    symbols = await found_by(connection, tickers)
    names = [one.ticker for one in symbols.values()]
    changed = {row["symbol_id"] for row in await connection.fetch(_PAUSE, names, paused)}
    if not paused:
        await connection.execute(_ASK_ANEW, names)
    strange = [
        one for one in tickers if (found := symbols.get(one)) is None or found.id not in changed
    ]
    if not strange:
        return
    stored = [one for one in strange if (found := symbols.get(one)) and found.confirmed]
    if stored:
        named = " ".join(stored)
        raise UsageError(
            f"not on the watchlist: {', '.join(strange)}. `run --all` leaves {named} out as it is; "
            f"to be rid of it: backfill symbols delete {stored[0]}; to keep it",
            mend=f"backfill watch add {named}",
        )
    named = await hinted(connection, strange)
    raise UsageError(f"not on the watchlist: {named}", mend="backfill watch list")


async def confirm(connection: Connection, symbol_ids: Iterable[SymbolId]) -> None:
    """Note that the provider has bars of symbols."""
    connection.later(_CONFIRM, list(symbol_ids))


async def note_reference(connection: Connection, symbol_id: SymbolId, reference: Reference) -> None:
    """Note what the provider's reference says of a symbol."""
    named = reference.renamed
    await connection.execute(
        _NOTE_REFERENCE,
        symbol_id,
        reference.listed_on,
        reference.delisted_on,
        reference.figi,
        named.ticker if named else None,
        named.since if named else None,
        reference.is_known,
    )


async def forget(connection: Connection, symbol_ids: list[SymbolId]) -> None:
    """Remove symbols that the provider doesn't know, with their progress; count those that stay."""
    await remove_unknown(connection, symbol_ids)
    await connection.execute(_COUNT_UNKNOWN, symbol_ids)


async def remove_unknown(connection: Connection, symbol_ids: list[SymbolId]) -> None:
    """Remove symbols that nobody has had a bar of, with their progress, unless they are watched."""
    await connection.execute(_FORGET, symbol_ids)
    gone = await connection.fetch(_FORGET_SYMBOLS, symbol_ids)
    if plain := [row["listing_of"] for row in gone if row["listing_of"] is not None]:
        await connection.fetch(_FORGET_SYMBOLS, plain)  # they were there for these alone


def _entry(row: Mapping[str, Any], symbol: Symbol) -> WatchEntry:
    return WatchEntry(
        symbol=symbol,
        timeframes=tuple(Timeframe(name) for name in row["watched_timeframes"] if name),
        since=row["since"],
        paused=row["paused"],
        priority=row["priority"],
        provider=symbol.venue or row["watched_provider"],
    )


def _symbol(row: Mapping[str, Any]) -> Symbol:
    aliases = (
        Alias(one["ticker"], day_of(one["since"]), day_of(one["until"])) for one in row["aliases"]
    )
    return Symbol(
        id=told_id(row["id"]),
        ticker=row["ticker"],
        asset_type=row["asset_type"],
        calendar=row["calendar"],
        listed_on=told_day(row["listed_on"]),
        delisted_on=told_day(row["delisted_on"]),
        confirmed=row["confirmed_at"] is not None,
        reference_at=told_time(row["reference_at"]),
        figi=row["figi"],
        successor_figi=row["heir_figi"],
        retired_on=told_day(row["ended_on"]),
        set_aside=row["set_aside"],
        aliases=tuple(aliases),
        names_manual=row["named_by_hand"],
        listing=ListingVerdict(verdict) if (verdict := row["listing_verdict"]) else None,
        reference_listed_on=told_day(row["reference_listed_on"]),
        bars_asked_since=told_day(row["bars_asked_since"]),
        kept_from=told_day(row["kept_from"]),
        successor_listed_on=told_day(row["heir_listed_on"]),
        renamed_to=row["renamed_as"],
        renamed_on=told_day(row["renamed_since"]),
        gone_on=told_day(row["gone"]),
        unknown_runs=row["unknown_runs"],
        was_watched=row["unwatched_at"] is not None,
        listing_of=None if row["listing_of"] is None else told_id(row["listing_of"]),
        spelled_at=tuple(row["spelled_at"]),
    )
