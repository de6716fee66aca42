"""Writing what is covered to files, and only those again in which something has changed."""

# Over 300 lines: what is looked at before, meanwhile and after the writing guards one another.

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final
from uuid import uuid4

from backfill.audit.bars import begins, ends
from backfill.audit.tracked import see_kept
from backfill.core.bars import Bars
from backfill.core.coverage import Span, Spans
from backfill.core.export import (
    File,
    Manifest,
    Mark,
    Part,
    Partition,
    Written,
    adjusted,
    batches,
    digests,
    outdated,
)
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.errors import BeingLoaded, UsageError
from backfill.files.columnar import Rows, batch_of
from backfill.files.exported import Destination
from backfill.run.connect import looked_into
from backfill.run.job import Scope
from backfill.settings import Settings
from backfill.store.export import changed_by, covered_series, factors, ledger
from backfill.store.pool import Connection, Database
from backfill.store.read import bars_of_each
from backfill.store.share_basis import Basis, bases
from backfill.store.source import EVER
from backfill.store.times import to_ms

_AT_ONCE: Final = 200_000
"""How many bars are read at once, if every slot has one."""
_SAVED_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What is to be exported, as what, and where to."""

    scope: Scope
    out: str
    form: str = "parquet"
    adjusted: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: ``bars`` and ``partitions`` are all that lie there now.

    Of ``reloading`` series some of what is selected is being loaded again, and lies there later.
    """

    out: str
    format: str
    adjusted: bool
    series: int
    reloading: int
    bars: int
    bars_written: int
    partitions: int
    written: int
    removed: int
    duration_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _State:
    """What there is to export: its parts in the order of the files, and what is made of them.

    Of ``reloading`` series some is being loaded again; ``bases`` are those of adjusted ones.
    ``mark`` is up to which changes it stands, ``left`` what is to be written. Where there is no
    ``before``, whatever was exported is written anew.
    """

    parts: list[Part]
    reloading: int
    bases: dict[tuple[SymbolId, Timeframe], Basis]
    digests: dict[Partition, str]
    before: Manifest | None
    mark: Mark
    left: list[Partition]

    def standing(self) -> dict[str, Written]:
        """Return what was written before and stands, by folder."""
        before = self.before.partitions if self.before else {}
        left = set(self.left)
        return {one.folder: before[one.folder] for one in self.digests if one not in left}


async def export(settings: Settings, job: ExportJob) -> Exported:
    """Bring an export up to date.

    What is selected is all that lies there afterwards. An export that is killed leaves whole files,
    and the next one goes on with those that are left.

    Raises
    ------
    UsageError
        If it can't be written there, another kind of export lies there, or a symbol isn't known.
    DatabaseError
        If the database fails.
    BeingLoaded
        If a series was found to be on another share basis meanwhile.
    BackfillError
        If a file can't be written.
    """
    began_s = time.monotonic()
    destination = await asyncio.to_thread(Destination.at, job.out, job.form)
    before = await asyncio.to_thread(destination.manifest)
    if before is not None and (before.format, before.adjusted) != (job.form, job.adjusted):
        raise UsageError(f"{job.out} holds {_kind(before)}: name another place, or remove that")
    await asyncio.to_thread(destination.clear)
    present = await asyncio.to_thread(destination.files)
    async with looked_into(settings) as database:
        state = await database.run(partial(_state, job=job, before=before, present=present))
        writing = _Writing(database, destination, job, state)
        writing.see_writer(before.writer if before else None)
        await writing.all()
    kept = {folder: one.file for folder, one in writing.written.items() if one.bars}
    lying = await asyncio.to_thread(destination.files)
    writing.see_own()
    if any(lying.get(folder) != file for folder, file in kept.items()):
        raise writing.overtaken()
    orphans = lying.keys() - kept.keys()
    await asyncio.to_thread(destination.remove, orphans)
    return Exported(
        out=job.out,
        format=job.form,
        adjusted=job.adjusted,
        series=len(state.parts),
        reloading=state.reloading,
        bars=sum(one.bars for one in writing.written.values()),
        bars_written=sum(writing.written[one.folder].bars for one in state.left),
        partitions=len(kept),
        written=len(state.left),
        removed=len(orphans),
        duration_s=round(time.monotonic() - began_s, 3),
    )


def _kind(manifest: Manifest) -> str:
    return f"{'adjusted' if manifest.adjusted else 'raw'} bars as {manifest.format}"


async def _state(
    connection: Connection, job: ExportJob, before: Manifest | None, present: Mapping[str, File]
) -> _State:
    """Return what there is to export, and what of it is to be written."""
    known = await ledger(connection, before.mark.at if before else None)
    adjusted_to = await bases(connection)
    if before is not None and not before.mark.is_trusted(known.runs, known.now):
        before = None
    parts, reloading = await _parts(connection, job)
    made_of = digests(parts)
    changing = before.mark.changing(known.runs) if before else []
    changed = await changed_by(connection, changing, {one.series.key: one.series for one in parts})
    left = outdated(made_of, before.partitions if before else {}, present, changed)
    return _State(parts, reloading, adjusted_to, made_of, before, Mark.of(known.runs), left)


async def _parts(connection: Connection, job: ExportJob) -> tuple[list[Part], int]:
    """Return what is covered of the series of a job, in the order of the files.

    With it comes of how many series some is being loaded again.
    """
    every, known = await covered_series(connection)
    scope = job.scope
    await see_kept(connection, scope, every)
    by_symbol = await factors(connection) if job.adjusted else {}
    parts, reloading = [], 0
    for series in filter(scope.holds, every):
        progress, asked = known[series.key], Spans.of(_range(series, scope))
        spans = progress.coverage & asked
        reloading += bool(progress.invalidated & asked)
        if progress.source is not None and spans:
            is_raw = progress.source.adjustment == "raw"
            own = by_symbol.get(series.symbol.id, ()) if is_raw else ()
            parts.append(Part(series, str(progress.source), spans, own))
    return parts, reloading


def _range(series: Series, scope: Scope) -> Span:
    """Return the range of a scope, in the series' own sessions."""
    symbol, timeframe = series
    return Span(
        to_ms(begins(symbol, scope.first.at, timeframe)) if scope.first else EVER.start_ms,
        to_ms(ends(symbol, scope.last.at, timeframe)) if scope.last else EVER.end_ms,
    )


class _Writing:
    """Writes the partitions that are left, and says in the manifest which stand.

    ``written`` are those that stand, by folder.
    """

    def __init__(
        self, database: Database, destination: Destination, job: ExportJob, state: _State
    ) -> None:
        self._database = database
        self._destination = destination
        self._job = job
        self._state = state
        self._writer = uuid4().hex
        self.written = state.standing()

    async def all(self) -> None:
        """Write all that are left, and the manifest before, meanwhile and after."""
        state = self._state
        # Until all is written, it stands up to where it stood. What is about to be replaced is no
        # longer in it: if this ends in between, nobody can tell by it what lies there.
        mark = state.before.mark if state.before else state.mark
        await self._save(mark)
        saved_s = time.monotonic()
        for one in state.left:
            self.written[one.folder] = await self._replace(one)
            if time.monotonic() - saved_s > _SAVED_EVERY_S:
                await self._save(mark)
                saved_s = time.monotonic()
        self.see_own()
        await self._see_bases()
        await self._save(state.mark)

    async def _replace(self, partition: Partition) -> Written:
        """Write a partition, and return what was written."""
        timeframe, month = partition.timeframe, partition.span
        parts = (one for one in self._state.parts if one.series.timeframe is timeframe)
        with self._destination.partition(partition.folder) as replacement:
            rows = replacement.rows
            adding: asyncio.Task[None] | None = None
            try:
                for batch in batches(parts, month, _AT_ONCE):
                    # The next bars are read while the last ones are written.
                    bars = await self._read(batch, month)
                    if adding is not None:
                        await adding
                    adding = asyncio.create_task(asyncio.to_thread(_add, rows, bars))
            finally:
                if adding is not None:
                    await asyncio.wait([adding])
            if adding is not None:
                adding.result()
            self.see_own()
        return Written(rows.written, self._state.digests[partition], replacement.file)

    async def _read(self, parts: Sequence[Part], month: Span) -> list[tuple[str, Bars]]:
        """Return the bars of some parts in a month, each with its ticker."""
        wanted = {one.series: one.within(month) for one in parts}
        found = await self._database.run(partial(bars_of_each, wanted=wanted))
        return [
            (one.series.symbol.ticker, adjusted(found[one.series], one.adjusted_within(month)))
            for one in parts
        ]

    async def _see_bases(self) -> None:
        """See that what was read of each series is on one share basis still.

        Raises
        ------
        BeingLoaded
            If a split was found meanwhile; the next export writes again what is on the old one.
        """
        before, now = self._state.bases, await self._database.run(bases)
        for series in (one.series for one in self._state.parts):
            was = before.get(series.key)
            if was is not None and not (series.key in now and now[series.key].holds(was)):
                raise BeingLoaded(
                    f"{series.symbol.ticker} {series.timeframe} is being loaded again since this "
                    "export began, after a split or by a reload: export once more when that is done"
                )

    async def _save(self, mark: Mark) -> None:
        job = self._job
        manifest = Manifest(job.form, job.adjusted, self._writer, mark, self.written)
        await asyncio.to_thread(self._destination.keep, manifest)

    def see_own(self) -> None:
        """See that no other export has begun to write there since.

        Raises
        ------
        UsageError
            If one has.
        """
        self.see_writer(self._writer)

    def see_writer(self, writer: str | None) -> None:
        """See that the manifest is a writer's, or that there is none.

        Raises
        ------
        UsageError
            If it is another's.
        """
        found = self._destination.manifest()
        if (found.writer if found else None) != writer:
            raise self.overtaken()

    def overtaken(self) -> UsageError:
        """Return that another export has begun to write there since this one looked."""
        return UsageError(f"another export writes to {self._job.out}; this one has ended")


def _add(rows: Rows, bars: Iterable[tuple[str, Bars]]) -> None:
    for ticker, own in bars:
        if len(own):
            rows.add(batch_of(own, ticker))
