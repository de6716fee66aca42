"""Looking at the bars: `backfill bars`, and `backfill sql` on the database in use."""

import csv
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.simulator import Simulator
from backfill.store import history
from backfill.store.psql import open_psql
from tests.conftest import NOW, Cli, query, stored_bars

AS_OF = ("--as-of", NOW.isoformat())


def _ms(text: str) -> int:
    at = datetime.fromisoformat(text)
    assert at.utcoffset() == datetime.now(UTC).utcoffset()
    return round(at.timestamp() * 1000)


def test_bars_are_shown_as_they_are_stored_to_the_last_digit(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate())
    assert run("run", "--symbol", "AAPL", "-t", "d1,m1", "--from", "2024-10-14", *AS_OF).code == 0
    # No shorter text is this double, and none gave its vwap and count.
    query(
        database_url,
        "UPDATE ohlc_bars SET close = 0.1 + 0.2, low = 0.1, vwap = NULL, trade_count = NULL "
        "WHERE timeframe = 'd1' AND ts = '2024-11-08 05:00Z'",
    )
    days = stored_bars(database_url, "AAPL", Timeframe.d1)
    minutes = stored_bars(database_url, "AAPL", Timeframe.m1)
    assert len(minutes) > history.BLOCK

    rows = list(csv.DictReader(io.StringIO(run("bars", "AAPL", "--format", "csv").out)))
    assert [
        (
            _ms(row["ts"]),
            *(
                float(row[name]) if row[name] else None
                for name in ("open", "high", "low", "close", "volume", "vwap")
            ),
            int(row["trade_count"]) if row["trade_count"] else None,
        )
        for row in rows
    ] == days
    told = run("bars", "AAPL", "-t", "m1", "--format", "json").json
    assert (told["symbol"], told["timeframe"], told["adjusted"]) == ("AAPL", "m1", False)
    assert [(_ms(bar.pop("ts")), *bar.values()) for bar in told["bars"]] == minutes

    shown = run("bars", "AAPL").out.splitlines()
    assert [line.split()[0] for line in shown[:1] + shown[1:11:9]] == [
        "ts",
        "2024-10-29",
        "2024-11-11",
    ]
    assert "the newest 10" in shown[11]
    some = run("bars", "AAPL", "-t", "m1", "--last", "3", "--json").json["bars"]
    assert [_ms(bar["ts"]) for bar in some] == [row[0] for row in minutes[-3:]]
    ranged = run("bars", "AAPL", "--from", "2024-11-06", "--to", "2024-11-08", "--json").json
    assert [bar["ts"][:10] for bar in ranged["bars"]] == ["2024-11-06", "2024-11-07", "2024-11-08"]
    assert run("bars", "AAPL", "-t", "w1", "--json").json["bars"] == []
    query(
        database_url,
        "INSERT INTO splits (ticker, execution_date, split_from, split_to, status) "
        "VALUES ('AAPL', '2024-11-01', 1, 4, 'applied')",
    )
    adjusted = run("bars", "AAPL", "--adjusted", "--json").json["bars"]
    assert [bar["open"] for bar in adjusted] == [
        row[1] / (4 if row[0] < _ms("2024-11-01T00:00+00:00") else 1) for row in days
    ]
    for wrong in (
        ("bars", "NOSUCH"),
        ("bars", "AAPL", "-t", "d2"),
        ("bars", "AAPL", "-t", "d1,m1"),
    ):
        refused = run(*wrong)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)


def test_sql_runs_on_the_database_in_use_and_tells_what_it_did(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate())
    run("watch", "add", "--offline", "AAPL", "MSFT")

    asked = "SELECT ticker, listed_on, 0.1::float8 + 0.2 AS n FROM symbols ORDER BY ticker"
    assert run("sql", asked, "--json").json == {
        "rows": [{"ticker": name, "listed_on": None, "n": 0.1 + 0.2} for name in ("AAPL", "MSFT")]
    }
    assert run("sql", asked, "--format", "csv").out == (
        "ticker,listed_on,n\nAAPL,,0.30000000000000004\nMSFT,,0.30000000000000004\n"
    )
    assert run("sql", asked).out.splitlines()[-1] == "2 rows"
    many = run("sql", "SELECT n FROM generate_series(1, 2500) AS n", "--json").json["rows"]
    assert [row["n"] for row in many] == list(range(1, 2501))
    none = run("sql", "SELECT 1 AS one WHERE false", "--json")
    assert none.json == {"rows": []}
    done = run("sql", "UPDATE watchlist SET priority = 3")
    assert (done.code, done.out) == (0, "UPDATE 2\n")
    assert query(database_url, "SELECT DISTINCT priority FROM watchlist") == [(3,)]
    several = "SELECT 1; SELECT 2"
    for wrong in ("SELEC 1", several, "SELECT 1/0", "SELECT * FROM nosuch", "SELECT '\udcff'"):
        refused = run("sql", wrong)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1), ascii(wrong)
        assert "the statement was refused" in refused.err


def test_psql_is_told_by_its_environment_and_is_the_embedded_ones_where_there_is_no_other(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], tmp_path: Path, database_url: str
) -> None:
    psql = tmp_path / "psql"
    psql.write_text('#!/bin/sh\necho "$# $PGUSER $PGPASSWORD $PGHOST $PGDATABASE $PGSSLMODE"\n')
    psql.chmod(psql.stat().st_mode | stat.S_IXUSR)
    url = "postgresql://me:s%40cret@db.example:6543/bars?sslmode=require"
    run = cli(simulate(), DATABASE_URL=url)

    opened = run("sql", PATH=f"{tmp_path}:{os.environ['PATH']}")
    other = subprocess.run(
        [sys.executable, "-m", "backfill", "sql"],
        env=run.environment | {"PATH": "/nowhere", "DATABASE_URL": database_url},
        input="\\pset format unaligned\nSELECT count(*) FROM symbols;\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (opened.code, opened.out) == (0, "0 me s@cret db.example bars require\n")
    assert (other.returncode, other.stdout.splitlines()[-3:]) == (0, ["count", "0", "(1 row)"])


def test_a_database_without_any_psql_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backfill.store.programs.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="psql is not installed here"):
        open_psql("postgresql://me@db.example/bars", {"PATH": "/nowhere"}, embedded=False)
