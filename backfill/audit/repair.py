"""A look at what is there, and the repair of what is missing or differs.

What asks the provider is imported where something is asked: a look at the gaps asks nothing.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backfill.audit.gaps import SeriesGaps, series_gaps
from backfill.audit.tracked import tracked_series
from backfill.core.coverage import Spans
from backfill.core.dataclass import dataclass
from backfill.core.series import Series
from backfill.core.work import Mode
from backfill.errors import DatabaseError, Stopped
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally
from backfill.run.connect import opened_until
from backfill.run.job import EVERYTHING, Job, Scope
from backfill.settings import Settings
from backfill.store import progress
from backfill.store.pool import Connection, Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from backfill.audit.verify import Verification
    from backfill.run.execution import Running
    from backfill.run.outcomes import Summary


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the series found: gaps, and how a sample of stored bars compares, if asked."""

    gaps: list[SeriesGaps]
    verification: "Verification | None"

    @property
    def exit_code(self) -> int:
        """4 for a gap or a bar that differs; what kept a sample from being taken goes first.

        What the provider may be late with is no gap yet.
        """
        code = self.verification.exit_code if self.verification else 0
        return code or (4 if any(one.alarms for one in self.gaps) else 0)

    @property
    def error(self) -> str | None:
        """What ended the verification before its end, if something did."""
        error = self.verification.error if self.verification else None
        return str(error) if error else None


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair of gaps and differences: those found first, the run for them, the gaps left.

    ``summary`` is None where there was nothing to ask for.
    """

    found: Findings
    summary: "Summary | None"
    left: list[SeriesGaps]

    @property
    def exit_code(self) -> int:
        """The run's or the verification's, or 4 if a gap is left that is not confirmed."""
        if self.summary is not None and self.summary.exit_code:
            return self.summary.exit_code
        if self.found.verification and self.found.verification.exit_code not in {0, 4}:
            return self.found.verification.exit_code
        return 4 if any(one.alarms for one in self.left) else 0

    @property
    def error(self) -> str | None:
        """What ended the run or the verification before its end, if something did."""
        return (self.summary.error if self.summary else None) or self.found.error


async def gaps(
    settings: Settings,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    extended: bool = False,
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
) -> Findings:
    """Return the gaps of the series of a scope, by symbol (R6).

    With ``extended`` also those outside the regular session that other stored bars prove. With
    ``verify_calls``, a random sample of what is covered is asked for again in at most as many
    calls, and held against what is stored: corrections that came after a bar was final show here.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    now, stop = as_of or datetime.now(UTC), stop or StopSignal()
    async with opened_until(settings, stop) as database:
        return await _look(database, settings, now, scope, verify_calls, stop, extended=extended)


async def repair(
    settings: Settings,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    extended: bool = False,
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
    on_plan: "Callable[[Running], None] | None" = None,
) -> Repair:
    """Ask for the gaps of a scope and for what differs, just those, and see what is left (R7).

    Both are taken out of the coverage first: if this ends early, the next run goes on.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    now, stop = as_of or datetime.now(UTC), stop or StopSignal()
    async with opened_until(settings, stop) as database:
        found = await _look(database, settings, now, scope, verify_calls, stop, extended=extended)
        asked = await _invalidated(database, settings, now, found)
        if not asked:
            return Repair(found, None, found.gaps)
        from backfill.run.execution import run_in

        job = Job(
            series=tuple((series.symbol.ticker, series.timeframe) for series in asked),
            mode=Mode.repair,
            as_of=now,
        )
        summary = await run_in(database, settings, job, stop=stop, on_plan=on_plan)
        left = await _look(database, settings, now, scope, None, stop, extended=extended)
        return Repair(found, summary, left.gaps)


async def _look(
    database: Database,
    settings: Settings,
    now: datetime,
    scope: Scope,
    verify_calls: int | None,
    stop: StopSignal,
    *,
    extended: bool,
) -> Findings:
    tracked = await tracked_series(database, settings, now, scope)
    found = await series_gaps(database, now, tracked)
    if extended:
        found = await _with_extended(database, settings, now, scope, found)
    if verify_calls is None:
        return Findings(found, None)
    from backfill.audit.archives import check_files
    from backfill.audit.sampling import ask
    from backfill.audit.verify import Verification, samples

    result = Verification(Tally(Budget(verify_calls)))
    with Reader() as reader:
        try:
            # Half of the calls are left for pages, however many files were read.
            result.files = await check_files(
                database, now, tracked, result.tally, stop, reader, most=verify_calls // 2
            )
        except (DatabaseError, Stopped) as error:
            result.error = error
            return Findings(found, result)
        chosen, failures = samples(tracked, now, verify_calls - result.tally.calls)
        result.failures += failures
        await ask(database, now, chosen, result, stop, reader)
    return Findings(found, result)


async def _invalidated(
    database: Database, settings: Settings, now: datetime, found: Findings
) -> dict[Series, Spans]:
    """Take gaps and what differs out of the coverage, with what is wrong for it; return both."""
    asked = {one.series: one.askable for one in found.gaps if one.askable}
    differing = found.verification.differing if found.verification else {}
    reopened = found.verification.files.reopened if found.verification else {}
    for series, spans in reopened.items():
        asked[series] = asked.get(series, Spans()) | spans
    for series, spans in differing.items():
        asked[series] = asked.get(series, Spans()) | spans
    if not asked:
        return asked
    if differing or any(series.timeframe.is_intraday for series in asked):
        from backfill.audit.extended import beside_the_session
        from backfill.audit.verify import relatives

        kept = Scope(tickers=[series.symbol.ticker for series in asked])
        tracked = await tracked_series(database, settings, now, kept)
        for series, spans in relatives(tracked, differing).items():
            asked[series] = asked.get(series, Spans()) | spans
        for series, spans in beside_the_session(tracked, asked).items():
            asked[series] |= spans

    async def invalidate(connection: Connection) -> None:
        for series, spans in asked.items():
            await progress.invalidate(connection, series, spans)

    await database.run(invalidate)
    return asked


async def _with_extended(
    database: Database,
    settings: Settings,
    now: datetime,
    scope: Scope,
    found: list[SeriesGaps],
) -> list[SeriesGaps]:
    """Add the gaps outside the regular session, proven by series in the scope or beside it."""
    from backfill.audit.extended import with_extended

    every = await tracked_series(database, settings, now, replace(scope, timeframes=None))
    gaps = await with_extended(database, now, every, found)
    return [one for one in gaps if scope.holds(one.series)]
