"""The calendar in the database: sessions, filled from what is listed of them, and feeds' hours."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import structlog

from backfill.core.calendar import ZONES, Calendar, Hours, Night, Session
from backfill.core.when import EARLIEST_DAY
from backfill.errors import NoCalendar
from backfill.store.exchange import Listing, list_sessions
from backfill.store.pool import Connection, Database
from backfill.store.quote import Quoted, bound
from backfill.store.times import day_of, to_ms, told_day

log = structlog.stdlib.get_logger()

_EARLIEST: Final = date(2003, 1, 1)
_AHEAD: Final = timedelta(days=60)
_MARGIN: Final = timedelta(days=40)
_NONE_KEPT: Final[Mapping[str, Mapping[str, Any]]] = {}

# Of some calendars how far the library's sessions reach, whether any can be written, every row of
# hours, and every day that they trade from a day of each on, these two as texts: most that are read
# are as they were; served by the primary keys.
_CALENDARS: Final = """
    SELECT
        c.name,
        c.shown,
        l.first,
        l.last,
        current_setting('transaction_read_only')::boolean AS read_only,
        (
            SELECT coalesce(json_agg(h), '[]')::text
            FROM market_hours AS h
            WHERE h.calendar = c.name
        ) AS hours,
        (
            SELECT coalesce(json_agg(s), '[]')::text
            FROM (
                SELECT session, extract(epoch FROM opens_at)::bigint * 1000 AS open_ms,
                    extract(epoch FROM closes_at)::bigint * 1000 AS close_ms
                FROM market_sessions
                WHERE calendar = c.name AND session BETWEEN c.shown AND $2
                    AND opens_at IS NOT NULL
                ORDER BY session
            ) AS s
        ) AS sessions
    FROM ({calendars}) AS c (name, shown)
    CROSS JOIN LATERAL (
        SELECT min(session) AS first, max(session) AS last
        FROM market_sessions
        WHERE calendar = c.name AND NOT manual
    ) AS l
"""
# One calendar, from a day on.
_ONE: Final = _CALENDARS.format(calendars="SELECT $1, $3::date")
# The calendars of symbols, each from two margins before the first day on which the ledger knows
# anything of their series, or that is named, if that is earlier.
_OF_SYMBOLS: Final = _CALENDARS.format(
    calendars="""
        SELECT
            s.calendar,
            greatest(
                least(
                    (min(least(p.wanted_from, p.oldest_bar, lower(p.invalidated)))
                        AT TIME ZONE 'UTC')::date,
                    $3::date
                ),
                $4::date
            ) - $5
        FROM symbols AS s
        JOIN backfill_progress AS p ON p.symbol_id = s.id
        WHERE s.id IN ($1)
        GROUP BY s.calendar
    """
)
# Every day that was set by hand in the asked range, also one on which the calendar doesn't trade.
_BY_HAND: Final = """
    SELECT session, extract(epoch FROM opens_at)::bigint * 1000 AS open_ms,
        extract(epoch FROM closes_at)::bigint * 1000 AS close_ms
    FROM market_sessions
    WHERE calendar = $1 AND session BETWEEN $2 AND $3 AND manual
"""
# What the library no longer lists goes, what is new comes, what was set by hand stays.
_REMOVE: Final = """
    DELETE FROM market_sessions
    WHERE calendar = $1 AND NOT manual AND session BETWEEN $2 AND $3
        AND session <> ALL ($4::date[])
"""
# The sessions that the library lists; by the primary key.
_FILL: Final = """
    INSERT INTO market_sessions AS m (calendar, session, opens_at, closes_at)
    SELECT $1, * FROM unnest($2::date[], $3::timestamptz[], $4::timestamptz[])
    ON CONFLICT (calendar, session) DO UPDATE
    SET opens_at = excluded.opens_at, closes_at = excluded.closes_at
    WHERE NOT m.manual
        AND (m.opens_at, m.closes_at) IS DISTINCT FROM (excluded.opens_at, excluded.closes_at)
"""


Kept: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What the table has of some calendars, by their names."""


def keeping(symbols: Quoted, first: date | None, today: date) -> str:
    """Return the query for the calendars of symbols, whose ids a query tells; for `read_kept`.

    The sessions begin early enough for what the ledger knows of their series and for ``first``.
    """
    return bound(_OF_SYMBOLS, symbols, today + _MARGIN, first, EARLIEST_DAY, 2 * _MARGIN.days)


def read_kept(rows: Iterable[Mapping[str, Any]]) -> Kept:
    """Return what rows tell of calendars, for `load_calendar`."""
    return {row["name"]: row for row in rows}


async def load_calendar(
    database: Database,
    name: str,
    feed: str,
    first: date,
    today: date,
    night: Night = Night.keep,
    kept: Kept = _NONE_KEPT,
) -> Calendar:
    """Return a feed's calendar, from a month before ``first``, or today, to a month after today.

    Days that the table lacks are filled from exchange_calendars first, which takes a second; where
    nothing can be written, they are only read from there. Where the library doesn't reach, what the
    table has is what there is. What was ``kept`` of the table just now isn't read again where it
    begins early enough.

    Raises
    ------
    NoCalendar
        If there is no such calendar, or not one session of it.
    """
    if name not in ZONES:
        raise NoCalendar(f"there is no calendar {name!r}: a symbol's is one of {', '.join(ZONES)}")
    # A series can begin after today where the clock was set back: it has a calendar all the same.
    first = min(max(first, EARLIEST_DAY), today)
    start, end = min(first, _EARLIEST) - _MARGIN, today + _MARGIN

    shown = first - _MARGIN

    async def read() -> Mapping[str, Any]:
        ((known,),) = await database.ask(bound(_ONE, name, end, shown))
        return known

    known = kept.get(name)
    if known is None or day_of(known["shown"]) > shown:
        known = await read()
    reach = told_day(known["first"]), told_day(known["last"])
    if not _covers(reach, start + _MARGIN / 2, end - _MARGIN / 2):
        listing = list_sessions(name, start, today + _AHEAD)
        if listing.problem is not None:
            log.warning("calendar.short", calendar=name, message=listing.problem)
        if known["read_only"]:
            listed = [Session(row[0], to_ms(row[1]), to_ms(row[2])) for row in listing.rows]
            (by_hand,) = await database.ask(bound(_BY_HAND, name, shown, end))
            within = [one for one in listed if shown <= one.day <= end]
            sessions = _with([*_sessions(known["sessions"]), *within], map(_session, by_hand))
            return _calendar(name, feed, night, sessions, known["hours"], first)
        await database.run(partial(_fill, name=name, listing=listing))
        known = await read()
    return _as_kept(name, feed, night, known["sessions"], known["hours"], first)


@lru_cache(maxsize=16)
def _as_kept(
    name: str, feed: str, night: Night, sessions: str, hours: str, first: date
) -> Calendar:
    """Return the calendar of what is kept: the same one for the same, as decades take long."""
    return _calendar(name, feed, night, _sessions(sessions), hours, first)


def _calendar(
    name: str, feed: str, night: Night, sessions: list[Session], hours: str, first: date
) -> Calendar:
    if not sessions:
        raise NoCalendar(
            f"the calendar {name} has no session from {first} on: add those of the exchange to "
            "market_sessions, marked manual"
        )
    own = [_hours(row) for row in json.loads(hours) if row["feed"] == feed]
    return Calendar.of(name, ZONES[name], sessions, own, night)


def _covers(reach: tuple[date | None, date | None], start: date, end: date) -> bool:
    """Whether what the table has of the library reaches so far."""
    first, last = reach
    return first is not None and last is not None and first <= start and last >= end


def _sessions(text: str) -> list[Session]:
    return list(map(_session, json.loads(text)))


def _session(row: Mapping[str, Any]) -> Session:
    return Session(day_of(row["session"]), row["open_ms"], row["close_ms"])


def _hours(row: Mapping[str, Any]) -> Hours:
    at_night = row["night_opens"]
    return Hours(
        day_of(row["first_session"]),
        day_of(row["last_session"]),
        time.fromisoformat(row["opens"]),
        time.fromisoformat(row["closes"]),
        time.fromisoformat(at_night) if at_night else None,
        row["manual"],
    )


async def _fill(connection: Connection, name: str, listing: Listing) -> None:
    """Bring the table to what the library lists, as far as that reaches."""
    if listing.reach is not None:
        days = [day for day, _, _ in listing.rows]
        await connection.execute(_REMOVE, name, *listing.reach, [*days, *listing.lost])
        opens, closes = ([row[at] for row in listing.rows] for at in (1, 2))
        await connection.execute(_FILL, name, days, opens, closes)


def _with(listed: Iterable[Session], by_hand: Iterable[Session]) -> list[Session]:
    """Return sessions as the table would have them: what was set by hand before what is listed."""
    sessions = {one.day: one for one in (*listed, *by_hand)}
    return [sessions[day] for day in sorted(sessions) if sessions[day].open_ms is not None]
