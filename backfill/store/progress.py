"""The progress ledger: what each series is covered for, and which run works on it."""

# Over 300 lines: all that locks progress rows stands here, so that the order of locks can be seen.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from backfill.core.coverage import Span, Spans
from backfill.core.empty import FOREVER_MS
from backfill.core.series import Progress, Series, Source, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.errors import LeaseLost
from backfill.store.empty import ask_again
from backfill.store.keys import key_of, keys_of
from backfill.store.pool import Connection, Database
from backfill.store.times import from_ranges, to_ms, to_range, to_text, to_time

LEASE_S: Final = 30
HEARTBEAT_S: Final = 10

# All series of a run in one round trip, by the primary key.
_LOAD: Final = """
    SELECT p.*, p.timeframe::text AS timeframe_name, p.derived_from::text AS derived_from_name,
        coalesce(b.coverage, '{}') AS base_coverage
    FROM backfill_progress AS p
    JOIN unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
        ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    LEFT JOIN backfill_progress AS b
        ON b.symbol_id = p.symbol_id AND b.timeframe = p.derived_from
        AND (b.provider, b.feed, b.adjustment) = (p.provider, p.feed, p.adjustment)
"""
# Rows for series never seen. One that holds bars already, of another system or put there by hand,
# is not counted yet.
_ADD_MISSING: Final = """
    INSERT INTO backfill_progress (symbol_id, timeframe, bars)
    SELECT k.symbol_id, k.timeframe::timeframe, CASE WHEN b.ts IS NULL THEN 0 END
    FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    LEFT JOIN LATERAL (
        SELECT ts
        FROM ohlc_bars
        WHERE symbol_id = k.symbol_id AND timeframe = k.timeframe::timeframe
        LIMIT 1
    ) AS b ON true
    WHERE NOT EXISTS (
        SELECT FROM backfill_progress AS p
        WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    )
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING
"""
# Rows are locked in key order, here as in every transaction that writes a page.
_LOCK: Final = (
    _LOAD
    + """
    ORDER BY p.symbol_id, p.timeframe
    FOR UPDATE OF p
"""
)
# With the series all that is rolled up from them, directly or not, in the same order. What is
# found on the way names its symbol by its place in the array: a recursive query refuses domains.
# Who holds these locks counts what it writes: that is said for the transaction, at no round trip.
_LOCK_WITH_DERIVED: Final = """
    WITH RECURSIVE found (place, timeframe) AS (
        SELECT place::integer, named::timeframe
        FROM unnest($2::text[]) WITH ORDINALITY AS n (named, place)
        UNION
        SELECT f.place, d.timeframe
        FROM found AS f
        JOIN backfill_progress AS d
            ON d.symbol_id = ($1::symbol_id[])[f.place] AND d.derived_from = f.timeframe
    )
    SELECT p.*, p.timeframe::text AS timeframe_name, p.derived_from::text AS derived_from_name,
        '{}'::tstzmultirange AS base_coverage, set_config('backfill.counted', 'yes', true)
    FROM backfill_progress AS p
    WHERE (p.symbol_id, p.timeframe) IN (
        SELECT ($1::symbol_id[])[place], timeframe FROM found
    )
    ORDER BY p.symbol_id, p.timeframe
    FOR UPDATE OF p
"""
# The leases of series are a run's from now on; by the primary key.
_CLAIM: Final = """
    UPDATE backfill_progress
    SET claimed_by = $3, claimed_until = now() + make_interval(secs => $4)
    WHERE (symbol_id, timeframe) IN (
        SELECT symbol_id, timeframe::timeframe
        FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    )
"""
# Runs that died, told by their leases; by the primary key.
_INTERRUPT: Final = """
    UPDATE backfill_runs
    SET status = 'interrupted', finished_at = now(), error = 'the run died; another took its series'
    WHERE run_id = ANY ($1::uuid[]) AND status = 'running'
"""
# An UPDATE alone locks rows in the order of the heap, and meets a page's write in a deadlock. The
# run itself lives on for as long, whatever it holds; its row comes after them as where they are
# taken over.
_RENEW: Final = """
    WITH mine AS MATERIALIZED (
        SELECT symbol_id, timeframe
        FROM backfill_progress
        WHERE claimed_by = $1
        ORDER BY symbol_id, timeframe
        FOR UPDATE
    ),
    alive AS (
        UPDATE backfill_runs
        SET alive_until = now() + make_interval(secs => $2)
        WHERE run_id = $1 AND (SELECT count(*) FROM mine) >= 0
    )
    UPDATE backfill_progress AS p
    SET claimed_until = now() + make_interval(secs => $2)
    FROM mine
    WHERE p.symbol_id = mine.symbol_id AND p.timeframe = mine.timeframe
"""
# A run's leases, or those of some series, are given up; by a scan of the progress rows.
_RELEASE: Final = """
    WITH mine AS MATERIALIZED (
        SELECT symbol_id, timeframe
        FROM backfill_progress
        WHERE claimed_by = $1 AND (
            $2::symbol_id[] IS NULL
            OR (symbol_id, timeframe) IN (
                SELECT symbol_id, timeframe::timeframe
                FROM unnest($2::symbol_id[], $3::text[]) AS k (symbol_id, timeframe)
            )
        )
        ORDER BY symbol_id, timeframe
        FOR UPDATE
    )
    UPDATE backfill_progress AS p
    SET claimed_by = NULL, claimed_until = NULL
    FROM mine
    WHERE p.symbol_id = mine.symbol_id AND p.timeframe = mine.timeframe
"""
# How deep series are wanted, if that is deeper than before; by the primary key.
_WANT: Final = """
    UPDATE backfill_progress AS p
    SET wanted_from = least(p.wanted_from, k.wanted_from)
    FROM unnest($1::symbol_id[], $2::text[], $3::timestamptz[]) AS k (
        symbol_id, timeframe, wanted_from
    )
    WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
        AND p.wanted_from IS DISTINCT FROM least(p.wanted_from, k.wanted_from)
"""
# A range of a series is to be asked for again; by the primary key.
_INVALIDATE: Final = """
    UPDATE backfill_progress
    SET invalidated = invalidated + $3::text::tstzmultirange,
        coverage = coverage - $3::text::tstzmultirange
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""
# What is rolled up from bars that are asked for again has to be rolled up again.
_UNCOVER_DERIVED: Final = """
    UPDATE backfill_progress AS p
    SET coverage = p.coverage - $3::text::tstzmultirange
    FROM backfill_progress AS b
    WHERE b.symbol_id = $1 AND b.timeframe = $2::text::timeframe
        AND p.symbol_id = b.symbol_id AND p.derived_from = b.timeframe
        AND (p.provider, p.feed, p.adjustment) = (b.provider, b.feed, b.adjustment)
        AND p.coverage && $3::text::tstzmultirange
"""
# All series that a page feeds in one statement.
_ADVANCE: Final = """
    UPDATE backfill_progress AS p
    SET provider = n.provider,
        feed = n.feed,
        adjustment = n.adjustment,
        derived_from = n.derived_from::timeframe,
        loaded_at = CASE WHEN p.provider IS NULL THEN $11 ELSE p.loaded_at END,
        coverage = p.coverage + n.claims::tstzmultirange,
        invalidated = p.invalidated - n.claims::tstzmultirange,
        provisional = p.provisional - n.claims::tstzmultirange + n.provisional::tstzmultirange,
        oldest_bar = least(p.oldest_bar, n.oldest_bar),
        newest_bar = greatest(p.newest_bar, n.newest_bar),
        bars = p.bars + n.bars,
        claimed_until = CASE
            WHEN p.claimed_by = $12 THEN now() + make_interval(secs => $13) ELSE p.claimed_until
        END,
        last_updated = now()
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::timestamptz[], $10::timestamptz[], $14::bigint[]
    ) AS n (
        symbol_id, timeframe, provider, feed, adjustment, derived_from, claims, provisional,
        oldest_bar, newest_bar, bars
    )
    WHERE p.symbol_id = n.symbol_id AND p.timeframe = n.timeframe::timeframe
"""
# What no longer follows from its base is to be rolled up or fetched again.
_UNCOVER: Final = """
    UPDATE backfill_progress AS p
    SET coverage = p.coverage - k.spans::tstzmultirange
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS k (symbol_id, timeframe, spans)
    WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
"""
# The plan refuses a range of a series for some time; by the primary key.
_DENY: Final = """
    UPDATE backfill_progress
    SET denied_range = $3, denied_until = $4, last_updated = now()
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""


Known: TypeAlias = dict[tuple[SymbolId, Timeframe], Progress]
"""The progress of series by their key; one that was never seen is missing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Another run's hold on a series: who holds it, and until when."""

    claimed_by: UUID
    claimed_until: datetime


async def load_progress(
    connection: Connection, series: Sequence[Series], reopen_at: datetime | None = None
) -> Known:
    """Return what is known of each series; one that was never seen is missing from the result.

    Slots that were known to be empty until ``reopen_at`` or earlier count as expired; without it
    nothing is told of what may be asked for again. An absent session after the newest bar counts as
    unconfirmed, too: the provider may be late with it.
    """
    known = {_key(row): _progress(row) for row in await connection.fetch(_LOAD, *keys_of(series))}
    if reopen_at is not None:
        for key, again in (await ask_again(connection, series, reopen_at)).items():
            if key in known:
                newest_ms = known[key].newest_bar_ms
                tail = Spans.of((-FOREVER_MS if newest_ms is None else newest_ms, FOREVER_MS))
                known[key] = replace(
                    known[key],
                    expired=again.expired,
                    unconfirmed=again.unconfirmed | (again.absent & tail),
                    askable=again.askable,
                    held=again.held,
                    answered=again.answered,
                )
    return known


async def claim(connection: Connection, series: list[Series], run_id: UUID) -> Lease | None:
    """Lease series for a run, all or none.

    Rows that are missing are added. A lease that has expired is taken over, and the run that held
    it is marked as interrupted. Returns the lease that stands in the way, if one does.
    """
    live, dead = await _others(connection, series, run_id)
    if live:
        return next(iter(live.values()))
    await _take(connection, series, run_id, dead)
    return None


async def claim_free(connection: Connection, series: list[Series], run_id: UUID) -> list[Series]:
    """Lease those of the series that no other run holds, as `claim` does, and return them."""
    live, dead = await _others(connection, series, run_id)
    free = [one for one in series if one.key not in live]
    await _take(connection, free, run_id, dead)
    return free


async def _others(
    connection: Connection, series: list[Series], run_id: UUID
) -> tuple[dict[tuple[SymbolId, Timeframe], Lease], set[UUID]]:
    """Lock series; return the leases of other runs, and which runs' leases have expired."""
    keys = keys_of(series)
    await connection.execute(_ADD_MISSING, *keys)
    rows = await connection.fetch(_LOCK, *keys)
    now = await connection.fetchval("SELECT now()")
    held = [row for row in rows if row["claimed_by"] not in {None, run_id}]
    live = {
        _key(row): Lease(row["claimed_by"], row["claimed_until"])
        for row in held
        if row["claimed_until"] > now
    }
    return live, {row["claimed_by"] for row in held if row["claimed_until"] <= now}


async def _take(
    connection: Connection, series: list[Series], run_id: UUID, dead: set[UUID]
) -> None:
    if dead:
        await connection.execute(_INTERRUPT, list(dead))
    await connection.execute(_CLAIM, *keys_of(series), run_id, LEASE_S)


async def lock_progress(connection: Connection, series: list[Series], run_id: UUID) -> Known:
    """Lock series that a run has leased, until the transaction ends, and return their progress.

    What is rolled up from them is locked with them, whoever has leased it, and in the result.

    Raises
    ------
    LeaseLost
        If another run has taken one of them over.
    """
    rows = await connection.fetch(_LOCK_WITH_DERIVED, *keys_of(series))
    mine = {_key(row) for row in rows if row["claimed_by"] == run_id}
    if not mine.issuperset(one.key for one in series):
        raise LeaseLost("another run has taken the series over")
    return {_key(row): _progress(row) for row in rows}


async def renew(database: Database, run_id: UUID) -> None:
    """Extend every lease of a run, and the time that it is known to live, by the full term."""

    async def work(connection: Connection) -> None:
        await connection.execute(_RENEW, run_id, LEASE_S)

    await database.run(work)


async def release(connection: Connection, run_id: UUID, series: list[Series] | None = None) -> None:
    """Give up a run's leases: those of some series, or all."""
    keys = keys_of(series) if series is not None else (None, None)
    await connection.execute(_RELEASE, run_id, *keys)


async def want_from(connection: Connection, wants: Mapping[Series, int]) -> None:
    """Note since when series are wanted, in epoch ms, where that is deeper than noted before."""
    starts = [to_time(start_ms) for start_ms in wants.values()]
    await connection.execute(_WANT, *keys_of(wants), starts)


async def invalidate(connection: Connection, series: Series, spans: Spans) -> None:
    """Take spans out of a series' coverage, to be fetched again by this run or a later one.

    They leave the coverage of what is derived from it too, to be rolled up again.
    """
    await connection.execute(_ADD_MISSING, *keys_of([series]))
    await connection.execute(_INVALIDATE, *key_of(series), to_text(spans))
    await uncover_derived(connection, series, spans)


async def uncover_derived(connection: Connection, series: Series, spans: Spans) -> None:
    """Take spans out of the coverage of what is rolled up from a series, to be made again."""
    await connection.execute(_UNCOVER_DERIVED, *key_of(series), to_text(spans))


@dataclass(frozen=True, slots=True)
class Advance:
    """What a page adds to the progress of a series: its source, its claims, its outermost bars.

    ``provisional`` is the part of the claims whose day isn't final yet, ``bars`` how many more rows
    the table holds by the page.
    """

    series: Series
    source: Source
    claims: Spans
    provisional: Spans
    oldest_bar_ms: int | None
    newest_bar_ms: int | None
    bars: int


async def advance(
    connection: Connection, run_id: UUID, advances: Sequence[Advance], now: datetime
) -> None:
    """Add what a page proves to the progress of its series, and renew the run's leases of them.

    ``now`` is the run's clock; a series' first page is noted by it.
    """
    sources = [one.source for one in advances]
    await connection.execute(
        _ADVANCE,
        *keys_of(one.series for one in advances),
        [source.provider for source in sources],
        [source.feed for source in sources],
        [source.adjustment for source in sources],
        [str(source.derived_from) if source.derived_from else None for source in sources],
        [to_text(one.claims) for one in advances],
        [to_text(one.provisional) for one in advances],
        [_time(one.oldest_bar_ms) for one in advances],
        [_time(one.newest_bar_ms) for one in advances],
        now,
        run_id,
        LEASE_S,
        [one.bars for one in advances],
    )


async def uncover(connection: Connection, spans: Mapping[Series, Spans]) -> None:
    """Take spans out of the coverage of series that are derived, so that they are made again."""
    texts = [to_text(each) for each in spans.values()]
    await connection.execute(_UNCOVER, *keys_of(spans), texts)


async def deny(connection: Connection, series: Series, span: Span, until: datetime) -> None:
    """Note a range that the plan refuses, and until when it isn't asked for again."""
    await connection.execute(_DENY, *key_of(series), to_range(span), until)


def _key(row: Mapping[str, Any]) -> tuple[SymbolId, Timeframe]:
    return row["symbol_id"], Timeframe(row["timeframe_name"])


def _progress(row: Mapping[str, Any]) -> Progress:
    denied = row["denied_range"]
    return Progress(
        source=_source(row),
        coverage=from_ranges(row["coverage"]),
        invalidated=from_ranges(row["invalidated"]),
        provisional=from_ranges(row["provisional"]),
        base_coverage=from_ranges(row["base_coverage"]),
        wanted_from_ms=_ms(row["wanted_from"]),
        oldest_bar_ms=_ms(row["oldest_bar"]),
        newest_bar_ms=_ms(row["newest_bar"]),
        denied=Span(to_ms(denied.lower), to_ms(denied.upper)) if denied else None,
        denied_until_ms=_ms(row["denied_until"]),
    )


def _source(row: Mapping[str, Any]) -> Source | None:
    if row["provider"] is None:
        return None
    derived = row["derived_from_name"]
    return Source(
        row["provider"],
        row["feed"],
        row["adjustment"],
        Timeframe(derived) if derived else None,
    )


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else to_time(ms)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)
