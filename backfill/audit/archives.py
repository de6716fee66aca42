"""Whether files that bars were read from were replaced since; then what they cover is reopened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog

from backfill.audit.tracked import Tracked
from backfill.core.archive import FileRead, Held
from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.errors import ProviderDown, SeriesError, SharedFault
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.run.archived import Versions
from backfill.run.connect import open_versions
from backfill.settings import Account
from backfill.store import archive
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file of which the archive has another version than was read, and how many series it fed."""

    provider: str
    path: str
    series: int


@dataclass(slots=True)
class FileCheck:
    """How many files were asked about, which were replaced, and what is to be asked for again."""

    files: int = 0
    replaced: list[Replaced] = field(default_factory=list)
    reopened: dict[Series, Spans] = field(default_factory=dict)


async def check_files(
    database: Database,
    now: datetime,
    tracked: Sequence[Tracked],
    tally: Tally,
    stop: StopSignal,
    reader: Reader,
    *,
    most: int,
) -> FileCheck:
    """Ask for the versions of as many files that fed these series, longest unasked first.

    What a file covers that was replaced is taken out of the coverage: the next run reads it again.

    Raises
    ------
    DatabaseError, Stopped
        As they come; what was found so far is kept.
    """
    check = FileCheck()
    accounts = {one.account.provider.name: one.account for one in tracked}
    for name, account in sorted(accounts.items()):
        async with open_versions(
            account, database, tally, stop, reader, now_ms=to_ms(now)
        ) as versions:
            if versions is None:
                continue
            files = await database.run(partial(archive.files_read, provider=name))
            fed = [(file, *_fed(account, versions, file, tracked)) for file in files]
            due = [(file, of, series) for file, of, series in fed if of and series and file.etag]
            try:
                for file, of, series in due[: most - check.files]:
                    await _check(database, versions, name, file, of, series, check)
            except SharedFault as error:
                if not isinstance(error, ProviderDown):
                    raise
                log.warning("archive.unreachable", outcome=error.outcome, message=str(error))
    return check


async def _check(
    database: Database,
    versions: Versions,
    provider: str,
    file: FileRead,
    held: Held,
    fed: Sequence[Tracked],
    check: FileCheck,
) -> None:
    check.files += 1
    try:
        etag = await versions.version(file.path)
    except SeriesError as error:
        log.warning("archive.unreachable", outcome=error.outcome, message=str(error))
        return

    async def note(connection: Connection) -> int:
        if etag in {None, file.etag}:
            await archive.note_checked(connection, provider, file)
            return 0
        return await archive.reopen(connection, provider, file, held)

    series = await database.run(note)
    if etag in {None, file.etag}:
        return
    log.warning("archive.replaced", provider=provider, path=file.path, series=series)
    check.replaced.append(Replaced(provider, file.path, series))
    for one in fed:
        spans = one.known.coverage & Spans.of(held.span)
        check.reopened[one.series] = check.reopened.get(one.series, Spans()) | spans


def _fed(
    account: Account, versions: Versions, file: FileRead, tracked: Sequence[Tracked]
) -> tuple[Held | None, list[Tracked]]:
    """Return what a file holds, and which of the series bars of it may be in."""
    provider = account.provider
    held = versions.archives.held_in(file.path)
    if held is None:
        return None, []
    fed = [
        one
        for one in tracked
        if (source := one.known.source) is not None
        and source.provider == provider.name
        and (source.derived_from or one.series.timeframe) is held.timeframe
        and one.known.coverage & Spans.of(held.span)
        and held.spelling in {None, provider.spelling(one.series.symbol.instrument)}
    ]
    return held, fed
