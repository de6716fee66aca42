"""Which files the bars of a series came by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from backfill.core.coverage import Spans
from backfill.core.file_pages import Extent
from backfill.core.plain import storable
from backfill.core.series import Series
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import to_text, to_time

# A file of some series, of each once, whoever imports it again, with all that it was said to be all
# of; by the primary key.
_NOTE: Final = """
    INSERT INTO imported_files AS f (
        symbol_id, timeframe, feed, bars, first_bar, last_bar, covers, sha256, name, bytes, form,
        run_id
    )
    SELECT n.symbol_id, n.timeframe::timeframe, n.feed, n.bars, n.first_bar, n.last_bar,
        n.covers::tstzmultirange, $8, $9, $10, $11, $12
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[],
        $6::timestamptz[], $7::text[]
    ) AS n (symbol_id, timeframe, feed, bars, first_bar, last_bar, covers)
    ON CONFLICT (symbol_id, timeframe, sha256) DO UPDATE
    SET covers = f.covers + excluded.covers
    WHERE NOT f.covers @> excluded.covers
"""


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file as it was read: its name without a folder, its SHA-256, its size, its form."""

    name: str
    sha256: str
    size: int
    form: str


@dataclass(frozen=True, slots=True)
class FiledSeries:
    """What a file has of a series: from which feed, how many bars, and what it is all of."""

    series: Series
    feed: str
    extent: Extent
    covers: Spans


async def note_file(
    connection: Connection, file: ImportedFile, filed: Sequence[FiledSeries], run_id: UUID
) -> None:
    """Note which file some series have bars of, and what it is all of; they are locked."""
    connection.later(
        _NOTE,
        *keys_of(one.series for one in filed),
        [one.feed for one in filed],
        [one.extent.bars for one in filed],
        [to_time(one.extent.first_ms) for one in filed],
        [to_time(one.extent.last_ms) for one in filed],
        [to_text(one.covers) for one in filed],
        file.sha256,
        storable(file.name),
        file.size,
        file.form,
        run_id,
    )
