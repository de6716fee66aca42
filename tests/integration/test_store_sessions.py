"""The calendar in the database: filled once, and what was set by hand stays."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import exchange_calendars
import pytest
import structlog

from backfill.core.calendar import Calendar, Session
from backfill.errors import DatabaseError, NoCalendar
from backfill.store import sessions as filling
from backfill.store.exchange import Listing
from backfill.store.pool import Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_time
from tests.calendars import sessions
from tests.conftest import _leave
from tests.integration.store_kit import connection_to, database_name, rows, value

pytestmark = pytest.mark.one_database

FIRST = date(2024, 10, 1)
TODAY = date(2024, 11, 12)
THANKSGIVING, BLACK_FRIDAY = date(2024, 11, 28), date(2024, 11, 29)
MONDAY = date(2024, 11, 11)

_MANUAL = """
    INSERT INTO market_sessions (calendar, session, opens_at, closes_at, manual)
    VALUES ('XNYS', $1, $2, $3, true)
    ON CONFLICT (calendar, session) DO UPDATE
    SET opens_at = excluded.opens_at, closes_at = excluded.closes_at, manual = true
"""


def _sessions(loaded: Calendar) -> list[Session]:
    return [
        Session(date.fromordinal(day), opens, closes)
        for day, opens, closes in zip(
            loaded.day_ordinals.tolist(),
            loaded.open_ms.tolist(),
            loaded.close_ms.tolist(),
            strict=True,
        )
    ]


async def _days(database: Database, first: date = FIRST) -> list[date]:
    """Return the days of the calendar in October and November 2024."""
    loaded = await load_calendar(database, "XNYS", "sip", first, TODAY)
    return [session.day for session in _sessions(loaded) if session.day >= FIRST]


async def _make_stale(database: Database) -> None:
    """Take away the newest days, as if the table had last been filled a while ago."""
    await rows(database, "DELETE FROM market_sessions WHERE session > '2024-12-01' AND NOT manual")


def _refuse(*_values: Any, **_options: Any) -> None:
    raise AssertionError("the library was asked again")


async def test_a_calendar_that_the_table_lacks_is_filled_with_its_true_sessions(
    database: Database,
) -> None:
    loaded = await load_calendar(database, "XNYS", "sip", FIRST, TODAY)
    true = sessions("XNYS", FIRST - timedelta(days=40), TODAY + timedelta(days=40))
    assert _sessions(loaded) == list(true)
    (early,) = [session for session in _sessions(loaded) if session.day == BLACK_FRIDAY]
    assert early.close_ms == datetime(2024, 11, 29, 18, tzinfo=UTC).timestamp() * 1000


async def test_a_calendar_that_is_there_is_not_asked_of_the_library_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await _days(database)
    monkeypatch.setattr(exchange_calendars, "get_calendar", _refuse)
    assert await _days(database) == before
    with pytest.raises(AssertionError, match="asked again"):
        await load_calendar(database, "XNYS", "sip", FIRST, TODAY + timedelta(days=60))


async def test_a_calendar_reaches_back_to_where_it_is_asked_for(database: Database) -> None:
    await _days(database)
    loaded = await load_calendar(database, "XNYS", "sip", date(1999, 1, 4), TODAY)
    days = [session.day for session in _sessions(loaded)]
    assert date(1999, 1, 4) in days
    assert date(2001, 9, 12) not in days  # closed after the attacks
    assert days[-1] > TODAY + timedelta(days=30)


async def test_a_clock_before_the_first_day_has_the_sessions_around_it(database: Database) -> None:
    earlier = FIRST - timedelta(days=400)
    for first in (FIRST, TODAY):
        found = _sessions(await load_calendar(database, "24/7", "sip", first, earlier))
        assert found[0].day < earlier < found[-1].day


async def test_crypto_trades_every_day_from_midnight_to_midnight(database: Database) -> None:
    loaded = await load_calendar(database, "24/7", "sip", FIRST, TODAY)
    days = [session.day for session in _sessions(loaded)]
    first, last = FIRST - timedelta(days=40), TODAY + timedelta(days=40)
    assert days == [first + timedelta(days=n) for n in range((last - first).days + 1)]
    day_ms = 86_400_000
    assert {(one.open_ms % day_ms, one.close_ms - one.open_ms) for one in _sessions(loaded)} == {
        (0, day_ms)
    }


async def test_a_day_closed_by_hand_is_no_session_before_and_after_a_refill(
    database: Database,
) -> None:
    before = await _days(database)
    await rows(database, _MANUAL, MONDAY, None, None)
    closed = [day for day in before if day != MONDAY]
    assert await _days(database) == closed
    await _make_stale(database)
    assert await _days(database) == closed
    row = await rows(database, "SELECT * FROM market_sessions WHERE session = $1", MONDAY)
    assert (row[0]["opens_at"], row[0]["manual"]) == (None, True)


async def test_hours_changed_by_hand_survive_a_refill(database: Database) -> None:
    await _days(database)
    opens, closes = (datetime(2024, 11, 11, hour, tzinfo=UTC) for hour in (15, 17))
    await rows(database, _MANUAL, MONDAY, opens, closes)
    await _make_stale(database)
    loaded = await load_calendar(database, "XNYS", "sip", FIRST, TODAY)
    (changed,) = [session for session in _sessions(loaded) if session.day == MONDAY]
    assert (changed.open_ms, changed.close_ms) == (
        opens.timestamp() * 1000,
        closes.timestamp() * 1000,
    )


async def test_a_session_added_by_hand_on_a_holiday_survives_a_refill(database: Database) -> None:
    assert THANKSGIVING not in await _days(database)
    hours = [datetime(2024, 11, 28, hour, tzinfo=UTC) for hour in (15, 17)]
    await rows(database, _MANUAL, THANKSGIVING, *hours)
    assert THANKSGIVING in await _days(database)
    await _make_stale(database)
    assert THANKSGIVING in await _days(database)


async def test_a_session_that_the_library_no_longer_lists_is_removed_by_a_refill(
    database: Database,
) -> None:
    days = await _days(database)
    hours = [datetime(2024, 11, 28, hour, tzinfo=UTC) for hour in (15, 17)]
    await rows(
        database,
        "INSERT INTO market_sessions VALUES ('XNYS', $1, $2, $3)",
        THANKSGIVING,
        *hours,
    )
    await _make_stale(database)
    assert await _days(database) == days


async def test_hours_that_the_library_corrects_are_corrected_by_a_refill(
    database: Database,
) -> None:
    await _days(database)
    good = await value(
        database, "SELECT closes_at FROM market_sessions WHERE session = $1", BLACK_FRIDAY
    )
    await rows(
        database,
        "UPDATE market_sessions SET closes_at = closes_at + interval '3 h' WHERE session = $1",
        BLACK_FRIDAY,
    )
    await _make_stale(database)
    await _days(database)
    sql = "SELECT closes_at FROM market_sessions WHERE session = $1"
    assert await value(database, sql, BLACK_FRIDAY) == good


async def test_one_calendar_is_filled_without_touching_another(database: Database) -> None:
    await load_calendar(database, "24/7", "sip", FIRST, TODAY)
    count = "SELECT count(*) FROM market_sessions WHERE calendar = '24/7'"
    before = await value(database, count)
    await _days(database)
    assert await value(database, count) == before


@pytest.mark.parametrize(
    "row",
    [
        "('XNYS', '2024-11-11', '2024-11-11 15:00Z', NULL, true)",
        "('XNYS', '2024-11-11', NULL, '2024-11-11 15:00Z', true)",
        "('XNYS', '2024-11-11', NULL, NULL, false)",
    ],
)
async def test_a_session_with_half_its_hours_or_closed_by_the_library_is_refused(
    database: Database, row: str
) -> None:
    with pytest.raises(DatabaseError, match="violates check constraint"):
        await rows(database, f"INSERT INTO market_sessions VALUES {row} RETURNING 1")


async def test_the_trading_day_of_a_feed_is_what_the_table_says_and_rows_set_by_hand_win(
    database: Database,
) -> None:
    await rows(
        database,
        """
        INSERT INTO market_hours (
            calendar, feed, first_session, last_session, opens, closes, night_opens, manual
        )
        VALUES
            ('XNYS', 'sip', '2024-11-11', 'infinity', '04:00', '20:00', '21:00', true),
            ('XNYS', 'sip', '2024-11-12', '2024-11-12', '04:00', '20:00', NULL, true)
        """,
    )
    expected = {
        "sip": {8: ("04:00", "20:00"), 11: ("-1 21:00", "20:00"), 12: ("04:00", "20:00")},
        "boats": {8: ("-1 20:00", "04:00"), 12: ("-1 20:00", "04:00")},
        "elsewhere": {8: ("09:30", "16:00"), 11: ("09:30", "16:00")},
    }
    for feed, days in expected.items():
        loaded = await load_calendar(database, "XNYS", feed, FIRST, TODAY)
        for day, hours in days.items():
            at = loaded.day_ordinals.tolist().index(date(2024, 11, day).toordinal())
            shown = [
                datetime.fromtimestamp(int(bound[at]) / 1000, loaded.zone)
                for bound in (loaded.day_start_ms, loaded.day_end_ms)
            ]
            found = tuple(f"{'-1 ' if one.day < day else ''}{one:%H:%M}" for one in shown)
            assert found == hours, (feed, day)


@pytest.mark.parametrize(
    "row",
    [
        "('XNYS', 'sip', '-infinity', 'infinity', '04:00', '21:00', NULL, true)",
        "('XNYS', 'sip', '-infinity', 'infinity', '04:00', '17:00', '18:00', true)",
        "('XNYS', 'sip', '-infinity', 'infinity', '16:00', '09:30', NULL, true)",
        "('XNYS', 'sip', '2024-11-12', '2024-11-11', '04:00', '20:00', NULL, true)",
        "('24/7', 'sip', '-infinity', 'infinity', '04:00', '20:00', NULL, true)",
    ],
)
async def test_hours_in_which_a_bar_would_hold_two_trade_dates_are_refused(
    database: Database, row: str
) -> None:
    with pytest.raises(DatabaseError, match="violates check constraint"):
        await rows(database, f"INSERT INTO market_hours VALUES {row} RETURNING 1")


async def test_where_nothing_can_be_written_a_calendar_is_the_one_that_would_be_stored(
    database: Database, database_url: str, server: str
) -> None:
    opens, closes = datetime(2024, 11, 9, 15, tzinfo=UTC), datetime(2024, 11, 9, 18, tzinfo=UTC)
    await rows(database, _MANUAL, MONDAY, None, None)
    await rows(database, _MANUAL, date(2024, 11, 9), opens, closes)
    name = database_name(database_url)
    read_only = "default_transaction_read_only"
    async with connection_to(server) as owner:
        await owner.execute(f"ALTER DATABASE {name} SET {read_only} = on")
        await _leave(server, name)
        async with Database.connect(database_url) as reader:
            read = await load_calendar(reader, "XNYS", "sip", FIRST, TODAY)
        await owner.execute(f"ALTER DATABASE {name} RESET {read_only}")
    await _leave(server, name)
    stored = _sessions(await load_calendar(database, "XNYS", "sip", FIRST, TODAY))
    assert _sessions(read) == stored
    assert MONDAY not in {session.day for session in stored}


def _library(monkeypatch: pytest.MonkeyPatch, listing: Listing) -> None:
    monkeypatch.setattr(filling, "list_sessions", lambda *_: listing)


async def test_a_library_that_reaches_less_far_takes_nothing_away_and_is_told_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await _days(database)
    await _make_stale(database)
    hours = [datetime(2024, 12, 20, hour, tzinfo=UTC) for hour in (15, 17)]
    await rows(database, _MANUAL, date(2024, 12, 20), *hours)
    _library(monkeypatch, Listing(problem="it can't build XNYS: not today"))

    with structlog.testing.capture_logs() as told:
        days = await _days(database)

    left = [day for day in before if day <= date(2024, 12, 1)]
    assert days == [*left, date(2024, 12, 20)]
    assert [(one["event"], one["message"]) for one in told] == [
        ("calendar.short", "it can't build XNYS: not today")
    ]


async def test_what_the_library_lists_of_a_part_is_filled_in_and_the_rest_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await _days(database)
    await _make_stale(database)
    reach = date(2024, 11, 11), date(2024, 12, 2)
    true = sessions("XNYS", date(2024, 11, 12), date(2024, 12, 2))
    listed = [one for one in true if one.day != BLACK_FRIDAY]
    listing = Listing(
        reach=reach,
        rows=[(one.day, to_time(one.open_ms), to_time(one.close_ms)) for one in listed],
        lost=[BLACK_FRIDAY],
        problem="it loses a day",
    )
    _library(monkeypatch, listing)
    days = await _days(database)
    # The 11th is no longer listed; the day that the library only lost is kept.
    assert days == [day for day in before if day <= date(2024, 12, 2) and day != MONDAY]


async def test_a_calendar_without_a_session_is_an_error_that_says_what_to_do(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _library(monkeypatch, Listing(problem="it can't build XNYS"))
    with pytest.raises(NoCalendar, match="market_sessions, marked manual"):
        await load_calendar(database, "XNYS", "sip", FIRST, TODAY)
    with pytest.raises(NoCalendar, match="no calendar 'XBOM'"):
        await load_calendar(database, "XBOM", "sip", FIRST, TODAY)
