"""Known-empty slots: noted with a page's bars, confirmed by a second answer, and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason, EmptySlots
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import key_of, keys_of
from backfill.store.pool import Connection
from backfill.store.times import from_ranges, to_text

_UNCONFIRMED: Final = timedelta(days=1)
_HELD: Final = timedelta(days=30)

_ABSENT: Final = """
    SELECT k.symbol_id, k.timeframe::text AS timeframe, k.month, k.slots, k.expires_at,
        k.confirmed_on
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS c (symbol_id, timeframe, claims)
    JOIN known_empty AS k
        ON k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe
    WHERE k.reason = 'absent' AND k.slots && c.claims::tstzmultirange
"""
# What the page answers for is known anew: old entries give way to what it says.
_CLEAR: Final = """
    UPDATE known_empty AS k
    SET slots = k.slots - c.claims::tstzmultirange
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS c (symbol_id, timeframe, claims)
    WHERE k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe
        AND k.slots && c.claims::tstzmultirange
"""
_DROP: Final = """
    DELETE FROM known_empty AS k
    USING unnest($1::symbol_id[], $2::text[]) AS c (symbol_id, timeframe)
    WHERE k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe AND isempty(k.slots)
"""
# One row holds a month's slots of one reason. Where confirmed slots meet unconfirmed ones, all are
# unconfirmed and expire as those do: what is asked for once too often does no harm.
_NOTE: Final = """
    INSERT INTO known_empty AS k (
        symbol_id, timeframe, month, reason, slots, expires_at, confirmed_on
    )
    SELECT n.symbol_id, n.timeframe::timeframe, n.month, n.reason, n.slots::tstzmultirange,
        n.expires_at, n.confirmed_on
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::date[], $4::text[], $5::text[], $6::timestamptz[],
        $7::date[]
    ) AS n (symbol_id, timeframe, month, reason, slots, expires_at, confirmed_on)
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
    JOIN unnest($1::symbol_id[], $2::text[]) AS s (symbol_id, timeframe)
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer closes of a series, and what of that it left empty."""

    series: Series
    claims: Spans
    empty: Sequence[EmptySlots]


async def note_empty(connection: Connection, answers: Sequence[Answer], now: datetime) -> None:
    """Note what answers left empty, in place of what was known of their claims; each series once.

    An absent session is unconfirmed, and expires in a day, until an answer on a later day agrees;
    then it holds for 30 days, and so does a slot whose bar is in quarantine.
    """
    closing = [answer for answer in answers if answer.claims]
    claims = (
        *keys_of(answer.series for answer in closing),
        [to_text(answer.claims) for answer in closing],
    )
    absent = {
        (row["symbol_id"], row["timeframe"], row["month"]): row
        for row in await connection.fetch(_ABSENT, *claims)
    }
    await _clear(connection, claims)
    noted = [
        (answer, month, reason, spans)
        for answer in closing
        for (month, reason), spans in _by_month(answer.empty).items()
    ]
    if not noted:
        return
    held = [
        _how_long(reason, spans, absent.get((*key_of(answer.series), month)), now)
        for answer, month, reason, spans in noted
    ]
    await connection.execute(
        _NOTE,
        *keys_of(answer.series for answer, *_ in noted),
        [month for _, month, _, _ in noted],
        [str(reason) for _, _, reason, _ in noted],
        [to_text(spans) for *_, spans in noted],
        [expires_at for expires_at, _ in held],
        [confirmed_on for _, confirmed_on in held],
    )


async def reopen(connection: Connection, series: Series, spans: Spans) -> None:
    """Forget what is known to be empty within spans of a series."""
    symbol_id, timeframe = key_of(series)
    await _clear(connection, ([symbol_id], [timeframe], [to_text(spans)]))


async def _clear(
    connection: Connection, claims: tuple[list[SymbolId], list[str], list[str]]
) -> None:
    if await connection.execute(_CLEAR, *claims) != "UPDATE 0":
        await connection.execute(_DROP, *claims[:2])


def _by_month(empty: Sequence[EmptySlots]) -> dict[tuple[date, EmptyReason], Spans]:
    found: dict[tuple[date, EmptyReason], Spans] = {}
    for one in empty:
        key = (one.month, one.reason)
        found[key] = found.get(key, Spans()) | one.slots
    return found


def _how_long(
    reason: EmptyReason, slots: Spans, before: Mapping[str, Any] | None, now: datetime
) -> tuple[datetime | None, date | None]:
    """Return when slots may be asked for again, and the day that confirmed them, if one did."""
    if reason is EmptyReason.no_trades:
        return None, None
    if reason is EmptyReason.quarantined:
        return now + _HELD, None
    agrees = (
        before is not None
        and not slots - from_ranges(before["slots"])
        and _was_seen_on_another_day(before["expires_at"], before["confirmed_on"], now)
    )
    return now + (_HELD if agrees else _UNCONFIRMED), now.date() if agrees else None


async def known_empty(
    connection: Connection, series: Sequence[Series], now: datetime
) -> dict[tuple[SymbolId, Timeframe], KnownEmpty]:
    """Return what is known to be empty of each series; one with nothing is missing."""
    rows = await connection.fetch(
        _READ,
        *keys_of(series),
    )
    settled: dict[tuple[SymbolId, Timeframe], list[Spans]] = {}
    held: dict[tuple[SymbolId, Timeframe], dict[EmptyReason, list[Spans]]] = {}
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
) -> dict[tuple[SymbolId, Timeframe], Spans]:
    """Return the slots of each series that were known to be empty and may be asked for again."""
    rows = await connection.fetch(
        _EXPIRED,
        *keys_of(series),
        now,
    )
    found: dict[tuple[SymbolId, Timeframe], list[Spans]] = {}
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
