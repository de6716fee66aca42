"""A feed that trades at night: its bars are stored, never a gap, and belong to the next day."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import Cli, query, stored_bars
from tests.integration.truth import NEW_YORK, assert_same, midnight_ms

NIGHTS_FROM = date(2024, 10, 28)
"""A Monday: its night begins on the Sunday evening."""
NOW = datetime(2024, 11, 7, 12, tzinfo=UTC)
AS_OF = ("--as-of", NOW.isoformat(), "--json")
EVENING_MS = 4 * 3_600_000

OPEN = """
    INSERT INTO market_hours (calendar, feed, first_session, opens, closes, night_opens, manual)
    VALUES ('XNYS', 'sip', $1, '04:00', '20:00', '21:00', true)
"""
REGULAR = """
    SELECT count(*), min((r.ts AT TIME ZONE 'America/New_York')::time)::text
    FROM ohlc_bars_regular AS r
    WHERE r.timeframe = 'm1'
"""


@pytest.fixture(scope="module")
def by_night() -> Market:
    return Market(nights_from=NIGHTS_FROM)


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulate: Callable[..., Simulator], by_night: Market) -> Cli:
    simulator = simulate(plan="unlimited", market=by_night, now=NOW)
    return cli(simulator, BACKFILL_PLAN="unlimited")


def at_night(ts_ms: int) -> bool:
    return not 4 <= datetime.fromtimestamp(ts_ms / 1000, NEW_YORK).hour < 20


def true_trade_dates(
    market: Market, ticker: str, timeframe: Timeframe, first: date, until: date
) -> list[tuple[Any, ...]]:
    """Return the bars of the trade dates from one to before another, as rows of their stamps."""
    bounds = (midnight_ms(day, ticker) - EVENING_MS for day in (first, until))
    bars = market.bars(ticker, timeframe, *bounds)
    return list(
        zip(bars.ts_ms.tolist(), bars.open.tolist(), bars.high.tolist(), bars.low.tolist(),
            bars.close.tolist(), bars.volume.tolist(), strict=True)
    )  # fmt: skip


def test_the_night_is_stored_as_it_came_and_belongs_to_the_day_that_follows(
    backfill: Cli, by_night: Market, database_url: str
) -> None:
    # Clocks change on Sunday, the 3rd of November, some hours before the night begins.
    query(database_url, OPEN, NIGHTS_FROM)
    frames = ("-t", "m1", "-t", "h1", "-t", "h4", "-t", "d1")
    span = ("--from", "2024-10-28")

    ended = backfill("run", "--symbol", "AAPL", *frames, *span, *AS_OF)

    assert ended.code == 0, ended.err
    assert ended.json["bars"]["rejected"] == 0
    final_ms = round(NOW.timestamp() * 1000) - 60_000
    for timeframe in (Timeframe.m1, Timeframe.h1, Timeframe.h4):
        true = [
            row
            for row in true_trade_dates(by_night, "AAPL", timeframe, NIGHTS_FROM, date(2024, 11, 8))
            if row[0] + timeframe.length_ms <= final_ms
        ]
        stored = [row[:6] for row in stored_bars(database_url, "AAPL", timeframe)]
        assert_same([row[:5] for row in stored], [row[:5] for row in true])
        assert sum(at_night(row[0]) for row in stored) > 7
    days = [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.d1)]
    assert (len(days), days[0]) == (8, midnight_ms(date(2024, 10, 28), "AAPL"))
    [(regular, first)] = query(database_url, REGULAR)
    assert first == "09:30:00"
    assert 0 < regular < len(stored_bars(database_url, "AAPL", Timeframe.m1))

    gaps = backfill("gaps", *AS_OF)
    assert (gaps.code, gaps.json["series"]) == (0, [])
    again = backfill("run", "--symbol", "AAPL", *frames, *span, *AS_OF)
    assert (again.code, again.json["calls"]) == (0, 0)


def test_one_session_by_its_date_is_its_night_and_its_day(
    backfill: Cli, by_night: Market, database_url: str
) -> None:
    query(database_url, OPEN, NIGHTS_FROM)
    monday = ("--from", "2024-11-04", "--to", "2024-11-04")
    assert backfill("run", "--symbol", "AAPL", "-t", "m15", *monday, *AS_OF).code == 0
    stored = [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.m15)]
    true = true_trade_dates(by_night, "AAPL", Timeframe.m15, date(2024, 11, 4), date(2024, 11, 5))
    assert stored == [row[0] for row in true]
    bounds = [datetime.fromtimestamp(at / 1000, NEW_YORK) for at in (stored[0], stored[-1])]
    assert [f"{at:%a %H}" for at in bounds] == ["Sun 21", "Mon 19"]


def test_before_the_date_in_the_table_each_bar_of_the_night_goes_to_quarantine(
    backfill: Cli, by_night: Market, database_url: str
) -> None:
    query(database_url, OPEN, date(2024, 10, 30))
    span = ("--from", "2024-10-28", "--to", "2024-10-30")

    ended = backfill("run", "--symbol", "AAPL", "-t", "m1", *span, *AS_OF)

    true = true_trade_dates(by_night, "AAPL", Timeframe.m1, date(2024, 10, 28), date(2024, 10, 31))
    opened_ms = midnight_ms(date(2024, 10, 30), "AAPL") - EVENING_MS
    # The night of Monday begins on Sunday: before what is asked for on today's grid.
    asked_ms = midnight_ms(date(2024, 10, 28), "AAPL") + EVENING_MS
    off = [ts for ts, *_ in true if at_night(ts) and asked_ms <= ts < opened_ms]
    assert ended.code == 1
    assert ended.json["bars"]["rejected"] == len(off) > 0
    assert query(database_url, "SELECT DISTINCT reason FROM quarantined_bars") == [("off_grid",)]
    stored = [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.m1)]
    assert stored == [ts for ts, *_ in true if not at_night(ts) or ts >= opened_ms]

    query(database_url, OPEN, NIGHTS_FROM)
    assert backfill("quarantine", "retry", "--all").code == 0
    late = backfill("run", "--symbol", "AAPL", "-t", "m1", *span, *AS_OF)
    assert (late.code, late.json["bars"]["rejected"]) == (0, 0), late.err
    stored = [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.m1)]
    assert set(off) <= set(stored)


def test_the_night_before_a_split_is_on_its_basis(
    cli: Callable[..., Cli], simulate: Callable[..., Simulator], database_url: str
) -> None:
    # SPLT is split 10 for 1 on Monday, the 10th of June: the night from Sunday on is after it.
    monday, now = date(2024, 6, 10), datetime(2024, 6, 12, 12, tzinfo=UTC)
    market = Market(nights_from=date(2024, 6, 3))
    command = cli(simulate(plan="unlimited", market=market, now=now), BACKFILL_PLAN="unlimited")
    query(database_url, OPEN, date(2024, 6, 3))
    span = ("--from", "2024-06-07", "--to", "2024-06-10", "--as-of", now.isoformat())

    assert command("run", "--symbol", "SPLT", "-t", "m1", "-t", "d1", *span).code == 0

    rows = query(
        database_url,
        """
        SELECT (extract(epoch FROM b.ts) * 1000)::bigint, b.open / a.open AS factor
        FROM ohlc_bars AS b
        JOIN ohlc_bars_adjusted AS a USING (symbol_id, timeframe, ts)
        WHERE b.timeframe = 'm1'
        ORDER BY b.ts
        """,
    )
    begins_ms = midnight_ms(monday, "SPLT") - EVENING_MS
    night = [row for row in rows if begins_ms <= row[0] < begins_ms + EVENING_MS]
    assert night
    assert all(
        factor == pytest.approx(1.0 if ts_ms >= begins_ms else 10.0) for ts_ms, factor in rows
    )


def test_a_night_that_is_dropped_is_counted_and_comes_with_a_reload(
    backfill: Cli, by_night: Market, database_url: str
) -> None:
    query(database_url, OPEN, NIGHTS_FROM)
    span = ("--from", "2024-10-29", "--to", "2024-10-31")
    command = ("run", "--symbol", "AAPL", "-t", "m1", "-t", "h4", *span, *AS_OF)
    bounds = date(2024, 10, 29), date(2024, 11, 1)
    true = true_trade_dates(by_night, "AAPL", Timeframe.m1, *bounds)
    by_day = [row[0] for row in true if not at_night(row[0])]

    dropped = backfill(*command, BACKFILL_NIGHT="drop")

    ignored = sum(at_night(ts) for ts, *_ in true)
    assert dropped.code == 0, dropped.err
    assert dropped.json["bars"]["ignored"] == ignored > 0
    assert query(database_url, "SELECT bars_ignored, bars_rejected FROM backfill_runs") == [
        (ignored, 0)
    ]
    assert [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.m1)] == by_day
    assert not any(at_night(row[0]) for row in stored_bars(database_url, "AAPL", Timeframe.h4))

    kept = backfill(*command)
    assert (kept.code, kept.json["calls"]) == (0, 0)
    reloaded = backfill(*command, "--reload")
    assert (reloaded.code, reloaded.json["bars"]["withdrawn"]) == (0, 0)
    assert [row[:5] for row in stored_bars(database_url, "AAPL", Timeframe.m1)] == [
        row[:5] for row in true
    ]
