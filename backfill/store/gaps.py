"""What is stored, as gap finding asks for it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.series import Series
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import stamps_to_ms, to_time

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn

# One range of the primary key per series and span, index-only; another for those that differ, and
# whose slots come to no more than one answer is to hold. The stamps of a span come as one value: no
# Python object is made for a bar. Where any number is right nothing is counted.
_INCOMPLETE: Final = """
    WITH lacking AS MATERIALIZED (
        SELECT s.number AS series, s.symbol_id, s.timeframe, p.number AS span, p.starts, p.ends,
            sum(p.slots) OVER (ORDER BY s.number, p.number) <= $8 AS told
        FROM unnest($1::symbol_id[], $2::text[]::timeframe[], $3::integer[])
            WITH ORDINALITY AS s (symbol_id, timeframe, question, number)
        JOIN unnest($4::integer[], $5::timestamptz[], $6::timestamptz[], $7::integer[])
            WITH ORDINALITY AS p (question, starts, ends, slots, number)
            ON p.question = s.question
        WHERE p.slots < 0 OR p.slots <> (
            SELECT count(*)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe
                AND b.ts >= p.starts AND b.ts < p.ends
        )
    )
    SELECT l.series, l.span, l.told, CASE WHEN l.told THEN (
            SELECT string_agg(timestamptz_send(b.ts), ''::bytea)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = l.symbol_id AND b.timeframe = l.timeframe
                AND b.ts >= l.starts AND b.ts < l.ends
        ) END AS stamps
    FROM lacking AS l
"""
_ANY_NUMBER: Final = -1
_SLOTS_AT_ONCE: Final = 500_000


@dataclass(frozen=True, slots=True)
class Question:
    """Spans, with the number of slots of each, and the series whose bars are counted in them.

    Series of one calendar and timeframe share their sessions: these go to the database once.
    """

    spans: Sequence[tuple[Span, int]]
    series: list[Series]


Incomplete: TypeAlias = "dict[Series, tuple[Spans, IntColumn]]"
"""Of each series the spans that hold another number of bars, and the starts of those, in epoch ms.
"""


async def incomplete(
    connection: Connection, questions: Sequence[Question]
) -> AsyncIterator[Incomplete]:
    """Yield the spans of each series that hold more or fewer bars than they have slots.

    With them come the starts of the bars that they do hold, in epoch ms and in no order. A series
    that has no such span is missing. Of many slots they come in several lots,
    each in a round trip: a series may be in more than one of them.
    """
    found, left = await _ask(connection, questions)
    yield found
    while left:
        lot, left = _parted(left)
        found, _ = await _ask(connection, [Question(spans, [one]) for one, spans in lot.items()])
        yield found


def _parted(
    left: Mapping[Series, list[tuple[Span, int]]],
) -> tuple[dict[Series, list[tuple[Span, int]]], dict[Series, list[tuple[Span, int]]]]:
    """Part what is to be asked for: what one answer can hold, whatever is there, and the rest."""
    now: dict[Series, list[tuple[Span, int]]] = {}
    later: dict[Series, list[tuple[Span, int]]] = {}
    slots = 0
    for one, spans in left.items():
        for span, count in spans:
            slots += count
            if slots <= _SLOTS_AT_ONCE or not now:
                now.setdefault(one, []).append((span, _ANY_NUMBER))
            else:
                later.setdefault(one, []).append((span, count))
    return now, later


async def _ask(
    connection: Connection, questions: Sequence[Question]
) -> tuple[Incomplete, dict[Series, list[tuple[Span, int]]]]:
    """Return the spans with another number of bars, and those of them whose bars are not told."""
    series: list[tuple[Series, int]] = []
    spans: list[tuple[Span, int, int]] = []
    for number, question in enumerate(questions):
        series += [(one, number) for one in question.series]
        spans += [(span, slots, number) for span, slots in question.spans]
    found = await connection.fetch(
        _INCOMPLETE,
        *keys_of(one for one, _ in series),
        [number for _, number in series],
        [number for _, _, number in spans],
        [to_time(span.start_ms) for span, _, _ in spans],
        [to_time(span.end_ms) for span, _, _ in spans],
        [slots for _, slots, _ in spans],
        _SLOTS_AT_ONCE,
    )
    lacking: dict[Series, list[Span]] = {}
    stamps: dict[Series, list[bytes]] = {}
    left: dict[Series, list[tuple[Span, int]]] = {}
    for at, index, told, held in found:
        one, _ = series[at - 1]
        span, slots, _ = spans[index - 1]
        if told:
            lacking.setdefault(one, []).append(span)
            stamps.setdefault(one, []).append(held or b"")
        else:
            left.setdefault(one, []).append((span, slots))
    complete = {
        one: (Spans.union(lacking[one]), stamps_to_ms(b"".join(stamps[one]))) for one in lacking
    }
    return complete, left


async def stored_ms(
    connection: Connection, wanted: Mapping[Series, Spans]
) -> "dict[Series, IntColumn]":
    """Return the starts of each series' bars within its spans, in epoch ms and in no order."""
    questions = [
        Question([(span, _ANY_NUMBER) for span in spans], [one]) for one, spans in wanted.items()
    ]
    found, _ = await _ask(connection, questions)
    return {one: found[one][1] if one in found else stamps_to_ms(b"") for one in wanted}
