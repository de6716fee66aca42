"""The queries of docs/validation.md, run as they stand: quiet on a healthy database, and not on a
broken one."""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from backfill.simulator import Action, Fault, Market, Simulator, run_in_thread
from tests.conftest import KEY, Cli, _execute, _fresh, _in_database, blocking, query

pytestmark = pytest.mark.soak

TODAY = "2024-12-05T12:00:00+00:00"
SINCE = "2024-06-24"
DOCUMENT = Path(__file__).resolve().parents[2].joinpath("docs", "validation.md").read_text("utf-8")
SECTIONS = (section.split("\n", 1) for section in DOCUMENT.split("\n## ")[1:])
BLOCKS = {
    title: block
    for title, text in SECTIONS
    for block in re.findall(r"^```sql\n(.*?)^```$", text, re.M | re.S)
}
QUIET = {"Health", "Freshness", "Gaps", "Duplicates", "Off the grid", "Quality", "Jumps"}

KEPT = {
    "AAPL": ("m15", "h1", "d1", "w1", "mn1"),
    "VTHIN": ("m15", "h1"),
    "X:BTCUSD": ("h4", "d1", "w1"),
    "DEADCO": ("d1", "w1"),
    "SIM001": ("h4",),
}


@pytest.fixture(scope="module")
def loaded(server: str, with_calendars: str, market: Market) -> str:
    """The name of a database that a few runs have filled, and that lacks nothing."""
    name = "loaded"
    blocking(_execute(server, f"CREATE DATABASE {name} TEMPLATE {with_calendars}"))
    now = datetime(2024, 12, 4, 12, tzinfo=UTC)
    with run_in_thread(Simulator(market=market, key=KEY, plan="free", now=now)) as simulator:
        backfill = Cli(_environment(_in_database(server, name), simulator))
        for ticker, timeframes in KEPT.items():
            frames = [part for one in timeframes for part in ("-t", one)]
            assert (
                backfill("watch", "add", "--offline", ticker, *frames, "--since", SINCE).code == 0
            )
        # NEWCO is not watched, and was listed in the middle of a week after the start. What an
        # answer left open, such as DEADCO's end, a second day settles.
        newco = ("--symbol", "NEWCO", "-t", "h1", "-t", "w1", "--from", "2024-02-01")
        for day in (4, 5):
            now = datetime(2024, 12, day, 12, tzinfo=UTC)
            simulator.set_now(now)
            for command in (("--all",), newco):
                ended = backfill("run", *command, "--as-of", now.isoformat())
                assert ended.code == 0, ended.err
    return name


def _environment(url: str, simulator: Simulator) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "BACKFILL_PROVIDER_URL": simulator.url,
        "MASSIVE_API_KEY": KEY,
        "BACKFILL_PLAN": "free",
        "BACKFILL_QUOTA": "unlimited",
    }


@pytest.fixture
def database_url(server: str, loaded: str) -> Iterator[str]:
    """The URL of a copy of the loaded database."""
    yield from _fresh(server, loaded)


def ask(
    url: str, name: str, today: str = TODAY, change: Callable[[str], str] = lambda sql: sql
) -> list[dict[str, Any]]:
    """Run a query of the document, as it stands unless changed, with a clock of the test's."""

    async def rows() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                f"""
                CREATE SCHEMA IF NOT EXISTS clock;
                CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz STABLE
                LANGUAGE sql AS $$ SELECT '{today}'::timestamptz $$;
                SET search_path = clock, public, pg_catalog;
                """
            )
            return [dict(row) for row in await connection.fetch(change(BLOCKS[name]))]
        finally:
            await connection.close()

    return blocking(rows())


def noisy(url: str, today: str = TODAY) -> set[str]:
    """The queries that have something to say, of those that are quiet on a healthy database."""
    return {name for name in QUIET if ask(url, name, today)}


def seconds(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def gaps_by_sql(
    url: str, today: str, change: Callable[[str], str] = lambda sql: sql
) -> list[dict[str, Any]]:
    """The gaps that the document's query finds, in the shape of `gaps --json`."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in ask(url, "Gaps", today, change):
        gap = {"from": seconds(row["gap_from"]), "to": seconds(row["gap_to"])}
        gap |= {"slots": row["slots"]} | ({"reason": row["reason"]} if row["reason"] else {})
        series.setdefault((row["ticker"], row["timeframe"]), []).append(gap)
    return [{"symbol": key[0], "timeframe": key[1], "gaps": gaps} for key, gaps in series.items()]


def gaps_by_command(backfill: Cli, today: str, plan: str = "free") -> list[dict[str, Any]]:
    """The gaps that the command finds; the query doesn't say when they are asked for again."""
    found: list[dict[str, Any]] = backfill(
        "gaps", "--as-of", today, "--json", BACKFILL_PLAN=plan
    ).json["series"]
    for series in found:
        for gap in series["gaps"]:
            gap.pop("again", None)
    return found


def delete(url: str, ticker: str, timeframe: str, where: str) -> None:
    gone = query(
        url,
        f"""
        DELETE FROM ohlc_bars AS o USING symbols AS s
        WHERE s.id = o.symbol_id AND s.ticker = $1 AND o.timeframe = $2::text::timeframe AND {where}
        RETURNING 1
        """,
        ticker,
        timeframe,
    )
    assert gone


def test_every_query_of_the_document_is_tested_here() -> None:
    assert DOCUMENT.count("```sql") == len(BLOCKS)  # one a section
    assert set(BLOCKS) == QUIET | {"Coverage", "Changes"}


def test_on_a_healthy_database_each_query_says_what_the_text_says(database_url: str) -> None:
    assert noisy(database_url) == set()
    coverage = ask(database_url, "Coverage")
    kept = [(ticker, one) for ticker, names in KEPT.items() for one in names]
    kept += [("NEWCO", "h1"), ("NEWCO", "w1")]
    assert sorted((row["ticker"], row["timeframe"]) for row in coverage) == sorted(kept)
    assert {(row["uncovered"], row["first_uncovered"]) for row in coverage} == {(0, None)}
    assert all(row["bars"] > 0 and row["due"] > 0 for row in coverage)
    # From 24 June to 4 December 2024 there were 164 days, and the NYSE traded on 115.
    due = {(row["ticker"], row["timeframe"]): row["due"] for row in coverage}
    assert due["AAPL", "d1"] == due["AAPL", "m15"] == 115
    assert due["X:BTCUSD", "d1"] == 164
    changed = {(row["ticker"], row["timeframe"]) for row in ask(database_url, "Changes")}
    assert changed == set(kept)


def test_a_deleted_bar_and_a_deleted_session_are_gaps_and_nothing_else(database_url: str) -> None:
    delete(database_url, "AAPL", "m15", "ts = '2024-11-19T15:00Z'")
    delete(database_url, "AAPL", "h1", "(ts AT TIME ZONE 'America/New_York')::date = '2024-11-29'")

    assert noisy(database_url) == {"Gaps"}
    found = [tuple(row.values()) for row in ask(database_url, "Gaps")]
    # 29 November was a half day: its hours from 9:00 to 13:00.
    hours = [datetime(2024, 11, 29, hour, tzinfo=UTC) for hour in (14, 18)]
    quarters = [datetime(2024, 11, 19, 15, minute, tzinfo=UTC) for minute in (0, 15)]
    assert found == [
        ("AAPL", "m15", *quarters, 1, None),
        ("AAPL", "h1", *hours, 4, None),
    ]


def test_a_symbol_without_a_bar_shows_wherever_it_should(database_url: str) -> None:
    delete(database_url, "SIM001", "h4", "true")
    query(
        database_url,
        """
        WITH symbol AS (
            INSERT INTO symbols (ticker, asset_type) VALUES ('NEVER', 'stock') RETURNING id
        )
        INSERT INTO watchlist (symbol_id) SELECT id FROM symbol
        """,
    )

    assert noisy(database_url) == {"Freshness", "Gaps"}
    stale = [(row["ticker"], row["newest_bar"]) for row in ask(database_url, "Freshness")]
    assert stale == [("NEVER", None), ("SIM001", None)]
    [gap] = ask(database_url, "Gaps")
    # Two slots of h4 touch a session: those of 8:00 and 12:00.
    assert (gap["ticker"], gap["slots"]) == ("SIM001", 2 * 115)
    coverage = {row["ticker"]: row for row in ask(database_url, "Coverage")}
    assert (coverage["NEVER"]["bars"], coverage["NEVER"]["wanted_from"]) == (0, None)
    assert coverage["SIM001"]["bars"] == 0


def test_what_was_never_answered_for_is_uncovered_though_there_are_bars_around(
    database_url: str,
) -> None:
    query(
        database_url,
        """
        UPDATE backfill_progress SET coverage = coverage
            - '{["2024-09-03 00:00-04", "2024-09-05 00:00-04")}'::tstzmultirange
        WHERE symbol_id = (SELECT id FROM symbols WHERE ticker = 'AAPL')
        """,
    )

    assert noisy(database_url) == set()
    coverage = {
        row["timeframe"]: (row["uncovered"], row["first_uncovered"])
        for row in ask(database_url, "Coverage")
        if row["ticker"] == "AAPL"
    }
    eastern = datetime.fromisoformat
    assert coverage == {
        "m15": (2, eastern("2024-09-03T09:30-04:00")),
        "h1": (2, eastern("2024-09-03T09:30-04:00")),
        "d1": (2, eastern("2024-09-03T00:00-04:00")),
        "w1": (1, eastern("2024-09-02T00:00-04:00")),
        "mn1": (1, eastern("2024-09-01T00:00-04:00")),
    }


@pytest.mark.parametrize(
    ("today", "stale"),
    [
        # Thursday's daily bar is due at 06:00Z on Friday, the week's on Monday.
        ("2024-12-06T05:59:00Z", set()),
        ("2024-12-06T06:00:00Z", {"m15", "h1", "h4", "d1"}),
        ("2024-12-09T05:59:00Z", {"m15", "h1", "h4", "d1"}),
        ("2024-12-09T06:00:00Z", {"m15", "h1", "h4", "d1", "w1"}),
        ("2025-01-01T06:00:00Z", {"m15", "h1", "h4", "d1", "w1", "mn1"}),
    ],
)
def test_a_stale_series_is_told_by_the_calendar_as_status_tells_it(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
    today: str,
    stale: set[str],
) -> None:
    found = {
        (row["ticker"], row["timeframe"])
        for row in ask(database_url, "Freshness", today)
        if not row["ticker"].startswith("X:")
    }
    status = cli(simulate())("status", "--as-of", today, "--json").json["series"]
    assert found == {
        (one["symbol"], one["timeframe"])
        for one in status
        if one["judged"] and not one["fresh"] and not one["symbol"].startswith("X:")
    }
    assert {timeframe for _, timeframe in found} == stale


def test_bars_between_the_closes_of_crypto_days_are_due_every_day(database_url: str) -> None:
    # 7 and 8 December are a Saturday and a Sunday.
    rows = ask(database_url, "Freshness", "2024-12-09T01:00:00Z")
    behind = {row["timeframe"]: row["behind"] for row in rows if row["ticker"] == "X:BTCUSD"}
    assert behind == {"h4": 4, "d1": 4, "w1": 1}


@pytest.mark.parametrize(
    ("timeframe", "stamp", "period"),
    [
        ("d1", "2024-11-19T00:00Z", "2024-11-19"),
        ("d1", "2024-11-19T14:30Z", "2024-11-19"),
        ("d1", "2024-11-19T21:00Z", "2024-11-19"),
        ("w1", "2024-11-17T05:00Z", "2024-11-18"),
        ("mn1", "2024-10-01T00:00Z", "2024-10-01"),
    ],
)
def test_two_stamps_for_one_session_are_a_duplicate_and_one_is_off_the_grid(
    database_url: str, timeframe: str, stamp: str, period: str
) -> None:
    query(
        database_url,
        """
        INSERT INTO ohlc_bars
        SELECT id, $1::text::timeframe, $2::text::timestamptz, 1, 1, 1, 1, 0
        FROM symbols WHERE ticker = 'AAPL'
        """,
        timeframe,
        stamp,
    )

    assert noisy(database_url) - {"Jumps"} == {"Duplicates", "Off the grid"}
    [twice] = ask(database_url, "Duplicates")
    assert (twice["timeframe"], str(twice["period"]), twice["bars"]) == (timeframe, period, 2)
    [off] = ask(database_url, "Off the grid")
    assert (off["timeframe"], off["ts"]) == (timeframe, datetime.fromisoformat(stamp))


@pytest.mark.parametrize(
    ("timeframe", "stamp"),
    [
        ("d1", "2024-11-16T05:00Z"),  # a Saturday
        ("h4", "2024-11-19T15:00Z"),  # ten o'clock in New York
        ("m15", "2024-11-19T15:01Z"),
        ("m15", "2024-11-28T15:00Z"),  # Thanksgiving
    ],
)
def test_a_bar_that_starts_no_slot_is_off_the_grid(
    database_url: str, timeframe: str, stamp: str
) -> None:
    query(
        database_url,
        """
        INSERT INTO ohlc_bars
        SELECT id, $1::text::timeframe, $2::text::timestamptz, 1, 1, 1, 1, 0
        FROM symbols WHERE ticker = 'AAPL'
        """,
        timeframe,
        stamp,
    )
    assert noisy(database_url) - {"Jumps"} == {"Off the grid"}


def test_a_bar_in_quarantine_shows_until_it_is_accepted(
    cli: Callable[..., Cli], simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(plan="free", now=datetime.fromisoformat(TODAY))
    simulator.inject(Fault(action=Action.EDIT_BARS, bar={"h": 0.01}))
    backfill = cli(simulator)
    run = backfill("run", "--symbol", "JPM", "--from", "2024-10-01", "--as-of", TODAY, "--json")
    assert run.code == 1

    assert noisy(database_url) == {"Health", "Gaps", "Quality"}
    [aside] = ask(database_url, "Quality")
    assert (aside["ticker"], aside["timeframe"], aside["reason"], aside["bars"]) == (
        "JPM", "d1", "high_low", 1,
    )  # fmt: skip
    [gap] = ask(database_url, "Gaps")
    assert (gap["ticker"], gap["slots"], gap["reason"]) == ("JPM", 1, "quarantined")
    [failure] = ask(database_url, "Health")
    assert (str(failure["run_id"]), failure["symbol"], failure["outcome"]) == (
        run.json["run_id"], "JPM", "quarantined",
    )  # fmt: skip

    assert backfill("quarantine", "accept", "--all").code == 0
    assert ask(database_url, "Quality") == []


def test_a_run_that_died_is_told_from_one_at_work(database_url: str) -> None:
    [run] = query(
        database_url,
        "INSERT INTO backfill_runs (run_id, mode, provider, started_at) "
        "VALUES (gen_random_uuid(), 'default', 'massive', '2024-12-05T11:00Z') RETURNING run_id",
    )
    lease = (
        "UPDATE backfill_progress SET claimed_by = $1, claimed_until = $2::text::timestamptz "
        "WHERE timeframe = 'm15'"
    )
    assert [row["run_id"] for row in ask(database_url, "Health")] == [run[0]]
    query(database_url, lease, run[0], "2024-12-05T12:00:20Z")
    assert ask(database_url, "Health") == []
    query(database_url, lease, run[0], "2024-12-05T11:59:50Z")
    assert [row["run_id"] for row in ask(database_url, "Health")] == [run[0]]


def test_a_jump_is_one_until_a_split_explains_it(
    cli: Callable[..., Cli], simulate: Callable[..., Simulator], database_url: str
) -> None:
    backfill = cli(simulate(plan="free", now=datetime.fromisoformat(TODAY)))
    run = ("run", "--symbols", "SPLT,RVRS", "--from", "2024-05-01", "--as-of", TODAY)
    assert backfill(*run).code == 0
    query(database_url, "DELETE FROM splits")

    jumps = [(row["ticker"], row["ts"]) for row in ask(database_url, "Jumps")]
    assert jumps == [
        ("RVRS", datetime(2024, 9, 23, 4, tzinfo=UTC)),
        ("SPLT", datetime(2024, 6, 10, 4, tzinfo=UTC)),
    ]
    query(
        database_url,
        "INSERT INTO splits (ticker, execution_date, split_from, split_to) "
        "VALUES ('SPLT', '2024-06-10', 1, 10), ('RVRS', '2024-09-20', 8, 1)",
    )
    assert [row["ticker"] for row in ask(database_url, "Jumps")] == ["RVRS"]


@pytest.mark.parametrize(
    ("seed", "today"),
    [
        (0, TODAY),
        (1, "2024-12-05T18:00:00+00:00"),  # in the session
        (2, "2024-12-07T06:00:00+00:00"),  # a day's bars just due
        (3, "2025-01-01T06:00:00+00:00"),  # and a month's
    ],
)
def test_the_gap_query_agrees_with_the_command_whatever_was_deleted(
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
    seed: int,
    today: str,
) -> None:
    rng = random.Random(seed)
    series = [(ticker, one) for ticker, names in KEPT.items() for one in names]
    series += [("NEWCO", "h1"), ("NEWCO", "w1")]
    for ticker, timeframe in series:
        bars = query(
            database_url,
            "SELECT o.ctid, o.ts FROM ohlc_bars AS o JOIN symbols AS s ON s.id = o.symbol_id "
            "WHERE s.ticker = $1 AND o.timeframe = $2::text::timeframe ORDER BY o.ts",
            ticker,
            timeframe,
        )
        doomed = {rng.randrange(len(bars)) for _ in range(rng.choice((0, 1, 5, 40)))}
        first = rng.randrange(len(bars))
        doomed.update(range(first, min(len(bars), first + rng.choice((0, 3, 100)))))
        doomed.update(range(rng.choice((0, 2))))
        doomed.update(range(len(bars) - rng.choice((0, 2)), len(bars)))
        query(
            database_url,
            "DELETE FROM ohlc_bars WHERE ts = ANY ($1) AND timeframe = $2::text::timeframe "
            "AND symbol_id = (SELECT id FROM symbols WHERE ticker = $3)",
            [bars[index]["ts"] for index in doomed],
            timeframe,
            ticker,
        )
    # A month of what nobody traded is forgotten, an absence of two sessions known, and confirmed,
    # unconfirmed or expired; a session is closed by hand.
    month = rng.choice(("2024-07-01", "2024-10-01"))
    query(database_url, "DELETE FROM known_empty WHERE month = $1::text::date", month)
    for ticker, confirmed_on, expires_at in (
        ("AAPL", None, "2025-01-02"),
        ("SIM001", "2024-12-05", "2024-12-06"),
        ("NEWCO", None, "2024-12-05"),
    ):
        query(
            database_url,
            """
            INSERT INTO known_empty
            SELECT symbol_id, timeframe, '2024-11-01', 'absent',
                '{["2024-11-19 00:00-05", "2024-11-21 00:00-05")}', $2::text::timestamptz,
                $3::text::date
            FROM backfill_progress
            WHERE symbol_id = (SELECT id FROM symbols WHERE ticker = $1) AND timeframe < 'w1'
            """,
            ticker,
            expires_at,
            confirmed_on,
        )
        delete(
            database_url, ticker, "h4" if ticker == "SIM001" else "h1", "ts::date = '2024-11-20'"
        )
    query(
        database_url,
        "UPDATE market_sessions SET opens_at = NULL, closes_at = NULL, manual = true "
        "WHERE session = '2024-08-14'",
    )

    backfill = cli(simulate())
    by_command = gaps_by_command(backfill, today)
    assert len(by_command) > 3
    assert {gap.get("reason") for one in by_command for gap in one["gaps"]} == {None, "absent"}
    assert gaps_by_sql(database_url, today) == by_command

    # On a plan that delivers during the day the text says what to change.
    by_command = gaps_by_command(backfill, today, "advanced")
    by_sql = gaps_by_sql(
        database_url, today, lambda sql: sql.replace("SELECT true AS", "SELECT false AS")
    )
    assert by_sql == by_command
