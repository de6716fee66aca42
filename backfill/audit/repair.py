"""A look at what is there, and the repair of what is missing or differs.

What asks the provider is imported where something is asked: a look at the gaps asks nothing.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backfill.audit.gaps import SeriesGaps, series_gaps
from backfill.audit.tracked import tracked_series
from backfill.core.coverage import Spans
from backfill.core.work import Mode
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.run.connect import open_client, open_database
from backfill.run.job import EVERYTHING, Job, Scope
from backfill.settings import Settings
from backfill.store import progress
from backfill.store.migrate import ensure_schema
from backfill.store.pool import Connection
from backfill.store.times import to_ms

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
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
) -> Findings:
    """Return the gaps of the series of a scope, by symbol (R6).

    With ``verify_calls``, a random sample of what is covered is asked for again in at most as many
    calls, and held against what is stored: corrections that came after a bar was final show here.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    now = as_of or datetime.now(UTC)
    stop = stop or StopSignal()
    if verify_calls is not None:
        settings.api_key()
    async with AsyncExitStack() as stack:
        database = await stop.unless_set(stack.enter_async_context(open_database(settings)))
        await ensure_schema(database)
        tracked = await tracked_series(database, settings, now, scope)
        found = await series_gaps(database, settings, now, tracked)
        if verify_calls is None:
            return Findings(found, None)
        from backfill.audit.verify import Verification, Verifier, samples

        chosen, failures = samples(tracked, settings, now, verify_calls)
        result = Verification(Tally(limit=verify_calls), failures=failures)
        symbols = len({sample.tracked.series.symbol.id for sample in chosen})
        async with open_client(
            settings,
            database,
            result.tally,
            stop,
            now_ms=to_ms(now),
            symbols=symbols,
        ) as client:
            await Verifier(settings, database, client, now, result).verify(chosen)
        return Findings(found, result)


async def repair(
    settings: Settings,
    as_of: datetime | None = None,
    scope: Scope = EVERYTHING,
    *,
    verify_calls: int | None = None,
    stop: StopSignal | None = None,
    watch: "Callable[[Running], None] | None" = None,
) -> Repair:
    """Ask for the gaps of a scope and for what differs, just those, and see what is left (R7).

    Both are taken out of the coverage first: if this ends early, the next run goes on.

    Raises
    ------
    UsageError, DatabaseError
        As `run` does.
    """
    from backfill.audit.verify import relatives
    from backfill.run.execution import run

    settings.api_key()
    found = await gaps(settings, as_of, scope, verify_calls=verify_calls, stop=stop)
    asked = {one.series: one.askable for one in found.gaps if one.askable}
    if found.verification is not None:
        for series, spans in found.verification.differing.items():
            asked[series] = asked.get(series, Spans()) | spans
    if not asked:
        return Repair(found, None, found.gaps)
    differing = found.verification.differing if found.verification else {}
    async with open_database(settings) as database:
        kept = Scope(tickers=[series.symbol.ticker for series in asked])
        tracked = await tracked_series(database, settings, as_of or datetime.now(UTC), kept)
        for series, spans in relatives(tracked, differing).items():
            asked[series] = asked.get(series, Spans()) | spans

        async def invalidate(connection: Connection) -> None:
            for series, spans in asked.items():
                await progress.invalidate(connection, series, spans)

        await database.run(invalidate)
    job = Job(
        series=tuple((series.symbol.ticker, series.timeframe) for series in asked),
        mode=Mode.repair,
        as_of=as_of,
    )
    summary = await run(settings, job, stop=stop, watch=watch)
    left = await gaps(settings, as_of, scope)
    return Repair(found, summary, left.gaps)
