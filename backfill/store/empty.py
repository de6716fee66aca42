"""Known-empty slots: noted with a page's bars, confirmed by a second answer, and read back."""

# Over 300 lines: one table: what is noted of an answer, what that confirms, and what is read back.

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import date, datetime
from typing import Any, Final

from backfill.core.confirmed import Entry, entries
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import ALONE_AFTER, EmptyReason, EmptySlots, Joint
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of, keys_of_symbols, told_key
from backfill.store.pool import Connection
from backfill.store.quote import Quoted, bound
from backfill.store.times import (
    bounds_of,
    from_bounds,
    to_ms,
    to_text,
    to_time,
    told_day,
    told_time,
)

# Entries, in JSON's own types.
_ENTRIES: Final = f"""
    SELECT k.symbol_id, k.timeframe::text AS timeframe, k.month, k.reason, k.asked_on,
        {bounds_of("k.slots")} AS slots, k.expires_at, k.confirmed_on
"""
# What earlier answers left open of the claims: a second one may confirm it; and of the joints those
# beyond which nobody traded, as such slots. By the primary key.
_OPENED: Final = """
    SELECT k.symbol_id, k.timeframe, k.month, k.reason, k.asked_on, k.slots, k.expires_at,
        k.confirmed_on
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS c (symbol_id, timeframe, claims)
    JOIN known_empty AS k
        ON k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe
    WHERE k.reason IN ('absent', 'unconfirmed') AND k.slots && c.claims::tstzmultirange
    UNION ALL
    SELECT k.symbol_id, k.timeframe, k.month, k.reason, k.asked_on, j.hours::tstzmultirange,
        k.expires_at, k.confirmed_on
    FROM unnest($4::symbol_id[], $5::text[], $6::text[], $7::timestamptz[])
        AS j (symbol_id, timeframe, hours, beyond)
    JOIN known_empty AS k
        ON k.symbol_id = j.symbol_id AND k.timeframe = j.timeframe::timeframe
    WHERE k.reason = 'no_trades' AND k.slots @> j.beyond
"""
_OPEN: Final = f"{_ENTRIES} FROM ({_OPENED}) AS k ORDER BY k.asked_on"
# What the page answers for is known anew: old entries give way to what it says.
_CLEAR: Final = """
    UPDATE known_empty AS k
    SET slots = k.slots - c.claims::tstzmultirange
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS c (symbol_id, timeframe, claims)
    WHERE k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe
        AND k.slots && c.claims::tstzmultirange
"""
# Which entries hold nothing any more, of the series of a page.
_DROP: Final = """
    DELETE FROM known_empty AS k
    USING unnest($1::symbol_id[], $2::text[]) AS c (symbol_id, timeframe)
    WHERE k.symbol_id = c.symbol_id AND k.timeframe = c.timeframe::timeframe AND isempty(k.slots)
"""
# One row holds a month's slots of one reason and day. Where confirmed slots meet unconfirmed ones,
# all are unconfirmed: what is asked for once too often does no harm.
_NOTE: Final = """
    INSERT INTO known_empty AS k (
        symbol_id, timeframe, month, reason, asked_on, slots, expires_at, confirmed_on
    )
    SELECT n.symbol_id, n.timeframe::timeframe, n.month, n.reason, n.asked_on,
        n.slots::tstzmultirange, n.expires_at, n.confirmed_on
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::date[], $4::text[], $5::date[], $6::text[],
        $7::timestamptz[], $8::date[]
    ) AS n (symbol_id, timeframe, month, reason, asked_on, slots, expires_at, confirmed_on)
    ON CONFLICT (symbol_id, timeframe, month, reason, asked_on) DO UPDATE
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
# All that is known to be empty of some series, in one round trip, by the primary key.
_READ: Final = (
    _ENTRIES
    + """
    FROM known_empty AS k
    JOIN unnest($1::symbol_id[], $2::text[]) AS s (symbol_id, timeframe)
        ON k.symbol_id = s.symbol_id AND k.timeframe = s.timeframe::timeframe
"""
)
# What of it may be asked for again: now, or together with what is due; and what two answers agree
# on outside of the coverage, which the next one closes. By the primary keys.
_AGAIN: Final = (
    _READ
    + """
    WHERE k.reason = 'unconfirmed' OR k.expires_at <= $3
        OR k.reason = 'absent' AND (
            k.confirmed_on IS NULL
            OR NOT EXISTS (
                SELECT FROM backfill_progress AS p
                WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe
                    AND p.coverage @> k.slots
            )
        )
"""
)


@dataclass(frozen=True, slots=True)
class KnownEmpty:
    """Slots of a series that are known to hold no bar.

    ``settled`` are rightly empty: nobody traded, or two answers agree that their session is absent.
    ``held`` are those that are not confirmed, by reason, and not asked for before they expire: when
    ``expiries`` tells, in epoch ms. A second answer about those of them in ``askable`` is believed,
    in ``overdue`` for days already.
    """

    settled: Spans = field(default_factory=Spans)
    held: dict[EmptyReason, Spans] = field(default_factory=dict)
    askable: Spans = field(default_factory=Spans)
    overdue: Spans = field(default_factory=Spans)
    expiries: tuple[tuple[Spans, int], ...] = ()

    def expires_ms(self, span: Span) -> int | None:
        """Return when the first slot that is held within a span is asked for again."""
        return min((at for spans, at in self.expiries if spans & Spans.of(span)), default=None)

    @property
    def unconfirmed(self) -> Spans:
        """What the provider may be late with."""
        return self.held.get(EmptyReason.unconfirmed, Spans())


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Slots of a series that were found empty and may be asked for again.

    ``expired`` are worth a call of their own in a run that fetches all that is missing.
    ``unconfirmed`` are asked for with what is due, ``absent`` ones as far as nothing newer is
    stored; a second answer about ``askable`` ones is believed. Of the absent ones ``held`` are not
    asked for before they expire, and a second answer about ``answered`` ones is believed.
    """

    expired: Spans
    unconfirmed: Spans
    absent: Spans
    askable: Spans
    held: Spans
    answered: Spans


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer closes of a series, what of that is empty, and what that may be joined to.

    ``claims`` holds what it leaves unconfirmed, too.
    """

    series: Series
    claims: Spans
    empty: Sequence[EmptySlots]
    joints: Sequence[Joint] = ()


def opening_entries(answers: Sequence[Answer]) -> str:
    """Return the query for what earlier answers left open of the claims; `note_empty` reads it."""
    closing = [answer for answer in answers if answer.claims]
    ends = [(answer.series, joint) for answer in closing for joint in answer.joints]
    return bound(
        _OPEN,
        *_claims(closing),
        *keys_of(series for series, _ in ends),
        [to_text(Spans.of(joint.hours)) for _, joint in ends],
        [to_time(joint.beyond_ms) for _, joint in ends],
    )


def note_empty(
    connection: Connection,
    answers: Sequence[Answer],
    opened: Iterable[Mapping[str, Any]],
    now: datetime,
) -> None:
    """Note what answers left empty, in place of what was known of their claims; each series once.

    ``opened`` are the rows of `opening_entries`, ``now`` is the clock by which a second answer
    confirms a first, and slots expire.
    """
    closing = [answer for answer in answers if answer.claims]
    if not closing:
        return
    before: dict[tuple[SymbolId, Timeframe], list[Entry]] = {}
    for row in opened:
        before.setdefault(told_key(row), []).append(_entry(row))
    connection.later(_CLEAR, *_claims(closing))
    drop_emptied(connection, [answer.series for answer in closing])
    noted = [
        (answer.series, entry)
        for answer in closing
        for entry in _merged(entries(answer.empty, before.get(answer.series.key, []), now))
    ]
    if noted:
        connection.later(
            _NOTE,
            *keys_of(series for series, _ in noted),
            [entry.month for _, entry in noted],
            [str(entry.reason) for _, entry in noted],
            [entry.asked_on for _, entry in noted],
            [to_text(entry.slots) for _, entry in noted],
            [entry.expires_at for _, entry in noted],
            [entry.confirmed_on for _, entry in noted],
        )


def reopen(connection: Connection, series: Series, spans: Spans) -> None:
    """Forget what is known to be empty within spans of a series."""
    connection.later(_CLEAR, *keys_of([series]), [to_text(spans)])
    drop_emptied(connection, [series])


def drop_emptied(connection: Connection, series: Iterable[Series]) -> None:
    """Drop what holds no slot any more of what is known to be empty of series."""
    connection.later(_DROP, *keys_of(series))


def _claims(closing: Sequence[Answer]) -> tuple[list[SymbolId], list[str], list[str]]:
    series = [answer.series for answer in closing]
    return *keys_of(series), [to_text(answer.claims) for answer in closing]


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        date.fromisoformat(row["month"]),
        EmptyReason(row["reason"]),
        date.fromisoformat(row["asked_on"]),
        from_bounds(row["slots"]),
        told_time(row["expires_at"]),
        told_day(row["confirmed_on"]),
    )


def _merged(found: Sequence[Entry]) -> list[Entry]:
    """Merge entries of one row: a statement may touch a row only once.

    The later expiry counts: what is believed too early would be lost.
    """
    rows: dict[tuple[date, EmptyReason, date], Entry] = {}
    for entry in found:
        key = (entry.month, entry.reason, entry.asked_on)
        other = rows.get(key)
        rows[key] = entry if other is None else _both(entry, other)
    return list(rows.values())


def _both(one: Entry, other: Entry) -> Entry:
    if (one.confirmed_on is None) != (other.confirmed_on is None):
        kept = one if one.confirmed_on is None else other
    elif one.expires_at is None or other.expires_at is None:
        kept = one if one.expires_at is not None else other
    else:
        kept = max(one, other, key=lambda entry: entry.expires_at or entry.asked_on)
    return Entry(
        one.month,
        one.reason,
        one.asked_on,
        one.slots | other.slots,
        kept.expires_at,
        kept.confirmed_on,
    )


async def known_empty(
    connection: Connection, series: Sequence[Series], now: datetime
) -> dict[tuple[SymbolId, Timeframe], KnownEmpty]:
    """Return what is known to be empty of each series; one with nothing is missing."""
    (rows,) = await connection.ask(emptiness(series))
    return read_empty(rows, now)


def emptiness(series: Iterable[Series]) -> str:
    """Return the query for what is known to be empty of series; `read_empty` reads its rows."""
    return bound(_READ, *keys_of(series))


def read_empty(
    rows: Iterable[Mapping[str, Any]], now: datetime
) -> dict[tuple[SymbolId, Timeframe], KnownEmpty]:
    """Return what rows say is empty of each series; one with nothing is missing."""
    settled: dict[tuple[SymbolId, Timeframe], list[Spans]] = {}
    held: dict[tuple[SymbolId, Timeframe], dict[EmptyReason, list[Spans]]] = {}
    askable: dict[tuple[SymbolId, Timeframe], list[Spans]] = {}
    overdue: dict[tuple[SymbolId, Timeframe], list[Spans]] = {}
    expiries: dict[tuple[SymbolId, Timeframe], list[tuple[Spans, int]]] = {}
    for row in rows:
        key, entry = told_key(row), _entry(row)
        spans, expires_at, expired = entry.slots, entry.expires_at, entry.is_expired(now)
        if entry.reason is EmptyReason.no_trades or entry.confirmed_on is not None:
            settled.setdefault(key, []).append(spans)
        elif entry.reason is EmptyReason.unconfirmed or not expired:
            held.setdefault(key, {}).setdefault(entry.reason, []).append(spans)
            if expires_at is not None:
                expiries.setdefault(key, []).append((spans, to_ms(expires_at)))
            if expired:
                askable.setdefault(key, []).append(spans)
            if expires_at is not None and expires_at + ALONE_AFTER <= now:
                overdue.setdefault(key, []).append(spans)
    return {
        key: KnownEmpty(
            _union(settled.get(key, [])),
            {reason: _union(parts) for reason, parts in held.get(key, {}).items()},
            _union(askable.get(key, [])),
            _union(overdue.get(key, [])),
            tuple(expiries.get(key, [])),
        )
        for key in settled.keys() | held.keys()
    }


def asking_again(series: Iterable[Series], now: datetime) -> str:
    """Return the query for the slots of series that may be asked for again; for `read_again`."""
    return bound(_AGAIN, *keys_of(series), now)


def asking_again_of(symbols: Quoted, now: datetime) -> str:
    """Return the query for such slots of all series of symbols, whose ids a query tells."""
    return bound(_AGAIN, *keys_of_symbols(symbols), now)


def read_again(
    rows: Iterable[Mapping[str, Any]], now: datetime
) -> dict[tuple[SymbolId, Timeframe], AskAgain]:
    """Return the slots of each series that were found empty and may be asked for again."""
    found: dict[tuple[SymbolId, Timeframe], list[Entry]] = {}
    for row in rows:
        found.setdefault(told_key(row), []).append(_entry(row))
    return {key: _again(mine, now) for key, mine in found.items()}


def _again(rows: Sequence[Entry], now: datetime) -> AskAgain:
    def are(rows: Iterable[Entry]) -> Spans:
        return _union([one.slots for one in rows])

    late = [one for one in rows if one.reason is EmptyReason.unconfirmed]
    others = [one for one in rows if one.reason is not EmptyReason.unconfirmed]
    absent = [one for one in others if one.reason is EmptyReason.absent]
    open_ = [one for one in absent if one.confirmed_on is None or one.is_expired(now)]
    return AskAgain(
        expired=are(one for one in others if one.is_expired(now)),
        unconfirmed=are(late),
        absent=are(open_),
        askable=are(one for one in late if one.is_expired(now)),
        held=are(one for one in absent if one.confirmed_on is None and not one.is_expired(now)),
        answered=are(one for one in absent if one.is_believed(now)),
    )


def _union(parts: list[Spans]) -> Spans:
    return Spans.union(span for spans in parts for span in spans)
