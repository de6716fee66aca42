"""The bodies of the smaller commands, each in a database of its own opening.

Each imports what it uses and no other does.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from backfill.run.connect import open_database
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.migrate import ensure_schema
from backfill.store.migrate import migrate as apply_migrations
from backfill.store.pool import Connection, Database

if TYPE_CHECKING:
    from backfill.admin.adopt import Adopted
    from backfill.audit.quarantine import Reopened
    from backfill.audit.status import SeriesStatus
    from backfill.core.series import Symbol
    from backfill.present.prometheus import Health
    from backfill.present.quarantine import Listing
    from backfill.store.adopt import Adoption
    from backfill.store.quarantine import Choice
    from backfill.store.query import Tell
    from backfill.store.universe import WatchEntry

_T = TypeVar("_T")


async def migrate(settings: Settings) -> list[str]:
    """Apply the migrations that are missing and return their names."""
    async with open_database(settings) as database:
        return await apply_migrations(database)


async def adopt(
    settings: Settings, *, clean: bool, tell: "Callable[[Adoption], None]"
) -> "Adopted":
    """Take over the tables of another system; ``tell`` hears first what will be done."""
    from backfill.admin.adopt import take_over

    async with open_database(settings) as database:
        return await take_over(database, settings, clean=clean, tell=tell)


async def status(settings: Settings, as_of: datetime | None) -> "list[SeriesStatus]":
    """Return the status of every series."""
    from backfill.audit.status import series_status

    async with open_database(settings) as database:
        await ensure_schema(database)
        return await series_status(database, settings, as_of)


async def health(settings: Settings, as_of: datetime | None) -> "Health":
    """Return the status of every series, how many of its bars are missing, and the last run."""
    from backfill.audit.gaps import series_gaps
    from backfill.audit.status import series_status
    from backfill.audit.tracked import tracked_series
    from backfill.present.prometheus import Health
    from backfill.store.runs import last_run

    now = as_of or datetime.now(UTC)
    async with open_database(settings) as database:
        await ensure_schema(database)
        series = await series_status(database, settings, now)
        tracked = await tracked_series(database, settings, now)
        missing = {
            (one.series.symbol.ticker, str(one.series.timeframe)): sum(
                gap.slots for gap in one.gaps if gap.alarms
            )
            for one in await series_gaps(database, now, tracked)
        }
        return Health(series, missing, await database.run(last_run))


async def add_symbols(settings: Settings, tickers: list[str]) -> "list[Symbol]":
    """Register symbols and return them; the first run that has bars of one confirms it."""
    return await _in_transaction(
        settings, lambda connection: universe.register(connection, tickers)
    )


async def list_symbols(settings: Settings) -> "list[Symbol]":
    """Return the symbols that are confirmed or watched."""
    return await _in_transaction(settings, universe.known_symbols)


async def unwatch(settings: Settings, tickers: list[str]) -> list[str]:
    """Take symbols off the watchlist and return those that were on it."""
    return await _in_transaction(settings, lambda connection: universe.unwatch(connection, tickers))


async def pause(settings: Settings, tickers: list[str], *, paused: bool) -> "list[WatchEntry]":
    """Pause entries of the watchlist, or end their pause, and return it."""

    async def work(connection: Connection) -> "list[WatchEntry]":
        await universe.pause(connection, tickers, paused=paused)
        return await universe.watched(connection)

    return await _in_transaction(settings, work)


async def watchlist(settings: Settings) -> "list[WatchEntry]":
    """Return the watchlist."""
    return await _in_transaction(settings, universe.watched)


async def list_quarantine(
    settings: Settings, choice: "Choice", listing: "Listing", *, accepted: bool, limit: int | None
) -> None:
    """Show the chosen bars in quarantine as they are read, their counts first.

    Those that were accepted are shown only if asked for, and of all no more than ``limit``.
    """
    from backfill.store import quarantine

    async with open_database(settings) as database:
        await ensure_schema(database)
        held = await database.run(partial(quarantine.held_bars, choice=choice, accepted=accepted))
        listing.begin(held)
        async for bars in quarantine.quarantined_bars(
            database, choice, held, accepted=accepted, limit=limit
        ):
            listing.add(bars)
        listing.end()


async def retry_quarantined(settings: Settings, choice: "Choice") -> "list[Reopened]":
    """Have the next run ask again for the chosen bars; return the series that it will ask for."""
    from backfill.audit.quarantine import retry

    async with open_database(settings) as database:
        await ensure_schema(database)
        return await retry(database, choice, settings.provider.can.feed, datetime.now(UTC).date())


async def accept_quarantined(settings: Settings, choice: "Choice") -> int:
    """Mark the chosen bars in quarantine as looked at and return how many."""
    from backfill.store import quarantine

    async with open_database(settings) as database:
        await ensure_schema(database)
        return await quarantine.accept(database, choice)


async def answer(settings: Settings, statement: str, tell: "Tell") -> str:
    """Run a statement of a user's own; ``tell`` hears its rows. Return how the server calls it."""
    from backfill.store import query

    async with open_database(settings) as database:
        return await query.answer(database, statement, tell)


async def _in_transaction(settings: Settings, work: Callable[[Connection], Awaitable[_T]]) -> _T:
    database: Database
    async with open_database(settings) as database:
        await ensure_schema(database)
        return await database.run(work)
