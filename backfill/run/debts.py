"""The lists of splits and dividends that are to be read behind bars: who owes that, who does it.

A run owes them from before its first call, in its row of the ledger, until it has read them: so
whatever ends it, the next run sees what is left. Without them the adjusted prices would be wrong
and look right.
"""

from collections.abc import Sequence

from backfill.core.calendar import Calendar
from backfill.core.work import Work
from backfill.errors import NoCalendar
from backfill.providers.base import Actions
from backfill.run.lane import Lane
from backfill.run.outcomes import Outcomes
from backfill.run.prepare import Prepared
from backfill.settings import Settings
from backfill.store.pool import Database
from backfill.store.runs import Owed
from backfill.store.sessions import load_calendar
from backfill.store.times import to_time

_OF_SHARES = "XNYS"


def to_be_listed(lanes: Sequence[Lane], prepared: Prepared) -> list[str]:
    """Return the providers whose lists are to be read behind what is due."""
    return [
        lane.name
        for lane in lanes
        if isinstance(lane.account.provider, Actions)
        and any(work.due for work in _of_shares(lane, prepared))
    ]


def left_unlisted(lanes: Sequence[Lane], outcomes: Outcomes) -> list[str]:
    """Return the providers of whom bars of shares were stored, and no list was read since."""
    stored = {
        outcomes.provider_of.get(series) for series in outcomes.stored if series.symbol.is_share
    }
    return [
        lane.name
        for lane in lanes
        if lane.name in stored - outcomes.listed and isinstance(lane.account.provider, Actions)
    ]


async def left_by_others(
    database: Database, settings: Settings, lanes: Sequence[Lane], prepared: Prepared, owed: Owed
) -> dict[str, Calendar]:
    """Return those of the run's providers whose lists others owe, with the sessions of shares."""
    found = {}
    for lane in lanes:
        if lane.name in owed.providers:
            mine = _of_shares(lane, prepared)
            try:
                found[lane.name] = (
                    mine[0].calendar if mine else await _calendar(database, settings, lane)
                )
            except NoCalendar:
                continue
    return found


def _of_shares(lane: Lane, prepared: Prepared) -> list[Work]:
    return [work for work, _ in lane.part(prepared.work) if work.is_of_shares]


async def _calendar(database: Database, settings: Settings, lane: Lane) -> Calendar:
    today = to_time(lane.rules.now_ms).date()
    feed = lane.rules.can.feed
    return await load_calendar(database, _OF_SHARES, feed, today, today, settings.night)
