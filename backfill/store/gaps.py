"""What is stored, as gap finding asks for it."""

from collections.abc import Mapping, Sequence
from typing import Final

from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.store.pool import Connection
from backfill.store.times import stamps_to_ms, to_time

# One range of the primary key per series and span, index-only. The stamps of a span come as one
# value: a million bars are a few thousand rows, and no Python object is made for a bar.
_INCOMPLETE: Final = """
    SELECT s.series, s.span, c.stamps
    FROM unnest(
        $1::integer[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[],
        $6::timestamptz[], $7::integer[]
    ) AS s (series, symbol_id, timeframe, span, starts, ends, slots)
    CROSS JOIN LATERAL (
        SELECT count(*) AS bars, string_agg(timestamptz_send(b.ts), ''::bytea) AS stamps
        FROM ohlc_bars AS b
        WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe::timeframe
            AND b.ts >= s.starts AND b.ts < s.ends
    ) AS c
    WHERE c.bars <> s.slots
"""
_ANY_NUMBER: Final = -1


async def incomplete(
    connection: Connection, asked: Mapping[Series, Sequence[tuple[Span, int]]]
) -> dict[Series, tuple[Spans, IntColumn]]:
    """Return the spans of each series that hold more or fewer bars than they have slots.

    With them come the starts of the bars that they do hold, in epoch ms and in no order. A series
    that has no such span is missing from the result.
    """
    series = list(asked)
    rows = [(at, index) for at, one in enumerate(series) for index in range(len(asked[one]))]
    spans = [asked[series[at]][index] for at, index in rows]
    found = await connection.fetch(
        _INCOMPLETE,
        [at for at, _ in rows],
        [series[at].symbol.id for at, _ in rows],
        [str(series[at].timeframe) for at, _ in rows],
        [index for _, index in rows],
        [to_time(span.start_ms) for span, _ in spans],
        [to_time(span.end_ms) for span, _ in spans],
        [slots for _, slots in spans],
    )
    lacking: dict[Series, list[Span]] = {}
    stamps: dict[Series, list[bytes]] = {}
    for at, index, held in found:
        lacking.setdefault(series[at], []).append(asked[series[at]][index][0])
        stamps.setdefault(series[at], []).append(held or b"")
    return {
        one: (Spans.union(lacking[one]), stamps_to_ms(b"".join(stamps[one]))) for one in lacking
    }


async def stored_ms(
    connection: Connection, wanted: Mapping[Series, Spans]
) -> dict[Series, IntColumn]:
    """Return the starts of each series' bars within its spans, in epoch ms and in no order."""
    asked = {one: [(span, _ANY_NUMBER) for span in spans] for one, spans in wanted.items()}
    found = await incomplete(connection, asked)
    return {one: found[one][1] if one in found else stamps_to_ms(b"") for one in wanted}
