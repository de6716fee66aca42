"""Everything that a page shows of what is kept, looked up at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from backfill.audit.gaps import gaps_and_empty
from backfill.audit.queue import QueueState, queue_if_seen
from backfill.audit.status import SeriesStatus, tracked_status
from backfill.audit.tracked import Tracked, tracked_series
from backfill.core.coverage import Span, Spans
from backfill.core.series import SymbolId
from backfill.core.terms import Quota
from backfill.errors import DatabaseError, NotKept, UsageError
from backfill.run.connect import opened
from backfill.run.execution import plan_in
from backfill.run.job import Job
from backfill.run.planned import Plan
from backfill.run.symbol_events import SymbolEvent, events_of
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.closes import NewestCloses, newest_closes
from backfill.store.empty import KnownEmpty
from backfill.store.orphans import orphans
from backfill.store.pool import Connection, Database
from backfill.store.recent import Recent, recent
from backfill.store.sight import check_sight
from backfill.store.universe import WatchEntry

if TYPE_CHECKING:
    from backfill.core.gaps import Gap

LOOKED_BACK: Final = timedelta(weeks=4)
_RUNS: Final = 40
_CLOSES: Final = 60
_NOTHING: Final = KnownEmpty()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one series stands.

    ``wanted`` is what runs make of it by themselves, ``settled`` what is rightly empty of it.
    """

    tracked: Tracked
    status: SeriesStatus
    wanted: Span | None
    gaps: "tuple[Gap, ...]"
    settled: Spans


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A symbol of the watchlist whose series are not among those that are kept, and why."""

    symbol: str
    why: str


@dataclass(frozen=True, slots=True)
class Pace:
    """What a provider's plan allows, and what one of its requests takes of that."""

    quota: Quota
    cost: int

    def used(self, calls: int, seconds: float) -> float | None:
        """Return which part of what the quota lets go in a time some calls were.

        None where it bounds nothing.

        >>> Pace(Quota.parse("5/60s"), 1).used(12, 130.0)
        0.8
        """
        let_go = [one.limit * (seconds // one.period_s + 1) for one in self.quota.windows]
        return calls * self.cost / min(let_go) if let_go else None


@dataclass(frozen=True, slots=True)
class Overview:
    """How all that is kept stands, as of an instant (UTC).

    ``left_out`` are of the watchlist, ``orphans`` are ids that only bars name. ``plan`` is of a run
    of the watchlist, or says why there would be none. ``paces`` are those of the providers, by
    their names, ``provider`` names who is asked by default. ``closes`` is None unless bars were
    asked for. ``queue`` is how it stands by the real clock, or why the login doesn't see it; None
    where there is none.

    What is large stands in no repr: up to Python 3.12 `asyncio.run` makes one of its result.
    """

    at: datetime
    standings: list[Standing] = field(repr=False)
    left_out: list[LeftOut] = field(repr=False)
    orphans: list[SymbolId] = field(repr=False)
    events: list[SymbolEvent] = field(repr=False)
    recent: Recent = field(repr=False)
    plan: Plan | str = field(repr=False)
    provider: str
    paces: Mapping[str, Pace]
    closes: NewestCloses | None = field(default=None, repr=False)
    queue: QueueState | str | None = field(default=None, repr=False)


async def overview(
    settings: Settings, as_of: datetime | None = None, *, with_bars: bool = False
) -> Overview:
    """Return how all that is kept stands; nobody is called, and nothing is changed.

    Raises
    ------
    UsageError, DatabaseError
        If the database can't be used, or hides rows from this login.
    """
    async with opened(settings) as database:
        await check_sight(database)
        return await overview_in(database, settings, as_of, with_bars=with_bars)


async def overview_in(
    database: Database,
    settings: Settings,
    as_of: datetime | None = None,
    *,
    with_bars: bool = False,
) -> Overview:
    """Return how all that is kept in an open database stands, as `overview` does."""
    now = as_of or datetime.now(UTC)
    tracked = await tracked_series(database, settings, now)
    series = await tracked_status(database, now, tracked)
    found, empty = await gaps_and_empty(database, now, tracked)
    gaps = {one.series: one.gaps for one in found}

    async def look(
        connection: Connection,
    ) -> tuple[list[SymbolId], list[WatchEntry], Recent, NewestCloses | None]:
        kept = [one.series for one in tracked]
        return (
            await orphans(connection),
            await universe.watched(connection),
            await recent(connection, now - LOOKED_BACK, _RUNS),
            await newest_closes(connection, kept, _CLOSES) if with_bars else None,
        )

    ids, watchlist, runs, closes = await database.run(look)
    return Overview(
        now,
        [
            Standing(
                one,
                status,
                one.wanted(now),
                tuple(gaps.get(one.series, ())),
                empty.get(one.series.key, _NOTHING).settled,
            )
            for one, status in zip(tracked, series, strict=True)
        ],
        _left_out(watchlist, tracked, now),
        ids,
        events_of(watchlist),
        runs,
        await _plan(database, settings, now),
        settings.provider.name,
        _paces(settings, tracked, runs),
        closes,
        await queue_if_seen(database),
    )


def _left_out(watchlist: list[WatchEntry], tracked: list[Tracked], now: datetime) -> list[LeftOut]:
    """Return the symbols that are watched and due, of which nobody can tell how they stand."""
    kept = {one.series.key for one in tracked}
    return [
        LeftOut(one.symbol.ticker, _why_left_out(one, now))
        for one in watchlist
        if one.is_due and one.symbol.retired_on is None
        if any((one.symbol.id, timeframe) not in kept for timeframe in one.timeframes)
    ]


def _why_left_out(entry: WatchEntry, now: datetime) -> str:
    if entry.symbol.doubt is not None:
        return entry.symbol.doubt
    try:
        entry.since_day(now.date())
    except NotKept as error:
        return str(error)
    return f"no sessions of its calendar, {entry.symbol.calendar}, are known"


async def _plan(database: Database, settings: Settings, now: datetime) -> Plan | str:
    try:
        return await plan_in(database, settings, Job(as_of=now))
    except (UsageError, DatabaseError) as error:
        return str(error)


def _paces(settings: Settings, tracked: list[Tracked], runs: Recent) -> dict[str, Pace]:
    """Return what the plans of the providers allow that series have, or runs asked."""
    named = {one.account.provider.name for one in tracked if not one.is_imported}
    named |= {one.provider for one in runs.runs}
    accounts = {name: settings.account_of(name) for name in sorted(named)}
    return {
        name: Pace(one.quota, one.provider.can.cost)
        for name, one in accounts.items()
        if one.provider.name == name
    }
