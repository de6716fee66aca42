"""The files of archives that bars were read from, and what is asked for again of those replaced."""

from typing import Final

from backfill.core.archive import FileRead, Held
from backfill.core.coverage import Spans
from backfill.store.pool import Connection
from backfill.store.times import to_text

# A file was read, once more or in another version; by the primary key.
_NOTE: Final = """
    INSERT INTO archive_files AS f (provider, path, etag, checksum, bytes, read_at)
    VALUES ($1, $2, $3, $4, $5, now())
    ON CONFLICT (provider, path, etag) DO UPDATE
    SET checksum = excluded.checksum, bytes = excluded.bytes, read_at = excluded.read_at
"""
# Which files of a provider were read, those first that nobody has looked at for longest; by the
# primary key.
_READ: Final = """
    SELECT path, etag, checksum, bytes
    FROM archive_files
    WHERE provider = $1
    ORDER BY greatest(checked_at, read_at), path, etag
"""
# A version is still the one that the archive has; by the primary key.
_CHECKED: Final = """
    UPDATE archive_files SET checked_at = now() WHERE provider = $1 AND path = $2 AND etag = $3
"""
# A version is nobody's any more; by the primary key.
_FORGET: Final = "DELETE FROM archive_files WHERE provider = $1 AND path = $2 AND etag = $3"
# The series that a file may have fed, those that are rolled up from what it holds included, are
# locked in the order of their keys; by the unique key of a spelling, else by a scan.
_FED: Final = """
    SELECT p.symbol_id, p.timeframe
    FROM backfill_progress AS p
    WHERE p.provider = $1
        AND (
            $2::text IS NULL
            OR p.symbol_id = (
                SELECT n.symbol_id
                FROM provider_symbols AS n
                WHERE n.provider = $1 AND n.spelling = $2
            )
        )
        AND coalesce(p.derived_from, p.timeframe) = $3::text::timeframe
        AND p.coverage && $4::text::tstzmultirange
    ORDER BY p.symbol_id, p.timeframe
    FOR UPDATE
"""
# They are to be asked for again in its range, or rolled up again where the bars that they are made
# of are stored; by the primary key, under the locks above.
_REOPEN: Final = """
    UPDATE backfill_progress AS p
    SET invalidated = CASE
            WHEN b.symbol_id IS NULL
            THEN p.invalidated + (p.coverage * $3::text::tstzmultirange)
            ELSE p.invalidated
        END,
        coverage = p.coverage - $3::text::tstzmultirange
    FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    LEFT JOIN backfill_progress AS d
        ON d.symbol_id = k.symbol_id AND d.timeframe = k.timeframe::timeframe
    LEFT JOIN backfill_progress AS b
        ON b.symbol_id = d.symbol_id AND b.timeframe = d.derived_from
        AND (b.provider, b.feed, b.adjustment) = (d.provider, d.feed, d.adjustment)
    WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
"""


async def note_read(connection: Connection, provider: str, file: FileRead) -> None:
    """Note that a file was read, in the transaction that writes what it brought."""
    etag = file.etag or ""
    connection.later(_NOTE, provider, file.path, etag, file.checksum, file.bytes)


async def files_read(connection: Connection, provider: str) -> list[FileRead]:
    """Return every version of a provider's files that was read, longest unchecked first."""
    rows = await connection.fetch(_READ, provider)
    return [
        FileRead(row["path"], row["etag"] or None, row["checksum"], row["bytes"]) for row in rows
    ]


async def note_checked(connection: Connection, provider: str, file: FileRead) -> None:
    """Note that a version of a file is the one that the archive has."""
    await connection.execute(_CHECKED, provider, file.path, file.etag or "")


async def reopen(connection: Connection, provider: str, file: FileRead, held: Held) -> int:
    """Take what a version of a file covers out of the coverage, and forget that version.

    Returns of how many series. All that the provider has given of the symbols for that time is
    asked for again, also what calls brought: nobody knows any more which of it was the file's.
    """
    spans = to_text(Spans.of(held.span))
    timeframe = str(held.timeframe)
    rows = await connection.fetch(_FED, provider, held.spelling, timeframe, spans)
    if rows:
        symbols, timeframes = zip(*rows, strict=True)
        await connection.execute(_REOPEN, list(symbols), list(timeframes), spans)
    await connection.execute(_FORGET, provider, file.path, file.etag or "")
    return len(rows)
