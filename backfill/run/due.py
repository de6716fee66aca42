"""When the next bar of what is watched becomes final."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from backfill.core.plan import next_final_ms
from backfill.core.timeframe import Timeframe
from backfill.settings import Settings
from backfill.store.pool import Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms, to_time
from backfill.store.universe import WatchEntry


async def next_finals(
    database: Database,
    settings: Settings,
    entries: Iterable[WatchEntry],
    timeframes: Sequence[Timeframe] | None,
    now: datetime,
) -> dict[Timeframe, datetime | None]:
    """Return when, after ``now``, the next bar of any entry becomes final, by timeframe.

    Of each entry its own timeframes count where none are named; None where no bar follows.
    """
    series = {
        (entry.symbol.calendar, timeframe, account.provider.can.feed, settling)
        for entry in entries
        if entry.symbol.doubt is None
        for account in [settings.account_of(entry.provider)]
        for settling in [account.terms.of(entry.symbol.asset_type).settling]
        for timeframe in timeframes or entry.timeframes
    }
    today = now.date()
    calendars = {
        (name, feed): await load_calendar(database, name, feed, today, today, settings.night)
        for name, feed in sorted({(name, feed) for name, _, feed, _ in series})
    }
    due: dict[Timeframe, datetime | None] = {}
    for name, timeframe, feed, settling in series:
        at_ms = next_final_ms(calendars[name, feed], timeframe, settling, to_ms(now))
        found = [at for at in (due.get(timeframe), at_ms and to_time(at_ms)) if at]
        due[timeframe] = min(found, default=None)
    return due
