"""Known-empty slots: noted with a page's bars, confirmed by a second answer, and read back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason, EmptySlots
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store.pool import Connection
from backfill.store.times import from_ranges, to_ranges

_UNCONFIRMED: Final = timedelta(days=1)
_HELD: Final = timedelta(days=30)

_ABSENT: Final = """
    SELECT month, slots, expires_at, confirmed_on
    FROM known_empty
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND reason = 'absent'
        AND slots && $3::tstzmultirange
"""
# What the page answers for is known anew: old entries give way to what it says.
_CLEAR: Final = """
    UPDATE known_empty
    SET slots = slots - $3::tstzmultirange
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND slots && $3::tstzmultirange
"""
_DROP: Final = """
    DELETE FROM known_empty
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND isempty(slots)
"""
# One row holds a month's slots of one reason. Where confirmed slots meet unconfirmed ones, all are
# unconfirmed and expire as those do: what is asked for once too often does no harm.
_NOTE: Final = """
    INSERT INTO known_empty AS k (
        symbol_id, timeframe, month, reason, slots, expires_at, confirmed_on
    )
    VALUES ($1, $2::text::timeframe, $3, $4, $5, $6, $7)
    ON CONFLICT (symbol_id, timeframe, month, reason) DO UPDATE
    SET slots = k.slots + excluded.slots,
        expires_at = CASE
            WHEN (k.confirmed_on IS NULL) = (excluded.confirmed_on IS NULL)
                THEN greatest(k.expires_at, excluded.expires_at)
            WHEN k.confirmed_on IS NULL THEN k.expires_at
            ELSE excluded.expires_at
        END,
        confirmed_on = CASE
            WHEN k.confirmed_on IS NOT NULL THEN excluded.confirmed_on
        END
"""
# All series in one round trip, by the primary key.
_READ: Final = """
    SELECT k.symbol_id, k.timeframe::text AS timeframe, k.reason, k.slots, k.expires_at,
        k.confirmed_on
    FROM known_empty AS k
    JOIN unnest($1::integer[], $2::text[]) AS s (symbol_id, timeframe)
        ON k.symbol_id = s.symbol_id AND k.timeframe = s.timeframe::timeframe
"""
_EXPIRED: Final = _READ + " WHERE k.expires_at <= $3"


@dataclass(frozen=True, slots=True)
class KnownEmpty:
    """Slots of a series that are known to hold no bar.

    ``settled`` are rightly empty: nobody traded, or two answers on different days agree that their
    session is absent. ``held`` were asked for lately, and are not asked for again before they
    expire.
    """

    settled: Spans = field(default_factory=Spans)
    held: dict[EmptyReason, Spans] = field(default_factory=dict)


async def note_empty(
    connection: Connection,
    series: Series,
    claims: Spans,
    empty: Sequence[EmptySlots],
    now: datetime,
) -> None:
    """Note what an answer for ``claims`` left empty, in place of what was known of them.

    An absent session is unconfirmed, and expires in a day, until an answer on a later day agrees;
    then it holds for 30 days, and so does a slot whose bar is in quarantine.
    """
    key = (series.symbol.id, str(series.timeframe))
    ranges = to_ranges(claims)
    absent_before = {row["month"]: row for row in await connection.fetch(_ABSENT, *key, ranges)}
    if await connection.execute(_CLEAR, *key, ranges) != "UPDATE 0":
        await connection.execute(_DROP, *key)
    rows = []
    for one in empty:
        expires_at: datetime | None = None
        confirmed_on: date | None = None
        if one.reason is EmptyReason.quarantined:
            expires_at = now + _HELD
        elif one.reason is EmptyReason.absent:
            before = absent_before.get(one.month)
            agrees = (
                before is not None
                and not one.slots - from_ranges(before["slots"])
                and _was_seen_on_another_day(before["expires_at"], before["confirmed_on"], now)
            )
            expires_at = now + (_HELD if agrees else _UNCONFIRMED)
            confirmed_on = now.date() if agrees else None
        rows.append((*key, one.month, one.reason, to_ranges(one.slots), expires_at, confirmed_on))
    if rows:
        await connection.executemany(_NOTE, rows)


async def reopen(connection: Connection, series: Series, spans: Spans) -> None:
    """Forget what is known to be empty within spans of a series."""
    key = (series.symbol.id, str(series.timeframe))
    await connection.execute(_CLEAR, *key, to_ranges(spans))
    await connection.execute(_DROP, *key)


async def known_empty(
    connection: Connection, series: Sequence[Series], now: datetime
) -> dict[tuple[int, Timeframe], KnownEmpty]:
    """Return what is known to be empty of each series; one with nothing is missing."""
    rows = await connection.fetch(
        _READ,
        [one.symbol.id for one in series],
        [str(one.timeframe) for one in series],
    )
    settled: dict[tuple[int, Timeframe], list[Spans]] = {}
    held: dict[tuple[int, Timeframe], dict[EmptyReason, list[Spans]]] = {}
    for row in rows:
        key = (row["symbol_id"], Timeframe(row["timeframe"]))
        spans, reason = from_ranges(row["slots"]), EmptyReason(row["reason"])
        if reason is EmptyReason.no_trades or row["confirmed_on"] is not None:
            settled.setdefault(key, []).append(spans)
        elif row["expires_at"] > now:
            held.setdefault(key, {}).setdefault(reason, []).append(spans)
    return {
        key: KnownEmpty(
            _union(settled.get(key, [])),
            {reason: _union(parts) for reason, parts in held.get(key, {}).items()},
        )
        for key in settled.keys() | held.keys()
    }


async def expired_slots(
    connection: Connection, series: Sequence[Series], now: datetime
) -> dict[tuple[int, Timeframe], Spans]:
    """Return the slots of each series that were known to be empty and may be asked for again."""
    rows = await connection.fetch(
        _EXPIRED,
        [one.symbol.id for one in series],
        [str(one.timeframe) for one in series],
        now,
    )
    found: dict[tuple[int, Timeframe], list[Spans]] = {}
    for row in rows:
        key = (row["symbol_id"], Timeframe(row["timeframe"]))
        found.setdefault(key, []).append(from_ranges(row["slots"]))
    return {key: _union(parts) for key, parts in found.items()}


def _was_seen_on_another_day(
    expires_at: datetime, confirmed_on: date | None, now: datetime
) -> bool:
    """Whether an absent entry was noted before today: unconfirmed, it expires a day after that."""
    return confirmed_on is not None or (expires_at - _UNCONFIRMED).date() < now.date()


def _union(parts: list[Spans]) -> Spans:
    return Spans.union(span for spans in parts for span in spans)
