"""What is stored, as gap finding asks for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import stamps_to_ms, to_time

# One range of the primary key per series and span, index-only; another for those that differ. The
# stamps of a span come as one value: no Python object is made for a bar.
_INCOMPLETE: Final = """
    SELECT s.number AS series, p.number AS span, (
            SELECT string_agg(timestamptz_send(b.ts), ''::bytea)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe
                AND b.ts >= p.starts AND b.ts < p.ends
        ) AS stamps
    FROM unnest($1::symbol_id[], $2::text[]::timeframe[], $3::integer[])
        WITH ORDINALITY AS s (symbol_id, timeframe, question, number)
    JOIN unnest($4::integer[], $5::timestamptz[], $6::timestamptz[], $7::integer[])
        WITH ORDINALITY AS p (question, starts, ends, slots, number)
        ON p.question = s.question
    WHERE p.slots <> (
        SELECT count(*)
        FROM ohlc_bars AS b
        WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe
            AND b.ts >= p.starts AND b.ts < p.ends
    )
"""
_ANY_NUMBER: Final = -1


@dataclass(frozen=True, slots=True)
class Question:
    """Spans, with the number of slots of each, and the series whose bars are counted in them.

    Series of one calendar and timeframe share their sessions: these go to the database once.
    """

    spans: Sequence[tuple[Span, int]]
    series: list[Series]


async def incomplete(
    connection: Connection, questions: Iterable[Question]
) -> dict[Series, tuple[Spans, IntColumn]]:
    """Return the spans of each series that hold more or fewer bars than they have slots.

    With them come the starts of the bars that they do hold, in epoch ms and in no order. A series
    that has no such span is missing from the result.
    """
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
    )
    lacking: dict[Series, list[Span]] = {}
    stamps: dict[Series, list[bytes]] = {}
    for at, index, held in found:
        one, _ = series[at - 1]
        lacking.setdefault(one, []).append(spans[index - 1][0])
        stamps.setdefault(one, []).append(held or b"")
    return {
        one: (Spans.union(lacking[one]), stamps_to_ms(b"".join(stamps[one]))) for one in lacking
    }


async def stored_ms(
    connection: Connection, wanted: Mapping[Series, Spans]
) -> dict[Series, IntColumn]:
    """Return the starts of each series' bars within its spans, in epoch ms and in no order."""
    questions = [
        Question([(span, _ANY_NUMBER) for span in spans], [one]) for one, spans in wanted.items()
    ]
    found = await incomplete(connection, questions)
    return {one: found[one][1] if one in found else stamps_to_ms(b"") for one in wanted}
