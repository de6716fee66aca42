"""Setting a symbol aside whose ticker is another company's now, and taking that back."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from backfill.core.calendar import trade_date
from backfill.core.checks import LATEST_MS
from backfill.core.plain import argument
from backfill.core.retiring import Evidence
from backfill.core.series import Symbol
from backfill.core.ticker import Ticker, stored_spellings
from backfill.errors import UsageError
from backfill.store import universe
from backfill.store.life import KEEP_ALIAS, last_day_of, locked_free
from backfill.store.pool import Connection
from backfill.store.times import to_ms

# Since when another company has the ticker, with the row locked; by the primary key.
_LOCK_SYMBOL: Final = "SELECT successor_listed_on FROM symbols WHERE id = $1 FOR UPDATE"
# Up to where the provider has answered for a symbol, in whatever timeframe.
_ANSWERED: Final = "SELECT max(upper(coverage)) FROM backfill_progress WHERE symbol_id = $1"
# A symbol is set aside under a dated name; by the primary key.
_RETIRE: Final = "UPDATE symbols SET ticker = $2, retired_on = $3 WHERE id = $1"
# The company that has the ticker now, as a symbol of its own.
_REPLACE: Final = """
    INSERT INTO symbols (ticker, asset_type, calendar, figi, listed_on, listing_verdict)
    VALUES ($1, $2, $3, $4, $5, 'cut')
    RETURNING id
"""
# How a ticker is spelled is its new owner's; by the primary key, of which it is the beginning.
_FREE_SPELLINGS: Final = "DELETE FROM provider_symbols WHERE symbol_id = $1"
# Other venues' of a plain symbol; by the index on what they are of.
_VENUES: Final = "SELECT id, ticker FROM symbols WHERE listing_of = $1 ORDER BY id FOR UPDATE"
# Another venue's of the company that has the ticker now.
_REPLACE_VENUE: Final = """
    INSERT INTO symbols (ticker, asset_type, calendar, listing_of)
    SELECT $1, asset_type, calendar, id FROM symbols WHERE id = $2
    RETURNING id
"""
# What was watched is watched of the other symbol; by the primary key.
_MOVE_WATCH: Final = "UPDATE watchlist SET symbol_id = $2 WHERE symbol_id = $1"
# Whether anything is stored under a ticker that a retired symbol shall have again, here or of
# another venue. A first bar is looked for, by the indexes: for any one the planner would read on
# until it finds it, and all where there is none.
_HEIR: Final = """
    SELECT s.id,
        s.adopted_at IS NOT NULL
        OR (
            SELECT b.ts
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.id
            ORDER BY b.timeframe, b.ts
            LIMIT 1
        ) IS NOT NULL
        OR (
            SELECT q.ts
            FROM quarantined_bars AS q
            WHERE q.symbol_id = s.id
            ORDER BY q.timeframe, q.ts
            LIMIT 1
        ) IS NOT NULL
        OR EXISTS (
            SELECT FROM symbols AS v
            JOIN backfill_progress AS p ON p.symbol_id = v.id
            WHERE v.listing_of = s.id AND p.provider IS NOT NULL
        ) AS holds
    FROM symbols AS s
    WHERE s.spelling = ANY ($1::text[]) AND s.id <> $2
    ORDER BY s.id
    LIMIT 1
    FOR UPDATE
"""
# Nothing of the heir is known to be empty; by the primary key, of which it is the beginning.
_FORGET_EMPTY: Final = "DELETE FROM known_empty WHERE symbol_id = $1"
# The heir, of which nothing is stored, leaves; by the primary key.
_REMOVE: Final = "DELETE FROM symbols WHERE id = $1"
# A retired symbol has its ticker again; by the primary key.
_RESTORE: Final = "UPDATE symbols SET ticker = $2, retired_on = NULL WHERE id = $1"
# The name that retiring gave an end to is the present one again.
_REVIVE_NAME: Final = """
    DELETE FROM symbol_aliases
    WHERE symbol_id = $1 AND ticker = $2 AND valid_until = (
        SELECT max(valid_until) FROM symbol_aliases WHERE symbol_id = $1
    )
"""


@dataclass(frozen=True, slots=True)
class Retired:
    """A symbol that was set aside: under which name, and whether its ticker is watched on."""

    ticker: str
    name: str
    watched: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """A symbol that was set aside and is not any more, under its ticker again."""

    symbol: Symbol
    name: str


async def retire(connection: Connection, ticker: str, today: date, *, sure: bool) -> Retired:
    """Set a symbol aside under a dated name, and free its ticker for whoever has it now.

    Its rows stay as they are. The watchlist's entry goes on with a new symbol of the ticker, whose
    life begins after the last day that is stored of the old one. So it is with other venues' of it.
    One that looks alive is retired only if somebody is ``sure``.

    Raises
    ------
    UsageError
        If there is no such symbol, nothing is stored of it, a run is working on it, or it looks
        alive.
    """
    found = await universe.known(connection, ticker)
    await locked_free(connection, found)
    successor_listed_on = await connection.fetchval(_LOCK_SYMBOL, found.id)
    symbol = await universe.by_id(connection, found.id)
    if symbol.retired_on is not None:
        raise UsageError(f"{ticker} is retired already, as {symbol.ticker}")
    if symbol.venue is not None:
        plain = Ticker.read(symbol.ticker).plain
        raise UsageError(
            f"{symbol.ticker} is {symbol.venue}'s of {plain}, and is retired with it",
            mend=f"backfill symbols retire {argument(plain)}",
        )
    last = await last_day_of(connection, symbol, LATEST_MS)
    if last is None:
        raise UsageError(f"nothing is stored of {symbol.ticker}: there is nothing to retire")
    evidence = await _evidence(connection, symbol, last)
    if not (evidence.has_ended or sure):
        raise UsageError(
            f"{evidence}; nothing was changed. If its bars are another company's all the same: "
            f"backfill symbols retire {symbol.ticker} --yes"
        )
    name = f"{symbol.ticker}@{last}"
    after = last + timedelta(days=1)
    began = symbol.aliases[-1].valid_until if symbol.aliases else symbol.listed_on
    began = began if began is not None and began < after else date.min
    await connection.execute(_RETIRE, symbol.id, name, today)
    await connection.execute(_FREE_SPELLINGS, symbol.id)
    await connection.execute(KEEP_ALIAS, symbol.id, symbol.ticker, began, after)
    heir = await connection.fetchval(
        _REPLACE,
        symbol.ticker,
        symbol.asset_type,
        symbol.calendar,
        symbol.successor_figi,
        max(after, successor_listed_on or after),
    )
    moved = await connection.execute(_MOVE_WATCH, symbol.id, heir)
    for row in await connection.fetch(_VENUES, symbol.id):
        venue = await universe.by_id(connection, row["id"])
        await locked_free(connection, venue)
        await connection.execute(_RETIRE, venue.id, f"{name}@{venue.venue}", today)
        await connection.execute(_FREE_SPELLINGS, venue.id)
        venue_heir = await connection.fetchval(_REPLACE_VENUE, venue.ticker, heir)
        await connection.execute(_MOVE_WATCH, venue.id, venue_heir)
    return Retired(symbol.ticker, name, watched=moved != "UPDATE 0")


async def restore(connection: Connection, name: str) -> Restored:
    """Give a symbol that was set aside its ticker back, with the watchlist's entry for that.

    Raises
    ------
    UsageError
        If there is no such symbol, it was not set aside, its ticker has bars of its own by now, or
        a run is working on it.
    """
    symbol = await universe.known(connection, name)
    if symbol.retired_on is None:
        raise UsageError(f"{symbol.ticker} is not retired", mend="backfill symbols list")
    if symbol.venue is not None:
        raise UsageError(f"{symbol.ticker} is taken back with {Ticker.read(symbol.ticker).plain}")
    ticker = symbol.ticker.partition("@")[0]
    venues = {
        one["ticker"].rpartition("@")[2]: one["id"]
        for one in await connection.fetch(_VENUES, symbol.id)
    }
    if (row := await connection.fetchrow(_HEIR, stored_spellings(ticker), symbol.id)) is not None:
        heir = await universe.by_id(connection, row["id"])
        await locked_free(connection, heir)
        if row["holds"]:
            raise UsageError(
                f"{ticker} is another symbol by now, with bars of its own; nothing was changed. To "
                f"have {symbol.ticker} in its place: backfill symbols delete {ticker} --yes"
            )
        await connection.execute(_MOVE_WATCH, heir.id, symbol.id)
        for one in await connection.fetch(_VENUES, heir.id):
            if (old := venues.get(one["ticker"].rpartition("@")[2])) is not None:
                await connection.execute(_MOVE_WATCH, one["id"], old)
            await connection.execute(_REMOVE, one["id"])
        await connection.execute(_FORGET_EMPTY, heir.id)
        await connection.execute(_REMOVE, heir.id)
    await connection.execute(_RESTORE, symbol.id, ticker)
    for venue, venue_id in venues.items():
        await connection.execute(_RESTORE, venue_id, f"{ticker}@{venue}")
    await connection.execute(_REVIVE_NAME, symbol.id, ticker)
    return Restored(await universe.by_id(connection, symbol.id), symbol.ticker)


async def _evidence(connection: Connection, symbol: Symbol, newest: date) -> Evidence:
    until = await connection.fetchval(_ANSWERED, symbol.id)
    answered = trade_date(symbol.calendar, to_ms(until) - 1) if until is not None else None
    return Evidence(symbol, newest, answered)
