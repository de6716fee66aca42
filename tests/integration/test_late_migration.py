"""What the old rule closed too early is opened once, as unconfirmed, by the migration."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from backfill.store.migrate import migrations
from tests.integration.store_kit import connection_to

VERSION: Final = "20261129000003"
ZONE: Final = ZoneInfo("America/New_York")


def clock(day: date, text: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{text}").replace(tzinfo=ZONE).astimezone(UTC)


async def test_ends_of_the_last_thirty_days_and_suspect_sessions_are_opened_once(
    empty_url: str,
) -> None:
    every = migrations()
    mine = next(one for one in every if str(one.version) == VERSION)
    async with connection_to(empty_url) as db:
        today = await db.fetchval("SELECT current_date")
        days = [today - timedelta(days=back) for back in range(60, 0, -1)]
        old, recent = days[5], days[50]
        for one in every[: every.index(mine)]:
            await db.execute(one.sql)
        await db.execute(
            """
            INSERT INTO symbols (ticker, asset_type, calendar) VALUES ('THIN', 'stock', 'XNYS');
            INSERT INTO backfill_progress (symbol_id, timeframe, coverage)
            SELECT id, t, '{[2000-01-01, 2100-01-01)}'
            FROM symbols, unnest('{m1}'::timeframe[]) AS t
            """
        )
        for day in days:
            await db.execute(
                "INSERT INTO market_sessions (calendar, session, opens_at, closes_at) "
                "VALUES ('XNYS', $1, $2, $3)",
                day,
                clock(day, "09:30"),
                clock(day, "16:00"),
            )
        # Every day lacks its last two minutes and one at noon; one of long ago all but the first.
        for day in days:
            for starts, ends in (("12:00", "12:01"), ("15:58", "16:00")):
                await _close(db, day, starts, ends)
        await _close(db, old, "09:31", "16:00")
        before = await _total(db)
        for _ in range(2):
            await db.execute(mine.sql)

        tails = [
            (clock(day, "15:58"), clock(day, "16:00"))
            for day in days
            if day >= today - timedelta(days=30)
        ]
        assert await _slots(db, "unconfirmed") == [
            (clock(old, "09:31"), clock(old, "16:00")),
            *tails,
        ]
        assert await _total(db) == before
        kept = await _slots(db, "no_trades")
        assert (clock(recent, "12:00"), clock(recent, "12:01")) in kept
        assert (clock(days[7], "15:58"), clock(days[7], "16:00")) in kept
        rows = await db.fetch(
            "SELECT DISTINCT reason, asked_on, expires_at <= now() FROM known_empty"
        )
        assert {tuple(row) for row in rows if row[0] == "unconfirmed"} == {
            ("unconfirmed", await db.fetchval("SELECT current_date"), True)
        }
        assert {row["asked_on"].day for row in rows if row["reason"] == "no_trades"} == {1}


async def _slots(db: Any, reason: str) -> list[tuple[datetime, datetime]]:
    rows = await db.fetch(
        """
        SELECT lower(r), upper(r) FROM known_empty, unnest(slots) AS r WHERE reason = $1 ORDER BY 1
        """,
        reason,
    )
    return [tuple(row) for row in rows]


async def _total(db: Any) -> timedelta:
    """How long all that is known to be empty is."""
    found: timedelta = await db.fetchval(
        "SELECT sum(upper(r) - lower(r)) FROM known_empty, unnest(slots) AS r"
    )
    return found


async def _close(db: Any, day: date, starts: str, ends: str) -> None:
    await db.execute(
        """
        INSERT INTO known_empty AS k (symbol_id, timeframe, month, reason, slots)
        VALUES (1, 'm1', $1, 'no_trades', tstzmultirange(tstzrange($2, $3)))
        ON CONFLICT (symbol_id, timeframe, month, reason) DO UPDATE
        SET slots = k.slots + excluded.slots
        """,
        day.replace(day=1),
        clock(day, starts),
        clock(day, ends),
    )
