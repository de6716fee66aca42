"""A whole life under the roles of docs/database.md: one login migrates, one only runs (R27)."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, _execute, blocking, query, stored_bars
from tests.integration.store_kit import as_user
from tests.integration.truth import assert_same, true_bars

pytestmark = pytest.mark.soak  # a dozen commands; .ci/run runs it on every server

NOW: Final = datetime(2024, 12, 4, 12, tzinfo=UTC)
TODAY: Final = ("--as-of", NOW.isoformat())
YESTERDAY: Final = ("--as-of", "2024-12-03T12:00:00Z")
SERIES: Final = ("--symbols", "AAPL,X:BTCUSD", "-t", "h1", "-t", "d1", "--from", "2024-10-01")
BAD_DAY: Final = datetime.fromisoformat("2024-11-19T00:00-05:00")
ROLES: Final = ("backfill_owner", "backfill_job", "dashboard")

_PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "database.md"
_MAKES_TEMPORARY: Final = """
    SELECT has_database_privilege(current_user, current_database(), 'TEMPORARY'),
        has_schema_privilege(current_user, 'public', 'CREATE')
"""


@pytest.fixture
def blocks(empty_url: str) -> Iterator[list[str]]:
    """The page's SQL blocks, in their order; the roles that they make go at the end."""
    yield re.findall(r"^```sql\n(.*?)^```$", _PAGE.read_text(encoding="utf-8"), re.S | re.M)
    for role in ROLES:
        if query(empty_url, "SELECT FROM pg_roles WHERE rolname = $1", role):
            query(empty_url, f"DROP OWNED BY {role} CASCADE")
            query(empty_url, f"DROP ROLE {role}")
    query(empty_url, "REVOKE ALL ON SCHEMA public FROM backfill_runner")


def one_line(ended: Ended, code: int, *words: str) -> None:
    """Assert that a command was refused with a code, and one line that holds some words."""
    assert ended.code == code, ended.err
    lines = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, ended.err
    for word in words:
        assert word in lines[0]


def test_what_a_login_may_not_do_another_does_and_the_job_does_all_the_rest(
    blocks: list[str],
    empty_url: str,
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    *before, reads, reads_all, reads_queue = blocks
    blocking(_execute(empty_url, *before))
    simulator = simulate(plan="free", now=NOW)
    owner, job, dashboard = (cli(simulator, DATABASE_URL=as_user(empty_url, one)) for one in ROLES)
    job_url = job.environment["DATABASE_URL"]
    [privileges] = query(job_url, _MAKES_TEMPORARY)
    assert tuple(privileges) == (False, False)

    # Nothing is there yet, and the job may not make it.
    one_line(job("run", *SERIES, *YESTERDAY), 3, "login that owns the tables")
    one_line(job("migrate"), 3, "not applied", "login that owns the tables")
    assert owner("migrate").code == 0
    assert job("migrate").out == "the schema is up to date\n"
    blocking(_execute(empty_url, reads))

    # The first load meets a bad bar, which a reload brings in order.
    start = round(BAD_DAY.timestamp() * 1000)
    span = (start, start + 1)
    simulator.inject(Fault(action=Action.EDIT_BARS, span_ms=span, bar={"h": 0.01}, ticker="AAPL"))
    first = job("run", *SERIES, *YESTERDAY, "--json")
    assert (first.code, first.json["bars"]["rejected"]) == (1, 1), first.err
    simulator.clear_faults()
    [bad] = job("quarantine", "list", "--json").json["bars"]
    assert bad["symbol"] == "AAPL"
    assert job("watch", "add", "--offline", "AAPL", "X:BTCUSD", "-t", "h1", "-t", "d1").code == 0
    increment = job("run", "--all", "--incremental", *TODAY, "--json")
    assert increment.code == 0, increment.err
    assert increment.json["bars"]["inserted"] > 0
    again = job("run", "--symbol", "AAPL", "-t", "d1", "--from", "2024-11-01", "--reload", *TODAY)
    assert again.code == 0, again.err

    # What goes missing is found and brought back.
    assert query(job_url, "DELETE FROM ohlc_bars WHERE ts = '2024-11-20T15:00Z' RETURNING 1")
    assert job("gaps", *TODAY).code == 4
    assert job("gaps", "--repair", *TODAY).code == 0
    assert job("status", *TODAY).code == 0
    for ticker in ("AAPL", "X:BTCUSD"):
        for timeframe in (Timeframe.h1, Timeframe.d1):
            true = true_bars(market, ticker, timeframe, date(2024, 10, 1), NOW.date(), NOW)
            assert_same(stored_bars(job_url, ticker, timeframe), true)

    # The views show the same to the job; a reader sees what it was given, and changes nothing.
    counts = "SELECT count(*) FROM {}"
    [stored] = query(job_url, counts.format("ohlc_bars"))
    assert query(job_url, counts.format("ohlc_bars_adjusted")) == [stored]
    assert query(job_url, counts.format("ohlc_bars_composed")) == [stored]
    assert 0 < query(job_url, counts.format("ohlc_bars_regular"))[0][0] < stored[0]
    assert query(dashboard.environment["DATABASE_URL"], counts.format("ohlc_bars")) == [stored]
    for statement in ("DELETE FROM ohlc_bars", counts.format("backfill_runs")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(dashboard.environment["DATABASE_URL"], statement)

    # One that was given everything sees all that the job does, and changes nothing either.
    blocking(_execute(empty_url, reads_all, reads_queue))
    for table in ("backfill_runs", "known_empty", "ohlc_bars_composed"):
        seen = query(dashboard.environment["DATABASE_URL"], counts.format(table))
        assert seen == query(job_url, counts.format(table))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        query(dashboard.environment["DATABASE_URL"], "DELETE FROM ohlc_bars")
