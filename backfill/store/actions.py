"""Corporate actions: splits, dividends, when they were asked for, and what a split outdates."""

# Over 300 lines: a third is SQL, and the listing, the judging and what follows from it share their
# rows.

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any, Final, TypeAlias
from uuid import UUID

from backfill.core.coverage import Span, Spans
from backfill.core.plain import storable
from backfill.core.series import Series, SymbolId
from backfill.core.splits import NEW, Claim, Listed, Status, Verdict, basis_ends, judge, owner_of
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Dividend, Split
from backfill.store import progress, universe
from backfill.store.basis import outdate
from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.times import day_of, told_day, told_time

# The first to come takes the session, and whoever comes after it has died.
_CLAIM: Final = """
    INSERT INTO action_syncs AS a (provider, kind, session, claimed_by)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (provider, kind) DO UPDATE
    SET session = greatest(a.session, excluded.session), claimed_by = excluded.claimed_by
    WHERE a.session < excluded.session OR (
        a.claimed_by IS NOT NULL AND NOT EXISTS (
            SELECT FROM backfill_runs AS r
            WHERE r.run_id = a.claimed_by AND r.status = 'running' AND r.alive_until > now()
        )
    )
    RETURNING listed_since, next_from, synced_at
"""
# Until when a run is known to live that reads a session; no row where it has been read.
_READING: Final = """
    SELECT r.alive_until
    FROM action_syncs AS a
    JOIN backfill_runs AS r
        ON r.run_id = a.claimed_by AND r.status = 'running' AND r.alive_until > now()
    WHERE a.provider = $1 AND a.kind = $2 AND a.session >= $3
"""
# A session that was taken and not read to its end is free again; by the primary key.
_GIVE_BACK: Final = """
    UPDATE action_syncs
    SET session = session - 1, claimed_by = NULL
    WHERE provider = $1 AND kind = $2
"""
# As much of a list has been read as will be in this session; by the primary key.
_LEAVE: Final = """
    UPDATE action_syncs SET claimed_by = NULL WHERE provider = $1 AND kind = $2 AND claimed_by = $3
"""
# How far a listing has come, and whether that was its end; by the primary key.
_NOTE: Final = """
    UPDATE action_syncs
    SET listed_since = $3, next_from = $4, synced_at = $5,
        claimed_by = CASE WHEN NOT $6 THEN claimed_by END
    WHERE provider = $1 AND kind = $2
"""
# What is listed again as it was is not written again; another factor is another split.
_KEEP_SPLITS: Final = """
    INSERT INTO splits AS s (ticker, execution_date, split_from, split_to, first_seen_at)
    SELECT *, $5
    FROM unnest($1::text[], $2::date[], $3::double precision[], $4::double precision[])
    ON CONFLICT (ticker, execution_date) DO UPDATE
    SET split_from = excluded.split_from, split_to = excluded.split_to,
        first_seen_at = excluded.first_seen_at, status = 'announced', tested = false
    WHERE NOT s.manual
        AND s.split_to / s.split_from <> excluded.split_to / excluded.split_from
"""
# What a whole listing no longer names was corrected or called off, whatever was held of it; but
# what somebody set by hand stays.
_DROP_SPLITS: Final = """
    DELETE FROM splits
    WHERE execution_date >= $1 AND NOT manual
        AND (ticker, execution_date) NOT IN (SELECT * FROM unnest($2::text[], $3::date[]))
    RETURNING ticker, execution_date
"""
# A page of dividends, each as it is listed now and seen then; by the primary key.
_KEEP_DIVIDENDS: Final = """
    INSERT INTO dividends (
        ticker, ex_dividend_date, cash_amount, dividend_type, currency, pay_date, seen_at
    )
    SELECT DISTINCT ON (1, 2, 3, 4) *, $7::timestamptz
    FROM unnest(
        $1::text[], $2::date[], $3::double precision[], $4::text[], $5::text[], $6::date[]
    )
    ON CONFLICT (ticker, ex_dividend_date, dividend_type, cash_amount) DO UPDATE
    SET currency = excluded.currency, pay_date = excluded.pay_date, seen_at = excluded.seen_at
"""
# What a whole listing did not name again; by the index on the day.
_DROP_DIVIDENDS: Final = """
    DELETE FROM dividends WHERE ex_dividend_date >= $1 AND seen_at < $2
"""
# Every split listed under a name of a plain symbol that is kept, for each such symbol, with the raw
# daily closes around it, its own or another venue's; a step of the primary key for each. Of a name
# that the symbol had on another day only splits within its life count; whose one set by hand is was
# told with it.
_CLAIMING: Final = """
    SELECT DISTINCT ON (s.id, x.ticker, x.execution_date)
        s.id AS symbol_id, x.ticker, x.execution_date, x.split_from, x.split_to, x.status,
        x.tested, x.manual, x.symbol_id AS owner,
        x.execution_date >= n.valid_from AND x.execution_date < n.valid_until AS named,
        before.close::double precision AS before, after.close::double precision AS after
    FROM splits AS x
    JOIN symbol_names AS n ON n.ticker = x.ticker
    JOIN symbols AS s ON s.id = n.symbol_id
    LEFT JOIN LATERAL (
        SELECT p.symbol_id
        FROM (
            SELECT s.id, 0 AS place
            UNION ALL
            SELECT v.id, 1 FROM symbols AS v WHERE v.listing_of = s.id
        ) AS h
        JOIN backfill_progress AS p
            ON p.symbol_id = h.id AND p.timeframe = 'd1' AND p.adjustment = 'raw'
        ORDER BY p.newest_bar IS NULL, h.place, h.id
        LIMIT 1
    ) AS p ON true
    LEFT JOIN LATERAL (
        SELECT close
        FROM ohlc_bars
        WHERE symbol_id = p.symbol_id AND timeframe = 'd1'
            AND ts < backfill_midnight(x.execution_date, s.calendar)
            AND ts >= backfill_midnight(x.execution_date - 10, s.calendar)
        ORDER BY ts DESC
        LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
        SELECT close
        FROM ohlc_bars
        WHERE symbol_id = p.symbol_id AND timeframe = 'd1'
            AND ts >= backfill_midnight(x.execution_date, s.calendar)
            AND ts < backfill_midnight(x.execution_date + 10, s.calendar)
        ORDER BY ts
        LIMIT 1
    ) AS after ON true
    WHERE s.listing_of IS NULL{of_some}
        AND (NOT x.manual OR x.symbol_id = s.id)
        AND (
            x.execution_date >= n.valid_from AND x.execution_date < n.valid_until
            OR x.execution_date >= coalesce(s.listed_on, '-infinity')
        )
    ORDER BY s.id, x.ticker, x.execution_date, named DESC
"""
_CLAIMED: Final = _CLAIMING.format(of_some="")
# The same, of some symbols.
_CLAIMED_BY: Final = _CLAIMING.format(
    of_some="""
        AND s.id = ANY ($1::symbol_id[]) AND n.symbol_id = ANY ($1::symbol_id[])"""
)
# Whoever goes, or went, by a name of some symbols, with that name.
_NAMESAKES: Final = """
    SELECT n.symbol_id, n.ticker
    FROM symbol_names AS n
    WHERE n.ticker IN (
        SELECT o.ticker FROM symbol_names AS o WHERE o.symbol_id = ANY ($1::symbol_id[])
    )
"""
# Whether a split applies, and whose it is; by the primary key.
_DECIDE: Final = """
    UPDATE splits
    SET status = $3, tested = $4, symbol_id = $5
    WHERE ticker = $1 AND execution_date = $2
"""
# A provider's adjusted series that were begun before a split took effect there, for each split that
# did so between two listings. One that was not in the listing before took effect by now; one
# that was dropped had taken effect if its day was past. One that is listed under a name of another
# day may be the series', which costs a reload at most.
_OUTDATED: Final = """
    SELECT s.ticker, p.timeframe::text AS timeframe, max(x.execution_date) AS execution_date
    FROM (
        SELECT ticker, execution_date, first_seen_at, false AS dropped FROM splits
        UNION ALL
        SELECT ticker, execution_date, NULL, true
        FROM unnest($3::text[], $4::date[]) AS d (ticker, execution_date)
    ) AS x
    JOIN symbol_names AS n ON n.ticker = x.ticker
    JOIN symbols AS s
        ON s.id = n.symbol_id AND s.retired_on IS NULL
        AND x.execution_date >= coalesce(s.listed_on, '-infinity')
    JOIN backfill_progress AS p
        ON p.symbol_id = s.id AND p.adjustment = 'split' AND p.provider = $5
    LEFT JOIN backfill_progress AS b ON b.symbol_id = p.symbol_id AND b.timeframe = p.derived_from
    CROSS JOIN LATERAL (
        SELECT greatest(
            backfill_midnight(x.execution_date, s.calendar),
            CASE WHEN $1::timestamptz IS NOT NULL THEN x.first_seen_at END
        ) AS at
    ) AS effective
    WHERE effective.at <= $2 AND (
        x.dropped
        OR effective.at > coalesce($1::timestamptz, '-infinity')
            AND coalesce(least(p.loaded_at, b.loaded_at), '-infinity') < effective.at
    )
    GROUP BY s.id, s.ticker, p.timeframe
    ORDER BY s.id, p.timeframe
"""


ActionKey: TypeAlias = tuple[str, date]
"""What a split is known by: its ticker and its execution date."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How far a kind of action is listed: from which day on, and from where it goes on.

    ``synced_at`` is the run's clock when a listing last came to its end; None if none did.
    """

    listed_since: date | None
    next_from: date | None
    synced_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """A list that a run is reading, which is known to live ``until`` then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Outdated:
    """A series that a split has put on another basis, and how many of its bars had to leave."""

    series: Series
    expelled: int


async def claim_session(
    connection: Connection, provider: str, kind: str, session: date, run_id: UUID
) -> Listing | Held | None:
    """Take it on to list a kind for a final session; None if that was done.

    Of a run that died while it listed, the next one takes it over.
    """
    claimed = await connection.returned(_CLAIM, provider, kind, session, run_id)
    if claimed:
        [taken] = claimed
        days = told_day(taken["listed_since"]), told_day(taken["next_from"])
        return Listing(*days, told_time(taken["synced_at"]))
    (reading,) = await connection.ask(bound(_READING, provider, kind, session))
    return Held(datetime.fromisoformat(reading[0]["alive_until"])) if reading else None


async def give_back(connection: Connection, provider: str, kind: str) -> None:
    """Leave the session that was taken on to the next run."""
    connection.later(_GIVE_BACK, provider, kind)


async def leave(connection: Connection, provider: str, kind: str, run_id: UUID) -> None:
    """Note that a run has read as much of a list as it will."""
    connection.later(_LEAVE, provider, kind, run_id)


async def note_listing(
    connection: Connection, provider: str, kind: str, listing: Listing, *, ended: bool
) -> None:
    """Note how far a kind is listed, and whether it is to the end."""
    places = listing.listed_since, listing.next_from, listing.synced_at
    connection.later(_NOTE, provider, kind, *places, ended)


async def keep_splits(connection: Connection, splits: Iterable[Split], now: datetime) -> None:
    """Keep splits as they are listed, one a ticker and day: of several the last counts."""
    rows = {(storable(one.ticker), one.execution_date): one for one in splits}.values()
    connection.later(
        _KEEP_SPLITS,
        [storable(one.ticker) for one in rows],
        [one.execution_date for one in rows],
        [one.split_from for one in rows],
        [one.split_to for one in rows],
        now,
    )


async def keep_dividends(
    connection: Connection, dividends: Sequence[Dividend], now: datetime
) -> None:
    """Keep dividends as they are listed."""
    connection.later(
        _KEEP_DIVIDENDS,
        [storable(one.ticker) for one in dividends],
        [one.ex_dividend_date for one in dividends],
        [one.cash_amount for one in dividends],
        [storable(one.dividend_type) for one in dividends],
        [storable(one.currency) for one in dividends],
        [one.pay_date for one in dividends],
        now,
    )


async def drop_unlisted_splits(
    connection: Connection, since: date, listed: Collection[ActionKey]
) -> list[ActionKey]:
    """Remove splits from a day on that a whole listing didn't name, and return them."""
    rows = await connection.returned(_DROP_SPLITS, since, *_columns(listed))
    return [(row["ticker"], day_of(row["execution_date"])) for row in rows]


async def drop_unlisted_dividends(connection: Connection, since: date, now: datetime) -> None:
    """Remove dividends from a day on that the listing of ``now`` didn't name."""
    connection.later(_DROP_DIVIDENDS, since, now)


async def judge_splits(
    connection: Connection, today: date, symbols: Collection[SymbolId] | None = None
) -> list[Split]:
    """Decide which splits apply, and whose they are, by the prices that are stored now.

    Only those under a name of some ``symbols``, if these are told: what others claim is as it was
    where only their prices have changed. Returns those that are newly set aside because the prices
    around them contradict them.
    """
    claimed, names = _CLAIMED, None
    if symbols is not None:
        (found,) = await connection.ask(bound(_NAMESAKES, list(symbols)))
        names = {row["ticker"] for row in found}
        claimed = bound(_CLAIMED_BY, sorted({row["symbol_id"] for row in found}))
    (rows,) = await connection.ask(claimed)
    claims: dict[ActionKey, list[tuple[dict[str, Any], Claim]]] = {}
    for _, group in groupby(rows, key=lambda row: row["symbol_id"]):
        mine = list(group)
        for row, verdict in zip(mine, judge(list(map(_listed, mine)), today), strict=True):
            if names is not None and row["ticker"] not in names:
                continue  # others may claim it, too
            seen = row["before"] is not None and row["after"] is not None
            claim = Claim(row["named"], seen, verdict)
            claims.setdefault(_key_of(row), []).append((row, claim))
    set_aside = []
    for key, several in claims.items():
        row, claim = several[owner_of([one for _, one in several])]
        held, now = _held(row), claim.verdict
        owner = None if claim.named and not row["manual"] else row["symbol_id"]
        if (now, owner) != (held, row["owner"]):
            connection.later(_DECIDE, *key, str(now.status), now.tested, owner)
        if now.status is Status.contradicted is not held.status:
            set_aside.append(_listed(row).split)
    return set_aside


def _key_of(row: Mapping[str, Any]) -> ActionKey:
    return row["ticker"], day_of(row["execution_date"])


def _held(row: Mapping[str, Any]) -> Verdict:
    return Verdict(Status(row["status"]), row["tested"])


def _listed(row: Mapping[str, Any]) -> Listed:
    """A split as one company's; what is held of it counts if it was that company's."""
    theirs = row["owner"] == row["symbol_id"] or (row["owner"] is None and row["named"])
    return Listed(
        Split(*_key_of(row), float(row["split_from"]), float(row["split_to"])),
        row["before"],
        row["after"],
        _held(row) if theirs else NEW,
        row["named"],
        row["manual"],
    )


async def invalidate_outdated(
    connection: Connection,
    run_id: UUID,
    known_at: datetime | None,
    now: datetime,
    window_ms: int,
    dropped: Collection[ActionKey],
    provider: str,
) -> list[Outdated]:
    """Take what newly effective or dropped splits outdate out of the coverage of adjusted series.

    They are those of the ``provider`` whose list it is: on which basis another's bars are, and
    since when, its own answers show (`backfill.core.basis`).

    ``known_at`` is when splits were last listed to the end, None for never. Bars before
    ``window_ms``, which the plan can't read again, leave for quarantine as ``source_changed``.
    """
    outdated = []
    (rows,) = await connection.ask(bound(_OUTDATED, known_at, now, *_columns(dropped), provider))
    for row in rows:
        [symbol] = await universe.by_ticker(connection, [row["ticker"]])
        series = Series(symbol, Timeframe(row["timeframe"]))
        known = (await progress.load_progress(connection, [series]))[series.key]
        last_day = day_of(row["execution_date"])
        ends_ms = basis_ends(series.timeframe, last_day, symbol.calendar)
        old = known.coverage & Spans.of((0, ends_ms))
        lost = Span(0, min(ends_ms, window_ms))
        expelled = await outdate(connection, run_id, series, old, lost, now)
        outdated.append(Outdated(series, expelled))
    return outdated


def _columns(keys: Collection[ActionKey]) -> tuple[list[str], list[date]]:
    return [storable(ticker) for ticker, _ in keys], [day for _, day in keys]
