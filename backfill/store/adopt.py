"""Taking over the tables of another system: what they lack is added, and every row stays."""

# Over 300 lines: an adoption is one decision and its steps; half of it is SQL.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.errors import SchemaMismatch, UsageError
from backfill.store.foreign import (
    TRADED,
    Column,
    Facts,
    facts,
    known_timeframes,
    refusal,
)
from backfill.store.foreign_tickers import collision, set_aside_for
from backfill.store.migrate import SHOW_RUNNER, apply_pending, lock_schema, migrations
from backfill.store.pool import Connection, Database
from backfill.store.universe import by_ids

_INVOKER: Final = 150_000
"""The first version of Postgres whose views can ask with their reader's rights."""

# What was decided before the first change, so that whoever comes after a kill goes on from there.
_RECORD: Final = """
    CREATE TABLE IF NOT EXISTS backfill_adoption (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        decided_at timestamptz NOT NULL DEFAULT now(),
        decision text NOT NULL,
        taken_at timestamptz,
        finished_at timestamptz,
        cleaned_at timestamptz
    );
    ALTER TABLE backfill_adoption ENABLE ROW LEVEL SECURITY;
"""
# Whether there is a decision, and whether the schema is backfill's.
_STANDING: Final = """
    SELECT
        to_regclass('backfill_adoption') IS NOT NULL AS decided,
        to_regclass('backfill_progress') IS NOT NULL AS ours
"""
# The decision, and how far it was carried out.
_DECIDED: Final = """
    SELECT
        decision,
        taken_at IS NOT NULL AS taken,
        finished_at IS NOT NULL AS finished,
        cleaned_at IS NOT NULL AS cleaned
    FROM backfill_adoption
"""
# The decision, recorded before the first change; the table holds one row.
_DECIDE: Final = "INSERT INTO backfill_adoption (decision) VALUES ($1)"
# The tables are taken over.
_TAKE: Final = "UPDATE backfill_adoption SET taken_at = now()"
# All is done, the cleaning too if that was asked for.
_FINISH: Final = """
    UPDATE backfill_adoption
    SET finished_at = now(), cleaned_at = CASE WHEN $1 THEN now() ELSE cleaned_at END
"""
# Whether a bar has a stamp that is no time of the calendar's years 1 to 9999, and can't be read.
_OUT_OF_TIME: Final = """
    SELECT EXISTS (
        SELECT FROM ohlc_bars
        WHERE ts < '0001-01-01 00:00:00+00' OR ts >= '9999-12-31 00:00:00+00'
    )
"""
# Lets the migrations pass their guard, which keeps everybody else from tables they did not make.
_ADOPTING: Final = "SET LOCAL backfill.adopting = 'on'"
# Whether tables were adopted before decisions were recorded.
_ADOPTED_BEFORE: Final = "SELECT EXISTS (SELECT FROM symbols WHERE adopted_at IS NOT NULL)"
# The columns that the other system may not have had.
_COLUMNS_OF_BARS: Final = """
    ALTER TABLE ohlc_bars
        ADD COLUMN IF NOT EXISTS vwap double precision,
        ADD COLUMN IF NOT EXISTS trade_count bigint
"""
# Nothing of what was there says that a provider knows the symbol: a run has to find out.
_NOTE_SYMBOLS: Final = """
    UPDATE symbols
    SET adopted_at = now(),
        calendar = CASE asset_type::text
            WHEN 'crypto' THEN '24/7' WHEN 'fx' THEN 'FX' ELSE 'XNYS'
        END
    WHERE adopted_at IS NULL
    RETURNING id, ticker::text AS ticker, asset_type::text AS asset_type
"""
# Why nothing is fetched for some of them; by the primary key.
_SET_ASIDE_FOR: Final = """
    UPDATE symbols AS s
    SET set_aside = n.reason
    FROM unnest($1::symbol_id[], $2::text[]) AS n (symbol_id, reason)
    WHERE s.id = n.symbol_id
"""
# The symbols that are not fetched, and why; a scan of all symbols.
_SET_ASIDE: Final = """
    SELECT ticker, set_aside FROM symbols WHERE set_aside IS NOT NULL ORDER BY ticker
"""
# How many bars each series has, and since when; a scan of all bars, once.
_SERIES: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, count(*) AS bars, min(ts) AS oldest
    FROM ohlc_bars
    WHERE timeframe::text = ANY ($1::text[])
    GROUP BY symbol_id, timeframe
"""
# What is watched: our list, and what the other system lists beside it.
_WATCHED: Final = """
    CREATE OR REPLACE VIEW watched{security} AS
    SELECT symbol_id, timeframes, since, paused, priority, added_at
    FROM watchlist
    UNION ALL
    SELECT
        i.symbol_id, '{{{timeframes}}}'::text[]::timeframe[], NULL::text, false, 0, min(i.added_at)
    FROM watchlist_items AS i
    JOIN symbols AS s ON s.id = i.symbol_id
    WHERE s.set_aside IS NULL
        AND NOT EXISTS (SELECT FROM watchlist AS w WHERE w.symbol_id = i.symbol_id)
    GROUP BY i.symbol_id
"""
# The migrations give the role what their own tables take; these draw ids from sequences.
_GRANTS: Final = """
    DO $$
    DECLARE
        drawn regclass;
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
            RETURN;
        END IF;
        FOR drawn IN
            SELECT c.oid
            FROM pg_class AS c
            JOIN pg_depend AS d ON d.objid = c.oid AND d.deptype IN ('a', 'i')
            WHERE c.relkind = 'S' AND d.refobjid IN ('symbols'::regclass, 'ohlc_bars'::regclass)
        LOOP
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO backfill_runner', drawn);
        END LOOP;
    END
    $$
"""


class Decision(msgspec.Struct, frozen=True):
    """What was found before the first change, and what was asked for."""

    facts: Facts
    provider: str
    clean: bool


@dataclass(frozen=True, slots=True)
class Adoption:
    """What taking over the tables takes, and how to say it; no row is changed but in ``symbols``.

    ``values`` add labels to enums, each in a transaction of its own: Postgres lets nobody use a
    label before that. ``before`` and ``after`` go around the migrations, all in one transaction.
    """

    steps: tuple[str, ...]
    values: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """An adoption that was decided, and how far it is: the tables taken, rows off the grid moved.

    ``clean`` is whether those shall be.
    """

    adoption: Adoption
    taken: bool
    clean: bool


async def decide(connection: Connection, provider: str, *, clean: bool) -> Standing:
    """Decide about the tables that are there and note it, or go on with what was decided.

    Raises
    ------
    UsageError
        If there is nothing to adopt, or nothing left of it to do.
    SchemaMismatch
        If the tables hold what can't be kept right; nothing is changed.
    """
    await lock_schema(connection)
    here = await connection.fetchrow(_STANDING)
    if here["decided"] and (row := await connection.fetchrow(_DECIDED)) is not None:
        return _standing(row, clean=clean)
    if here["ours"]:
        if clean and await connection.fetchval(_ADOPTED_BEFORE):
            return Standing(Adoption((), (), (), ()), taken=True, clean=True)
        raise UsageError("the database is backfill's already", mend="backfill migrate")
    found = await facts(connection)
    if not found.has_tables:
        raise UsageError(
            "there are no tables symbols and ohlc_bars to adopt", mend="backfill migrate"
        )
    if (why := refusal(found)) is not None:
        raise SchemaMismatch(f"nothing was adopted or changed: {why}")
    if (why := await collision(connection)) is not None:
        raise SchemaMismatch(f"nothing was adopted or changed: {why}")
    if await connection.fetchval(_OUT_OF_TIME):
        raise SchemaMismatch(
            "nothing was adopted or changed: ohlc_bars holds stamps before the year 1 or after "
            "9999, such as infinity; delete those rows first"
        )
    decision = Decision(found, provider, clean)
    adoption = adoption_of(decision)
    await connection.execute(_RECORD)
    await connection.execute(_DECIDE, msgspec.json.encode(decision).decode())
    return Standing(adoption, taken=False, clean=clean)


def _standing(row: Any, *, clean: bool) -> Standing:
    decision = msgspec.json.decode(row["decision"], type=Decision)
    clean |= decision.clean
    if row["finished"] and (row["cleaned"] or not clean):
        raise UsageError(
            "the tables are adopted, and nothing is left to do"
            + ("" if row["cleaned"] else " but --clean")
        )
    return Standing(adoption_of(decision), row["taken"], clean)


def adoption_of(decision: Decision) -> Adoption:
    """Return what a decision takes: the same each time, however far it was carried out."""
    found = decision.facts
    bars, symbols = found.tables["ohlc_bars"].columns, found.tables["symbols"].columns
    timeframe, asset_type = found.timeframe, symbols["asset_type"]
    known, others = known_timeframes(found)
    parts = [
        _labels(timeframe, list(Timeframe)),
        _labels(asset_type, TRADED),
        _labels(bars.get("provider"), (decision.provider,)),
    ]
    steps = [f"add to the type {kind}: {', '.join(names)}" for kind, names, _ in parts if names]
    before, after = [], [_GRANTS, SHOW_RUNNER.format(table="watchlist_items")]
    if others:
        steps.append(f"leave as they are, and never touch, bars of {', '.join(others)}")
    if timeframe.type != "timeframe":
        # A domain won't do the other way round: Postgres compares no domain over an enum.
        steps.append(f"rename the type {timeframe.type} to timeframe, the old name a domain")
        before.append(f"ALTER TYPE {timeframe.type} RENAME TO timeframe")
        before.append(f"CREATE DOMAIN {timeframe.type} AS timeframe")
    if asset_type.labels and not found.has_cast:
        before.append(f"CREATE CAST (text AS {asset_type.type}) WITH INOUT AS ASSIGNMENT")
    added = [name for name in ("vwap", "trade_count") if name not in bars]
    if added:
        steps.append(f"add to ohlc_bars, empty: {', '.join(added)}")
        before.append(_COLUMNS_OF_BARS)
    steps.append(f"apply {len(migrations())} migrations: columns of symbols, tables of backfill")
    after += [
        f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"
        for name in ("symbols", "ohlc_bars")
        if not found.tables[name].secured
    ]
    if found.has_watchlist:
        watched = known or [str(Timeframe.d1)]
        steps.append(f"keep what watchlist_items lists, in {', '.join(watched)}")
        security = " WITH (security_invoker = true)" if found.server >= _INVOKER else ""
        after.append(_WATCHED.format(security=security, timeframes=",".join(watched)))
    return Adoption(
        tuple(steps),
        tuple(statement for _, _, statements in parts for statement in statements),
        tuple(before),
        tuple(after),
    )


async def adopt(database: Database, standing: Standing) -> list[str]:
    """Do what was decided, and return the names of the migrations that were applied."""
    if standing.taken:
        return []
    for statement in standing.adoption.values:

        async def add(connection: Connection, statement: str = statement) -> None:
            await connection.execute(statement)

        await database.run(add)

    async def take_over(connection: Connection) -> list[str]:
        await lock_schema(connection)
        if (await connection.fetchrow(_DECIDED))["taken"]:
            return []  # somebody else, who adopts at the same time, was quicker
        await connection.execute(_ADOPTING)
        for statement in standing.adoption.before:
            await connection.execute(statement)
        applied = await apply_pending(connection)
        await _note_symbols(connection)
        for statement in standing.adoption.after:
            await connection.execute(statement)
        await connection.execute(_TAKE)
        return applied

    return await database.run(take_over)


async def _note_symbols(connection: Connection) -> None:
    """Note which symbols were adopted, and why nothing is fetched for some of them."""
    reasons = {
        row["id"]: reason
        for row in await connection.fetch(_NOTE_SYMBOLS)
        if (reason := set_aside_for(row["ticker"], row["asset_type"])) is not None
    }
    await connection.execute(_SET_ASIDE_FOR, list(reasons), list(reasons.values()))


async def finish(connection: Connection, *, cleaned: bool) -> None:
    """Note that an adoption is done, and whether rows off the grid were moved."""
    if (await connection.fetchrow(_STANDING))["decided"]:
        await connection.execute(_FINISH, cleaned)


async def set_aside(connection: Connection) -> dict[str, str]:
    """Return why nothing is fetched for a symbol, by its ticker."""
    return {row["ticker"]: row["set_aside"] for row in await connection.fetch(_SET_ASIDE)}


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a series that were there: how many, and the start of the oldest."""

    series: Series
    bars: int
    oldest: datetime


async def found_series(connection: Connection) -> list[Found]:
    """Return the series that the table holds rows of, but for symbols that were set aside."""
    rows = await connection.fetch(_SERIES, list(map(str, Timeframe)))
    symbols = await by_ids(connection, list({row["symbol_id"] for row in rows}))
    return [
        Found(
            Series(symbols[row["symbol_id"]], Timeframe(row["timeframe"])),
            row["bars"],
            row["oldest"],
        )
        for row in rows
        if symbols[row["symbol_id"]].set_aside is None
    ]


def _labels(column: Column | None, wanted: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Return an enum's name, the labels it lacks, and the statements that add them in order."""
    if column is None or column.labels is None:
        return "", [], []
    lacking = [str(one) for one in wanted if one not in column.labels]
    return column.type, lacking, list(_added(column.type, column.labels, [*map(str, wanted)]))


def _added(kind: str, present: list[str], wanted: list[str]) -> Iterator[str]:
    for at, label in enumerate(wanted):
        if label in present:
            continue
        following = next((one for one in wanted[at + 1 :] if one in present), None)
        place = f" BEFORE '{following}'" if following else ""
        yield f"ALTER TYPE {kind} ADD VALUE IF NOT EXISTS '{label}'{place}"
