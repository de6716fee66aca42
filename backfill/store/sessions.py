"""The calendar in the database: sessions, filled from exchange_calendars, and feeds' hours."""

import warnings
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

from backfill.core.calendar import ZONES, Calendar, Hours, Night, Session
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms

_Row: TypeAlias = "tuple[date, datetime, datetime]"

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
# Every day that was set by hand in the asked range, also one on which the calendar doesn't trade.
_BY_HAND: Final = """
    SELECT session, opens_at, closes_at
    FROM market_sessions
    WHERE calendar = $1 AND session BETWEEN $2 AND $3 AND manual
"""
# How far the library's sessions reach, every row of hours of the feed, and whether sessions can be
# written.
_KNOWN: Final = """
    SELECT
        min(session) AS first,
        max(session) AS last,
        current_setting('transaction_read_only')::boolean AS read_only,
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

    Days that the table lacks are filled from exchange_calendars first, which takes a second; where
    nothing can be written, they are only read from there.
    """
    start, end = min(first, _EARLIEST) - _MARGIN, today + _MARGIN

    async def work(connection: Connection) -> Calendar:
        known = (await connection.fetch(_KNOWN, name, feed))[0]
        filled = known["first"] is not None
        listed: list[_Row] = []
        shown = first - _MARGIN
        if not filled or known["first"] > start + _MARGIN / 2 or known["last"] < end - _MARGIN / 2:
            listed = _listed(name, start, today + _AHEAD)
            if not known["read_only"]:
                await _fill(connection, name, start, today + _AHEAD, listed)
        if listed and known["read_only"]:
            by_hand = await connection.fetch(_BY_HAND, name, shown, end)
            rows = _with([row for row in listed if shown <= row[0] <= end], by_hand)
        else:
            rows = await connection.fetch(_SESSIONS, name, shown, end)
        return Calendar.of(
            name,
            ZONES[name],
            [Session(row[0], to_ms(row[1]), to_ms(row[2])) for row in rows],
            [Hours(*hours) for hours in known["hours"]],
            night,
        )

    return await database.run(work)


def _listed(name: str, first: date, last: date) -> list[_Row]:
    """Return the days that the library lists, with when they open and close."""
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads Series.values, which pandas 3.1 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        schedule = exchange_calendars.get_calendar(name, start=first, end=last).schedule
    return [
        (day.date(), opens_at.to_pydatetime(), closes_at.to_pydatetime())
        for day, opens_at, closes_at in zip(
            schedule.index, schedule["open"], schedule["close"], strict=True
        )
    ]


async def _fill(
    connection: Connection, name: str, first: date, last: date, listed: Sequence[_Row]
) -> None:
    days = [row[0] for row in listed]
    await connection.execute(_REMOVE, name, first, last, days)
    await connection.execute(
        _FILL, name, days, [row[1] for row in listed], [row[2] for row in listed]
    )


def _with(listed: Sequence[_Row], by_hand: Sequence[Sequence[Any]]) -> list[_Row]:
    """Return sessions as the table would have them: what was set by hand before what is listed."""
    sessions: dict[date, Any] = {row[0]: tuple(row) for row in (*listed, *by_hand)}
    return [sessions[day] for day in sorted(sessions) if sessions[day][1] is not None]
