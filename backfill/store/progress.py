"""The progress ledger: what each series is covered for, and which run works on it."""

# Over 300 lines: all that locks progress rows stands here, so that the order of locks can be seen.

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import FOREVER_MS
from backfill.core.series import Progress, Series, Source, Symbol, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.errors import LeaseLost
from backfill.store.empty import AskAgain, asking_again, read_again
from backfill.store.keys import key_of, keys_of, keys_of_symbols, told_key
from backfill.store.pool import Connection, Database
from backfill.store.quote import Quoted, bound
from backfill.store.session import Asks
from backfill.store.times import (
    bounds_of,
    from_bounds,
    to_ms,
    to_range,
    to_text,
    to_time,
    told_time,
)
from backfill.store.universe import naming, read_named

LEASE_S: Final = 30
HEARTBEAT_S: Final = 10

# What the ledger says of series, in JSON's own types.
_ROWS: Final = f"""
    SELECT p.symbol_id, p.timeframe::text AS timeframe, p.provider, p.feed, p.adjustment,
        p.derived_from::text AS derived_from, p.wanted_from, p.oldest_bar, p.newest_bar,
        {bounds_of("p.coverage")} AS coverage,
        {bounds_of("p.invalidated")} AS invalidated,
        {bounds_of("p.provisional")} AS provisional,
        lower(p.denied_range) AS denied_first, upper(p.denied_range) AS denied_last,
        p.denied_until, p.claimed_by, p.claimed_until, p.claimed_until > now() AS is_leased
"""
_AND_ITS_BASE: Final = f", {bounds_of('b.coverage')} AS base_coverage"
# All series of a run, each with what its base is covered for, by the primary key.
_LOAD: Final = (
    _ROWS
    + _AND_ITS_BASE
    + """
    FROM backfill_progress AS p
    JOIN unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
        ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    LEFT JOIN backfill_progress AS b
        ON b.symbol_id = p.symbol_id AND b.timeframe = p.derived_from
        AND (b.provider, b.feed, b.adjustment) = (p.provider, p.feed, p.adjustment)
"""
)
# Rows for series never seen. One that holds bars already, of another system or put there by hand,
# is not counted yet: it has a first one, in the order of the primary key. Of any one the planner
# believes that it finds it soon, and reads the whole table where there is none.
_ADD_MISSING: Final = """
    INSERT INTO backfill_progress (symbol_id, timeframe, bars)
    SELECT k.symbol_id, k.timeframe::timeframe, CASE WHEN b.ts IS NULL THEN 0 END
    FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    LEFT JOIN LATERAL (
        SELECT ts
        FROM ohlc_bars
        WHERE symbol_id = k.symbol_id AND timeframe = k.timeframe::timeframe
        ORDER BY ts
        LIMIT 1
    ) AS b ON true
    WHERE NOT EXISTS (
        SELECT FROM backfill_progress AS p
        WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    )
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING
"""
# Rows are locked in key order, here as in every transaction that writes a page. What is read by
# statements after this one is what the last writer has left.
_LOCK: Final = """
    SELECT
    FROM backfill_progress AS p
    JOIN unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
        ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    ORDER BY p.symbol_id, p.timeframe
    FOR UPDATE OF p
"""
# Series with all that is rolled up from them, directly or not. What is found on the way names its
# symbol by its place in the array: a recursive query refuses domains.
_FOUND: Final = """
    WITH RECURSIVE found (place, timeframe) AS (
        SELECT place::integer, named::timeframe
        FROM unnest($2::text[]) WITH ORDINALITY AS n (named, place)
        UNION
        SELECT f.place, d.timeframe
        FROM found AS f
        JOIN backfill_progress AS d
            ON d.symbol_id = ($1::symbol_id[])[f.place] AND d.derived_from = f.timeframe
    )
"""
_OF_FOUND: Final = """
    FROM backfill_progress AS p
    WHERE (p.symbol_id, p.timeframe) IN (
        SELECT ($1::symbol_id[])[place], timeframe FROM found
    )
"""
# Locks all of those, in the order of keys.
_LOCK_WITH_DERIVED: Final = (
    f"{_FOUND} SELECT {_OF_FOUND} ORDER BY p.symbol_id, p.timeframe FOR UPDATE OF p"
)
# What the ledger says of all of those.
_LOAD_WITH_DERIVED: Final = f"{_FOUND} {_ROWS} {_OF_FOUND}"
# Who holds these locks counts what it writes (the trigger `backfill_uncounted`).
_COUNTED: Final = "SET LOCAL backfill.counted = 'yes'"
# The leases of series that are locked are a run's from now on, but for those that others hold:
# none at all then, where all are asked for. Runs that died are told by their leases. By the primary
# keys.
_CLAIM: Final = """
    WITH asked AS MATERIALIZED (
        SELECT
            p.symbol_id,
            p.timeframe,
            p.claimed_by,
            coalesce(p.claimed_by <> $3 AND p.claimed_until > now(), false) AS is_held
        FROM backfill_progress AS p
        JOIN unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
            ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    ),
    free AS MATERIALIZED (
        SELECT *
        FROM asked
        WHERE NOT is_held AND NOT ($5 AND EXISTS (SELECT FROM asked AS a WHERE a.is_held))
    ),
    dead AS (
        UPDATE backfill_runs
        SET status = 'interrupted', finished_at = now(),
            error = 'the run died; another took its series'
        WHERE status = 'running' AND run_id <> $3 AND run_id IN (SELECT claimed_by FROM free)
    )
    UPDATE backfill_progress AS p
    SET claimed_by = $3, claimed_until = now() + make_interval(secs => $4)
    FROM free AS f
    WHERE p.symbol_id = f.symbol_id AND p.timeframe = f.timeframe
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
# A run's leases, or those of some series, are given up; by the index on whose they are.
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
        answered_at = $11,
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
    SET denied_range = $3::tstzrange, denied_until = $4, last_updated = now()
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
    asks: Asks, series: Sequence[Series], reopen_at: datetime | None = None
) -> Known:
    """Return what is known of each series; one that was never seen is missing from the result.

    Slots that were known to be empty until ``reopen_at`` or earlier count as expired; without it
    nothing is told of what may be asked for again. An absent session after the newest bar counts as
    unconfirmed, too: the provider may be late with it.
    """
    if reopen_at is None:
        (rows,) = await asks.ask(loading(series))
        return read_progress(rows)
    rows, empty = await asks.ask(loading(series), asking_again(series, reopen_at))
    return read_progress(rows, read_again(empty, reopen_at))


async def load_with_symbols(
    connection: Connection, series: Sequence[Series], reopen_at: datetime | None
) -> tuple[Known, dict[SymbolId, Symbol]]:
    """Return what is known of series, as `load_progress` does, and of their symbols."""
    rows, symbols, empty = await connection.ask(
        loading(series),
        naming({one.symbol.id: None for one in series}),
        asking_again(series if reopen_at else (), reopen_at or to_time(0)),
    )
    again = read_again(empty, reopen_at) if reopen_at else {}
    return read_progress(rows, again), read_named(symbols)


def loading(series: Iterable[Series]) -> str:
    """Return the query for what is known of series; `read_progress` reads its rows."""
    return bound(_LOAD, *keys_of(series))


def loading_of(symbols: Quoted) -> str:
    """Return the query for what is known of all series of symbols, whose ids a query tells."""
    return bound(_LOAD, *keys_of_symbols(symbols))


def read_progress(
    rows: Iterable[Mapping[str, Any]],
    again: Mapping[tuple[SymbolId, Timeframe], AskAgain] | None = None,
) -> Known:
    """Return what rows of the ledger say, and what may be asked again of their series."""
    known = {told_key(row): _progress(row) for row in rows}
    for key, found in (again or {}).items():
        if key in known:
            newest_ms = known[key].newest_bar_ms
            tail = Spans.of((-FOREVER_MS if newest_ms is None else newest_ms, FOREVER_MS))
            known[key] = replace(
                known[key],
                expired=found.expired,
                unconfirmed=found.unconfirmed | (found.absent & tail),
                askable=found.askable,
                held=found.held,
                answered=found.answered,
            )
    return known


async def claim(connection: Connection, series: list[Series], run_id: UUID) -> Lease | None:
    """Lease series for a run, all or none.

    Rows that are missing are added. A lease that has expired is taken over, and the run that held
    it is marked as interrupted. Returns the lease that stands in the way, if one does.
    """
    others = await _claim(connection, series, run_id, all_or_none=True)
    return next(iter(others.values()), None)


async def claim_free(connection: Connection, series: list[Series], run_id: UUID) -> list[Series]:
    """Lease those of the series that no other run holds, as `claim` does, and return them."""
    others = await _claim(connection, series, run_id, all_or_none=False)
    return [one for one in series if one.key not in others]


async def _claim(
    connection: Connection, series: list[Series], run_id: UUID, *, all_or_none: bool
) -> dict[tuple[SymbolId, Timeframe], Lease]:
    """Lease series as far as others don't hold them; return the leases of those."""
    keys = keys_of(series)
    connection.later(_ADD_MISSING, *keys)
    connection.later(_LOCK, *keys)
    connection.later(_CLAIM, *keys, run_id, LEASE_S, all_or_none)
    (rows,) = await connection.ask(loading(series))
    leases = {told_key(row): _lease(row) for row in rows if row["is_leased"]}
    return {key: one for key, one in leases.items() if one.claimed_by != run_id}


async def lock_progress(connection: Connection, series: list[Series], run_id: UUID) -> Known:
    """Lock series that a run has leased, until the transaction ends, and return their progress.

    What is rolled up from them is locked with them, whoever has leased it, and in the result.

    Raises
    ------
    LeaseLost
        If another run has taken one of them over.
    """
    (rows,) = await connection.ask(locking(connection, series))
    return read_locked(rows, series, run_id)


def count_ourselves(connection: Connection) -> None:
    """Tell in a transaction that its bars are counted where series are locked, later in it."""
    connection.later(_COUNTED)


def locking(connection: Connection, series: Sequence[Series]) -> str:
    """Put the locks of `lock_progress` off; return the query whose rows `read_locked` reads."""
    keys = keys_of(series)
    connection.later(_COUNTED)
    connection.later(_LOCK_WITH_DERIVED, *keys)
    return bound(_LOAD_WITH_DERIVED, *keys)


def read_locked(rows: Sequence[Mapping[str, Any]], series: Iterable[Series], run_id: UUID) -> Known:
    """Return what is known of series that are locked now, and of what is rolled up from them.

    Raises
    ------
    LeaseLost
        If another run has taken one of the series over.
    """
    mine = {told_key(row) for row in rows if row["claimed_by"] == str(run_id)}
    if not mine.issuperset(one.key for one in series):
        raise LeaseLost("another run has taken the series over")
    return read_progress(rows)


async def renew(database: Database, run_id: UUID) -> None:
    """Extend every lease of a run, and the time that it is known to live, by the full term."""

    async def work(connection: Connection) -> None:
        connection.later(_RENEW, run_id, LEASE_S)

    await database.run(work)


async def release(connection: Connection, run_id: UUID, series: list[Series] | None = None) -> None:
    """Give up a run's leases: those of some series, or all."""
    keys = keys_of(series) if series is not None else (None, None)
    connection.later(_RELEASE, run_id, *keys)


async def want_from(connection: Connection, wants: Mapping[Series, int]) -> None:
    """Note since when series are wanted, in epoch ms, where that is deeper than noted before."""
    starts = [to_time(start_ms) for start_ms in wants.values()]
    connection.later(_WANT, *keys_of(wants), starts)


async def invalidate(connection: Connection, series: Series, spans: Spans) -> None:
    """Take spans out of a series' coverage, to be fetched again by this run or a later one.

    They leave the coverage of what is derived from it too, to be rolled up again.
    """
    key, text = key_of(series), to_text(spans)
    connection.later(_ADD_MISSING, *keys_of([series]))
    connection.later(_INVALIDATE, *key, text)
    connection.later(_UNCOVER_DERIVED, *key, text)


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

    ``now`` is the run's clock, by which a series' first page and its latest are noted.
    """
    sources = [one.source for one in advances]
    connection.later(
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
    connection.later(_UNCOVER, *keys_of(spans), texts)


async def deny(connection: Connection, series: Series, span: Span, until: datetime) -> None:
    """Note a range that the plan refuses, and until when it isn't asked for again."""
    connection.later(_DENY, *key_of(series), to_range(span), until)


def _lease(row: Mapping[str, Any]) -> Lease:
    return Lease(UUID(row["claimed_by"]), datetime.fromisoformat(row["claimed_until"]))


def _progress(row: Mapping[str, Any]) -> Progress:
    denied_from, denied_to = _ms(row["denied_first"]), _ms(row["denied_last"])
    denied = None if denied_from is None or denied_to is None else Span(denied_from, denied_to)
    return Progress(
        source=_source(row),
        coverage=from_bounds(row["coverage"]),
        invalidated=from_bounds(row["invalidated"]),
        provisional=from_bounds(row["provisional"]),
        base_coverage=from_bounds(row.get("base_coverage")),
        wanted_from_ms=_ms(row["wanted_from"]),
        oldest_bar_ms=_ms(row["oldest_bar"]),
        newest_bar_ms=_ms(row["newest_bar"]),
        denied=denied,
        denied_until_ms=_ms(row["denied_until"]),
    )


def _source(row: Mapping[str, Any]) -> Source | None:
    if row["provider"] is None:
        return None
    derived = row["derived_from"]
    return Source(
        row["provider"],
        row["feed"],
        row["adjustment"],
        Timeframe(derived) if derived else None,
    )


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else to_time(ms)


def _ms(told: str | None) -> int | None:
    at = told_time(told)
    return None if at is None else to_ms(at)
