"""The database of another system, taken over: every row stays, and runs go on in its tables."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal

import asyncpg
import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import NOW, Cli, blocking, query
from tests.integration.store_kit import as_user
from tests.integration.truth import true_bars

pytestmark = pytest.mark.soak  # .ci/run runs it on every server that people may have

AS_OF = ("--as-of", NOW.isoformat())
THEIRS = """
CREATE TYPE asset_type AS ENUM ('stock', 'future', 'option', 'crypto');
CREATE TYPE data_provider AS ENUM ('finnhub', 'massive', 'yfinance');
CREATE TYPE bar_timeframe AS ENUM ('m15', 'h1', 'h4', 'd1', 'w1');
CREATE TABLE symbols (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    ticker text NOT NULL UNIQUE,
    asset_type asset_type NOT NULL,
    description text,
    primary_source data_provider NOT NULL DEFAULT 'finnhub',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ohlc_bars (
    id bigserial PRIMARY KEY,
    symbol_id uuid NOT NULL REFERENCES symbols ON DELETE CASCADE,
    timeframe bar_timeframe NOT NULL,
    ts timestamptz NOT NULL,
    open numeric(20, 6) NOT NULL,
    high numeric(20, 6) NOT NULL,
    low numeric(20, 6) NOT NULL,
    close numeric(20, 6) NOT NULL,
    volume numeric(20, 2) NOT NULL DEFAULT 0,
    provider data_provider NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON ohlc_bars (symbol_id, timeframe, ts);
CREATE TABLE watchlists (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, name text);
CREATE TABLE watchlist_items (
    watchlist_id uuid NOT NULL REFERENCES watchlists,
    symbol_id uuid NOT NULL REFERENCES symbols,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (watchlist_id, symbol_id)
);
INSERT INTO symbols (ticker, asset_type)
VALUES ('AAPL', 'stock'), ('X:BTCUSD', 'crypto'), ('ESZ4', 'future'), ('MSFT', 'stock');
INSERT INTO watchlists (name) VALUES ('mine'), ('yours');
INSERT INTO watchlist_items
SELECT w.id, s.id, now() FROM watchlists AS w, symbols AS s WHERE s.ticker IN ('AAPL', 'ESZ4');
"""
OLD = """
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume, provider)
    SELECT s.id, $2::text::bar_timeframe, b.ts, b.open, b.high, b.low, b.close, b.volume, 'finnhub'
    FROM symbols AS s,
        unnest($3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[],
            $8::numeric[]) AS b (ts, open, high, low, close, volume)
    WHERE s.ticker = $1
"""
# Hours of a market that never closes, from long before anything that is wanted.
HOURS = """
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume, provider)
    SELECT s.id, 'h1', '2011-01-01 00:00Z'::timestamptz + n * interval '1 hour',
        1, 2, 1, 1.5, 10, 'yfinance'
    FROM symbols AS s, generate_series(0, 99999) AS n
    WHERE s.ticker = 'X:BTCUSD'
"""
KEPT = "SELECT * FROM ohlc_bars WHERE provider <> 'massive' ORDER BY id"

Rows = list[tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]]


@pytest.fixture
def theirs(empty_url: str) -> str:
    """A database with the tables of the system that this one replaces."""
    blocking(_execute(empty_url, THEIRS))
    return empty_url


async def _execute(url: str, sql: str, *values: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql, *values)
    finally:
        await connection.close()


def days(market: Market, first: date, until: date) -> Rows:
    """The d1 bars of AAPL as their columns hold them: prices to six digits, volumes to two."""
    return [
        (
            stamp,
            *(Decimal(repr(price)).quantize(Decimal("1e-6"), ROUND_HALF_UP) for price in prices),
            Decimal(repr(volume)).quantize(Decimal("0.01"), ROUND_HALF_UP),
        )
        for stamp, *prices, volume, _, _ in true_bars(market, "AAPL", Timeframe.d1, first, until)
    ]


def fill(url: str, rows: Rows) -> None:
    columns = list(zip(*rows, strict=True))
    stamps = [datetime.fromtimestamp(ms / 1000, UTC) for ms in columns[0]]
    blocking(_execute(url, OLD, "AAPL", "d1", stamps, *map(list, columns[1:])))


def stored(url: str) -> Rows:
    rows = query(
        url,
        """
        SELECT (extract(epoch FROM ts) * 1000)::bigint, open, high, low, close, volume
        FROM ohlc_bars AS b
        JOIN symbols AS s ON s.id = b.symbol_id
        WHERE s.ticker = 'AAPL' AND b.timeframe = 'd1'
        ORDER BY ts
        """,
    )
    return [tuple(row) for row in rows]


def test_a_hundred_thousand_rows_are_adopted_and_kept_and_runs_go_on_in_their_tables(
    market: Market, simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    blocking(_execute(theirs, HOURS))
    old = days(market, date(2024, 10, 1), date(2024, 11, 1))
    fill(theirs, old)
    before = query(theirs, KEPT)
    run = cli(simulate(), DATABASE_URL=theirs)
    since = ("--from", "2024-10-01")

    refused = run("run", "--all", *AS_OF)
    assert (refused.code, "backfill migrate --adopt" in refused.err) == (3, True)

    adopted = run("migrate", "--adopt", "--json")
    assert adopted.code == 0, adopted.err
    assert adopted.json["bars"] == 100_000 + len(old)
    assert list(adopted.json["set_aside"]) == ["ESZ4"]
    assert adopted.json["off_grid"] == []
    assert [tuple(row)[: len(before[0])] for row in query(theirs, KEPT)] == [
        tuple(row) for row in before
    ]

    # Nothing is taken for complete: all days are asked for. Those there already get what their
    # table had no columns for, and stay the rows they are.
    first = run("run", "--symbol", "AAPL", "-t", "d1", *since, *AS_OF, "--json")
    assert first.code == 0, first.err
    truth = days(market, date(2024, 10, 1), date(2024, 11, 12))
    assert stored(theirs) == truth
    assert first.json["bars"]["inserted"] == len(truth) - len(old)
    assert first.json["bars"]["updated"] == len(old)
    ids = [row["id"] for row in query(theirs, "SELECT id FROM ohlc_bars ORDER BY id")]
    assert ids[: len(before)] == [row["id"] for row in before]
    assert len(ids) == 100_000 + len(truth)
    assert query(theirs, "SELECT count(*) FROM ohlc_bars WHERE provider = 'massive'") == [
        (len(truth),)
    ]

    again = run("run", "--symbol", "AAPL", "-t", "d1", *since, "--reload", *AS_OF, "--json")
    assert again.json["bars"] == {
        "inserted": 0, "updated": 0, "unchanged": len(truth), "rejected": 0, "withdrawn": 0,
        "ignored": 0,
    }  # fmt: skip
    assert stored(theirs) == truth
    second = run("run", "--symbol", "AAPL", "-t", "d1", *since, *AS_OF, "--json")
    assert (second.code, second.json["calls"]) == (0, 0)
    assert "none differs" in run("gaps", "--verify", "--symbol", "AAPL", *AS_OF).out


def test_what_their_watchlists_hold_is_kept_and_futures_are_set_aside(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    run = cli(simulate(), DATABASE_URL=theirs)
    said = run("migrate", "--adopt")
    assert said.code == 0, said.err
    assert "Every row stays" in said.out
    assert "futures are not fetched" in said.out

    plan = run("run", "--all", "--from", "2024-11-04", *AS_OF, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert {(one["symbol"], one["timeframe"]) for one in plan.json["series"]} == {
        ("AAPL", timeframe) for timeframe in ("m15", "h1", "h4", "d1", "w1")
    }
    future = run("run", "--symbol", "ESZ4", *AS_OF, "--json")
    assert (future.code, future.json["calls"]) == (1, 0)
    assert "set aside" in future.json["failures"][0]["message"]
    new = run(
        *("run", "--symbols", "NVDA,NOSUCH", "-t", "m5", "--from", "2024-11-08"), *AS_OF, "--json"
    )
    assert new.json["bars"]["inserted"] > 0
    assert query(theirs, "SELECT ticker FROM symbols ORDER BY ticker") == [
        ("AAPL",), ("ESZ4",), ("MSFT",), ("NVDA",), ("X:BTCUSD",),
    ]  # fmt: skip
    # A second look finds nothing left to do, and plain migrations go on as ever.
    assert run("migrate", "--adopt").code == 2
    assert run("migrate").code == 0
    # What their list keeps can be paused and changed; only they can take it off their list.
    kept = run("watch", "remove", "AAPL")
    assert (kept.code, "watch pause AAPL" in kept.err) == (2, True)
    [paused] = run("watch", "pause", "AAPL", "--json").json["watchlist"]
    assert (paused["paused"], paused["timeframes"]) == (True, ["m15", "h1", "h4", "d1", "w1"])
    [changed] = run("watch", "add", "--offline", "AAPL", "--priority", "5", "--json").json[
        "changed"
    ]
    assert changed["is"] == {**paused, "priority": 5}


def test_a_role_that_may_only_run_keeps_what_was_adopted(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    run = cli(simulate(), DATABASE_URL=theirs)
    assert run("migrate", "--adopt").code == 0
    blocking(
        _execute(theirs, "CREATE ROLE adopted_job LOGIN; GRANT backfill_runner TO adopted_job")
    )
    try:
        job = cli(simulate(), DATABASE_URL=as_user(theirs, "adopted_job"))
        ended = job("run", "--all", "-t", "d1", "--from", "2024-11-04", *AS_OF, "--json")
        assert ended.code == 0, ended.err
        assert ended.json["bars"]["inserted"] == 6
    finally:
        blocking(_execute(theirs, "DROP ROLE adopted_job"))


@pytest.mark.attack(1)
def test_a_session_that_is_stored_twice_is_told_and_goes_to_quarantine_only_if_asked(
    market: Market, simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    good = days(market, date(2024, 10, 1), date(2024, 10, 11))
    # The same sessions once more, stamped with their date in UTC.
    strays = [(row[0] - row[0] % 86_400_000, *row[1:]) for row in good[:3]]
    fill(theirs, good + strays)
    run = cli(simulate(), DATABASE_URL=theirs)
    ended = run("migrate", "--adopt", "--clean", "--json")
    assert ended.code == 0, ended.err
    [told] = ended.json["off_grid"]
    assert (told["symbol"], told["timeframe"], told["bars"], told["twins"]) == ("AAPL", "d1", 3, 3)
    assert ended.json["cleaned"] == 3
    assert stored(theirs) == good
    rows = query(theirs, "SELECT reason, raw->>'provider' FROM quarantined_bars")
    assert [tuple(row) for row in rows] == [("off_grid", "finnhub")] * 3


def test_without_being_asked_nothing_off_the_grid_moves(
    market: Market, simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    stray = days(market, date(2024, 10, 1), date(2024, 10, 2))[0]
    fill(theirs, [(stray[0] - stray[0] % 86_400_000, *stray[1:])])
    run = cli(simulate(), DATABASE_URL=theirs)
    ended = run("migrate", "--adopt")
    assert ended.code == 0, ended.err
    assert "AAPL" in ended.out
    assert len(stored(theirs)) == 1


@pytest.mark.attack(1)
def test_clean_alone_and_nothing_to_adopt_are_refused_in_a_line(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], empty_url: str
) -> None:
    run = cli(simulate(), DATABASE_URL=empty_url)
    for arguments in (("migrate", "--clean"), ("migrate", "--adopt")):
        ended = run(*arguments)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1


def test_a_price_that_their_columns_cannot_hold_goes_to_quarantine(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    """Here a column of two digits stands for a coin that costs a millionth of a cent."""
    blocking(_execute(theirs, "ALTER TABLE ohlc_bars ALTER low TYPE numeric(20, 1)"))
    run = cli(simulate(), DATABASE_URL=theirs)
    assert run("migrate", "--adopt").code == 0
    ended = run(*("run", "--symbol", "MSFT", "-t", "d1", "--from", "2024-10-28"), *AS_OF, "--json")
    assert ended.code == 1, ended.err
    rejected = ended.json["bars"]["rejected"]
    assert rejected > 0
    rows = query(theirs, "SELECT reason, count(*) FROM quarantined_bars GROUP BY reason")
    assert [tuple(row) for row in rows] == [("precision", rejected)]
    # Asked for again or not, no bar is rounded into the table.
    assert query(
        theirs, "SELECT count(*) FROM ohlc_bars AS b JOIN quarantined_bars AS q USING (ts)"
    ) == [(0,)]
