"""The calendar in the database: sessions, filled from exchange_calendars, and feeds' hours."""

import warnings
from datetime import date, timedelta
from typing import Final

from backfill.core.calendar import ZONES, Calendar, Hours, Night, Session
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms

_EARLIEST: Final = date(2003, 1, 1)
_AHEAD: Final = timedelta(days=60)
_MARGIN: Final = timedelta(days=40)

# Every day the calendar trades in the asked range; served by the primary key.
_SESSIONS: Final = """
    SELECT session, opens_at, closes_at
    FROM market_sessions
    WHERE calendar = $1 AND session BETWEEN $2 AND $3 AND opens_at IS NOT NULL
    ORDER BY session
"""
# How far the library's sessions reach, and every row of hours of the feed.
_KNOWN: Final = """
    SELECT
        min(session) AS first,
        max(session) AS last,
        ARRAY(
            SELECT (h.first_session, h.last_session, h.opens, h.closes, h.night_opens, h.manual)
            FROM market_hours AS h
            WHERE h.calendar = $1 AND h.feed = $2
        ) AS hours
    FROM market_sessions
    WHERE calendar = $1 AND NOT manual
"""
# What the library no longer lists goes, what is new comes, what was set by hand stays.
_REMOVE: Final = """
    DELETE FROM market_sessions
    WHERE calendar = $1 AND NOT manual AND session BETWEEN $2 AND $3
        AND session <> ALL ($4::date[])
"""
_FILL: Final = """
    INSERT INTO market_sessions AS m (calendar, session, opens_at, closes_at)
    SELECT $1, * FROM unnest($2::date[], $3::timestamptz[], $4::timestamptz[])
    ON CONFLICT (calendar, session) DO UPDATE
    SET opens_at = excluded.opens_at, closes_at = excluded.closes_at
    WHERE NOT m.manual
        AND (m.opens_at, m.closes_at) IS DISTINCT FROM (excluded.opens_at, excluded.closes_at)
"""


async def load_calendar(
    database: Database,
    name: str,
    feed: str,
    first: date,
    today: date,
    night: Night = Night.keep,
) -> Calendar:
    """Return a feed's calendar, from a month before ``first`` to a month after ``today``.

    Days that the table lacks are filled from exchange_calendars first, which takes a second.
    """
    start, end = min(first, _EARLIEST) - _MARGIN, today + _MARGIN

    async def work(connection: Connection) -> Calendar:
        known = (await connection.fetch(_KNOWN, name, feed))[0]
        filled = known["first"] is not None
        if not filled or known["first"] > start + _MARGIN / 2 or known["last"] < end - _MARGIN / 2:
            await _fill(connection, name, start, today + _AHEAD)
        rows = await connection.fetch(_SESSIONS, name, first - _MARGIN, end)
        return Calendar.of(
            name,
            ZONES[name],
            [Session(row[0], to_ms(row[1]), to_ms(row[2])) for row in rows],
            [Hours(*hours) for hours in known["hours"]],
            night,
        )

    return await database.run(work)


async def _fill(connection: Connection, name: str, first: date, last: date) -> None:
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads Series.values, which pandas 3.1 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        schedule = exchange_calendars.get_calendar(name, start=first, end=last).schedule
    days = [day.date() for day in schedule.index]
    await connection.execute(_REMOVE, name, first, last, days)
    await connection.execute(
        _FILL,
        name,
        days,
        [at.to_pydatetime() for at in schedule["open"]],
        [at.to_pydatetime() for at in schedule["close"]],
    )
