"""What is known of each series beside its bars, for ``backfill status``."""

from collections.abc import Sequence
from dataclasses import field
from datetime import date, datetime
from typing import Final, TypeAlias

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import to_ms, to_time

# Every series that was ever leased; a scan of the progress rows.
_SERIES: Final = """
    SELECT p.symbol_id, p.timeframe::text AS timeframe
    FROM backfill_progress AS p
    ORDER BY p.symbol_id, p.timeframe
"""
# How many bars of each series wait in quarantine; a scan of those.
_QUARANTINED: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, count(*) AS bars
    FROM quarantined_bars
    WHERE accepted_at IS NULL
    GROUP BY symbol_id, timeframe
"""
# Raw daily closes that follow one another within two weeks and differ by a third or more, with no
# split listed between them under any name of the symbol; one scan of all daily bars.
_JUMPS: Final = """
    SELECT d.symbol_id, d.ts, d.before::double precision, d.close::double precision
    FROM (
        SELECT b.symbol_id, b.ts, b.close,
            lag(b.close) OVER w AS before, lag(b.ts) OVER w AS before_ts
        FROM ohlc_bars AS b
        JOIN backfill_progress AS p
            ON p.symbol_id = b.symbol_id AND p.timeframe = b.timeframe AND p.adjustment = 'raw'
        WHERE b.timeframe = 'd1'
        WINDOW w AS (PARTITION BY b.symbol_id ORDER BY b.ts)
    ) AS d
    JOIN symbols AS s ON s.id = d.symbol_id AND s.asset_type = 'stock'
    WHERE (d.close >= d.before * 1.35 OR d.before >= d.close * 1.35)
        AND d.ts < d.before_ts + interval '14 days'
        AND NOT EXISTS (
            SELECT
            FROM splits AS x
            WHERE x.status <> 'dropped'
                AND (
                    x.symbol_id = s.id
                    OR x.ticker IN (SELECT ticker FROM symbol_names WHERE symbol_id = s.id)
                )
                AND backfill_midnight(x.execution_date, s.calendar) > d.before_ts
                AND backfill_midnight(x.execution_date, s.calendar) <= d.ts
        )
    ORDER BY d.symbol_id, d.ts
"""
# Which slots are rightly empty (nobody traded, or two answers agree) after the newest bar of each
# series, and the longest runs of them before it. By the primary key. Closed hours make a run longer
# than its slots, but no more than one in a session: among the longest 64 are those of most slots.
_SILENCES: Final = """
    SELECT s.number, r.starts, r.ends, r.is_after
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::date[], $4::timestamptz[], $5::timestamptz[]
    ) WITH ORDINALITY AS s (symbol_id, timeframe, month, since, newest, number)
    CROSS JOIN LATERAL (
        SELECT lower(e.span) AS starts, upper(e.span) AS ends, lower(e.span) > s.newest AS is_after,
            row_number() OVER (
                PARTITION BY lower(e.span) > s.newest ORDER BY upper(e.span) - lower(e.span) DESC
            ) AS place
        FROM known_empty AS k
        CROSS JOIN LATERAL unnest(k.slots) AS e (span)
        WHERE k.symbol_id = s.symbol_id AND k.timeframe = s.timeframe::timeframe
            AND k.month >= s.month
            AND (k.reason = 'no_trades' OR k.confirmed_on IS NOT NULL)
            AND upper(e.span) > s.since
    ) AS r
    WHERE r.is_after OR r.place <= 64
"""


@dataclass(frozen=True, slots=True)
class Quiet:
    """When a series was rightly without bars: after its newest one, and for how long before it."""

    after: Spans = field(default_factory=Spans)
    before: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Jump:
    """Two raw daily closes that follow one another with a jump that no listed split explains."""

    ts: datetime
    before: float
    close: float


Counts: TypeAlias = dict[tuple[SymbolId, Timeframe], int]


async def quarantined(connection: Connection) -> Counts:
    """Return how many bars of each series are in quarantine and not accepted; none if missing."""
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): row["bars"]
        for row in await connection.fetch(_QUARANTINED)
    }


async def jumps(connection: Connection) -> dict[SymbolId, list[Jump]]:
    """Return where the raw daily closes of symbols jump without a listed split."""
    found: dict[SymbolId, list[Jump]] = {}
    for row in await connection.fetch(_JUMPS):
        jump = Jump(row["ts"], row["before"], row["close"])
        found.setdefault(row["symbol_id"], []).append(jump)
    return found


async def silences(
    connection: Connection, asked: Sequence[tuple[Series, date, int, int]]
) -> dict[Series, Quiet]:
    """Return when series were rightly without bars; one that never was is missing.

    With each come the month and the instant from which on to look back, and the start of its newest
    bar, in epoch ms.
    """
    if not asked:
        return {}
    rows = await connection.fetch(
        _SILENCES,
        *keys_of(series for series, *_ in asked),
        [month for _, month, _, _ in asked],
        [to_time(since_ms) for _, _, since_ms, _ in asked],
        [to_time(newest_ms) for *_, newest_ms in asked],
    )
    after: dict[Series, list[Span]] = {}
    before: dict[Series, list[Span]] = {}
    for row in rows:
        found = after if row["is_after"] else before
        span = Span(to_ms(row["starts"]), to_ms(row["ends"]))
        found.setdefault(asked[row["number"] - 1][0], []).append(span)
    return {
        one: Quiet(Spans.union(after.get(one, [])), tuple(before.get(one, [])))
        for one in after.keys() | before.keys()
    }


async def claimed_series(connection: Connection) -> list[tuple[SymbolId, Timeframe]]:
    """Return the keys of the series that some run has claimed at least once."""
    return [
        (row["symbol_id"], Timeframe(row["timeframe"])) for row in await connection.fetch(_SERIES)
    ]
