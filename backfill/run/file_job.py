"""A file to import, what the user says of it, and what reading it once finds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from backfill.core.cells import BadRow
from backfill.core.coverage import Span
from backfill.core.file_pages import Extent, Survey
from backfill.core.filed import Key, Reading
from backfill.core.plain import storable
from backfill.core.series import IMPORT, Source, ticker_traits
from backfill.core.ticker import spelling
from backfill.core.when import Bound
from backfill.errors import UsageError
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.files import checksum
from backfill.files.base import BarFile, refused, version_of
from backfill.store.files import ImportedFile

ADJUSTMENTS: Final = ("raw", "split")


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to import, and what the user says of it.

    Parameters
    ----------
    path
        Where it is.
    reading
        Symbols, timeframes, columns and the time zone, where the file doesn't tell.
    feed
        Where its bars are from, in a word; None for a file that tells that itself.
    adjustment
        ``raw`` or ``split``; None for a file that tells, or has no bars of shares.
    covers
        The range that it is known to be all of, both ends included where they are dates.
    """

    path: Path
    reading: Reading = field(default_factory=Reading)
    feed: str | None = None
    adjustment: str | None = None
    covers: tuple[Bound, Bound] | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """What reading a file once has found; ``version`` tells whether it has changed since."""

    file: ImportedFile
    version: tuple[int, int]
    extents: Mapping[Key, Extent]
    covers: Span | None


def source_of(job: FileJob, file: BarFile, key: Key) -> Source:
    """Return the source that bars of a file have.

    Raises
    ------
    UsageError
        If neither the file nor the user tells it.
    """
    feed, adjustment = file.facts.feed, file.facts.adjustment
    if feed is not None and job.feed is not None:
        raise UsageError(f"{job.path} tells itself where it is from, {feed}: leave --source out")
    if (feed := feed or job.feed) is None:
        raise UsageError(
            f"{job.path} doesn't tell where its bars are from, and those of two sources are never "
            "mixed: name it in a word, --source kaggle"
        )
    if storable(feed) != feed:
        raise UsageError(f"{feed!r} names no source: it is not all Unicode; --source kaggle does")
    if ticker_traits(key.ticker)[0] == "crypto":
        return Source(IMPORT, feed, "raw")
    if (adjustment := adjustment or job.adjustment) is None:
        raise UsageError(
            f"{job.path} doesn't tell whether the prices of {key.ticker} are those of the day or "
            "adjusted for later splits: say --adjustment raw or --adjustment split"
        )
    return Source(IMPORT, feed, adjustment)


async def look(job: FileJob, file: BarFile, reader: Reader, stop: StopSignal) -> Looked:
    """Read a file from its beginning to its end, and return what it holds.

    Raises
    ------
    UsageError
        If something of it can't be read, or isn't told; nothing of it is written then.
    Stopped
        If the signal is set before its end.
    """
    version = version_of(file)
    survey, blocks = Survey(), file.blocks()
    while (block := await reader.apart(partial(next, blocks, None))) is not None:
        for rows in block:
            if rows.key not in survey.extents:
                source_of(job, file, rows.key)
            try:
                survey.add(rows)
            except BadRow as bad:
                raise refused(file, bad, bad.row) from None
        if stop.reason is not None:
            raise stop.reason
    _see_wanted(job, survey.extents)
    sha256 = await reader.apart(partial(checksum, file.stream))
    return Looked(
        ImportedFile(job.path.name, sha256, version[0], file.facts.form),
        version,
        survey.extents,
        file.facts.covers,
    )


def _see_wanted(job: FileJob, found: Collection[Key]) -> None:
    """See that a file has bars, of each symbol and timeframe that is named."""
    held = {spelling(key.ticker) for key in found}
    missing = [one for one in job.reading.symbols if spelling(one) not in held]
    missing += set(map(str, job.reading.timeframes)) - {str(key.timeframe) for key in found}
    if missing or not found:
        raise UsageError(f"{job.path} holds no bar{' of ' * bool(missing)}{', '.join(missing)}")
