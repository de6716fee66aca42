"""What is built on the table: the bars of the regular session, and what each run changed."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill.core.calendar import ZONES
from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, query, stored_bars
from tests.integration.store_kit import as_user, connection_to
from tests.integration.truth import NEW_YORK, true_bars

NOW = "2024-12-04T12:00:00Z"
AS_OF = ("--as-of", NOW)

REGULAR = """
    SELECT (extract(epoch FROM r.ts) * 1000)::bigint
    FROM ohlc_bars_regular AS r
    JOIN symbols AS s ON s.id = r.symbol_id
    WHERE s.ticker = $1 AND r.timeframe = $2::text::timeframe
    ORDER BY r.ts
"""
CHANGES = """
    SELECT c.run_id::text, s.ticker, c.timeframe::text,
        (extract(epoch FROM lower(c.range)) * 1000)::bigint,
        (extract(epoch FROM upper(c.range)) * 1000)::bigint,
        c.inserted, c.updated, c.withdrawn
    FROM backfill_changes AS c
    JOIN symbols AS s ON s.id = c.symbol_id
    JOIN backfill_runs AS r ON r.run_id = c.run_id
    ORDER BY r.started_at, s.ticker, c.timeframe
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="free", now=datetime(2024, 12, 4, 12, tzinfo=UTC))


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulator: Simulator) -> Cli:
    return cli(simulator)


def clock_in_new_york(ts_ms: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(ts_ms / 1000, NEW_YORK)
    return at.hour, at.minute


def test_the_regular_view_holds_each_bar_that_touches_the_regular_hours_and_no_other(
    backfill: Cli, database_url: str
) -> None:
    # Daylight time ends on 3 November; 29 November closes at 13:00.
    span = ("--from", "2024-10-31", "--to", "2024-11-29", *AS_OF)
    frames = [part for name in ("m15", "h1", "h4", "d1", "w1", "mn1") for part in ("-t", name)]
    assert backfill("run", "--symbol", "AAPL", *frames, *span).code == 0

    first_and_last = {
        Timeframe.m15: ((9, 30), (15, 45), (12, 45)),
        Timeframe.h1: ((9, 0), (15, 0), (12, 0)),
        Timeframe.h4: ((8, 0), (12, 0), (12, 0)),
    }
    for timeframe, (opens, closes, closes_early) in first_and_last.items():
        regular = [row[0] for row in query(database_url, REGULAR, "AAPL", str(timeframe))]
        stored = [row[0] for row in stored_bars(database_url, "AAPL", timeframe)]
        expected = [
            ts_ms
            for ts_ms in stored
            if opens
            <= clock_in_new_york(ts_ms)
            <= (
                closes_early
                if datetime.fromtimestamp(ts_ms / 1000, NEW_YORK).date() == date(2024, 11, 29)
                else closes
            )
        ]
        assert regular == expected
        assert 0 < len(regular) < len(stored)
    for timeframe in (Timeframe.d1, Timeframe.w1, Timeframe.mn1):
        regular = [row[0] for row in query(database_url, REGULAR, "AAPL", str(timeframe))]
        assert regular == [row[0] for row in stored_bars(database_url, "AAPL", timeframe)] != []


def test_the_zones_that_the_sql_spells_out_are_those_of_the_calendars() -> None:
    # Another calendar has to be told to the view, in a new migration, and to docs/validation.md.
    assert ZONES == {"24/7": "UTC", "XNYS": "America/New_York", "FX": "America/New_York"}


def test_all_of_a_crypto_day_is_regular_and_a_day_closed_by_hand_is_not(
    backfill: Cli, database_url: str
) -> None:
    span = ("--from", "2024-11-01", "--to", "2024-11-03", *AS_OF)
    assert backfill("run", "--symbol", "X:BTCUSD", "-t", "h1", "-t", "h4", *span).code == 0
    for timeframe in (Timeframe.h1, Timeframe.h4):
        regular = [row[0] for row in query(database_url, REGULAR, "X:BTCUSD", str(timeframe))]
        stored = [row[0] for row in stored_bars(database_url, "X:BTCUSD", timeframe)]
        assert regular == stored != []

    query(
        database_url,
        "UPDATE market_sessions SET manual = true, opens_at = NULL, closes_at = NULL "
        "WHERE calendar = '24/7' AND session = '2024-11-02'",
    )

    left = [row[0] for row in query(database_url, REGULAR, "X:BTCUSD", "h4")]
    days = [datetime.fromtimestamp(ts_ms / 1000, UTC).day for ts_ms in left]
    assert days == [1] * 6 + [3] * 6


def test_a_changes_row_says_what_a_run_changed_of_a_series_and_where(
    backfill: Cli, simulator: Simulator, database_url: str, market: Market
) -> None:
    command = ("run", "--symbol", "AAPL", "-t", "d1", "--from", "2024-09-03", *AS_OF, "--json")
    true = true_bars(market, "AAPL", Timeframe.d1, date(2024, 9, 3), date(2024, 12, 4))

    loaded = backfill(*command)
    same = backfill(*command, "--reload")
    gone, corrected = true[10], true[20]
    simulator.inject(
        Fault(
            action=Action.EDIT_BARS,
            span_ms=(corrected[0], corrected[0] + 1),
            bar={"v": 7.0},
            times=1,
        )
    )
    updated = backfill(*command, "--reload")
    simulator.inject(Fault(action=Action.DROP_BARS, span_ms=(gone[0], gone[0] + 1)))
    withdrawn = backfill(*command, "--reload")

    assert [run.code for run in (loaded, same, updated, withdrawn)] == [0] * 4
    rows = [tuple(row) for row in query(database_url, CHANGES)]
    assert same.json["bars"]["unchanged"] == len(true)  # and no row tells of it
    expected = [
        (loaded.json["run_id"], "AAPL", "d1", true[0][0], true[-1][0], len(true), 0, 0),
        (updated.json["run_id"], "AAPL", "d1", corrected[0], corrected[0], 0, 1, 0),
        (withdrawn.json["run_id"], "AAPL", "d1", gone[0], corrected[0], 0, 1, 1),
    ]
    assert rows == expected


def test_the_pages_of_a_run_add_to_one_row_a_series(backfill: Cli, database_url: str) -> None:
    ended = backfill(
        "run", "--symbol", "AAPL", "-t", "h1", "-t", "h4", "--from", "2024-01-02", *AS_OF, "--json"
    )
    assert ended.code == 0
    assert ended.json["calls"] > 1
    rows = [tuple(row) for row in query(database_url, CHANGES)]
    stored = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("h1", "h4")}
    assert rows == [
        (ended.json["run_id"], "AAPL", name, bars[0][0], bars[-1][0], len(bars), 0, 0)
        for name, bars in stored.items()
    ]


async def test_who_may_not_read_the_table_sees_nothing_through_the_view(
    database_url: str,
) -> None:
    async with connection_to(database_url) as owner:
        await owner.execute(
            """
            INSERT INTO symbols (id, ticker, asset_type) VALUES (7, 'AAPL', 'stock');
            INSERT INTO ohlc_bars VALUES (7, 'd1', '2024-11-11 05:00Z', 1, 1, 1, 1, 0);
            CREATE ROLE stranger LOGIN;
            GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;
            CREATE ROLE member LOGIN;
            GRANT backfill_runner TO member;
            """
        )
        try:
            seen = {name: await _seen(database_url, name) for name in ("stranger", "member")}
        finally:
            await owner.execute("DROP OWNED BY stranger, member; DROP ROLE stranger, member")
    assert seen == {"stranger": 0, "member": 1}


async def _seen(url: str, user: str) -> Any:
    async with connection_to(as_user(url, user)) as connection:
        return await connection.fetchval("SELECT count(*) FROM ohlc_bars_regular")
