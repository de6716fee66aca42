"""What becomes of a symbol by a command: retired and restored, deleted, trimmed."""

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Simulator
from backfill.store import removal, universe
from backfill.store.pool import Database
from tests.conftest import NOW, Cli, blocking, query, stored_bars

AS_OF = ("--as-of", NOW.isoformat())
D1 = Timeframe.d1

# Every table of ours that names a symbol.
NAMING = """
    SELECT c.relname
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'symbol_id'
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
"""


def orphans(url: str) -> dict[str, int]:
    """How many rows name a symbol that isn't there, by table; empty for none."""
    names = [row["relname"] for row in query(url, NAMING)]
    counts = {
        name: query(
            url,
            f"SELECT count(*) FROM {name} AS t WHERE symbol_id IS NOT NULL "
            "AND NOT EXISTS (SELECT FROM symbols AS s WHERE s.id = t.symbol_id)",
        )[0][0]
        for name in names
    }
    assert len(counts) > 6
    return {name: count for name, count in counts.items() if count}


async def in_store(url: str, work: Callable[..., Any], ticker: str, **options: Any) -> Any:
    async with Database.connect(url) as database:
        [symbol] = await database.run(lambda one: universe.by_ticker(one, [ticker]))
        return await database.run(lambda one: work(one, symbol=symbol, **options))


def test_a_live_ticker_is_retired_only_by_who_is_sure_and_can_be_restored(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate())
    fetch = ("run", "--symbol", "AAPL", "--from", "2024-11-01", *AS_OF, "--json")
    run("watch", "add", "--offline", "AAPL", "--since", "2024-11-01")
    assert run(*fetch).code == 0
    bars = stored_bars(database_url, "AAPL", D1)

    asked = run("symbols", "retire", "AAPL")
    assert (asked.code, asked.err.count("\n")) == (2, 1)
    assert "AAPL looks alive: it has bars up to 2024-11-11" in asked.err
    assert "backfill symbols retire AAPL --yes" in asked.err
    assert stored_bars(database_url, "AAPL", D1) == bars

    assert run("symbols", "retire", "AAPL", "--yes", "--json").json["retired_as"] == (
        "AAPL@2024-11-11"
    )
    restored = run("symbols", "restore", "AAPL@2024-11-11", "--json")
    assert (restored.code, restored.json) == (0, {"ticker": "AAPL", "was": "AAPL@2024-11-11"})
    assert stored_bars(database_url, "AAPL", D1) == bars
    assert query(database_url, "SELECT count(*) FROM symbol_aliases")[0][0] == 0
    assert query(database_url, "SELECT count(*) FROM symbols")[0][0] == 1
    again = run("run", "--all", *AS_OF, "--json")
    assert (again.code, again.json["calls"]) == (0, 0)

    # Once the ticker has bars of its own, they are in the way.
    run("symbols", "retire", "AAPL", "--yes")
    query(database_url, "UPDATE symbols SET listed_on = NULL WHERE ticker = 'AAPL'")
    assert run(*fetch).json["bars"]["inserted"] > 0
    refused = run("symbols", "restore", "AAPL@2024-11-11")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "backfill symbols delete AAPL --yes" in refused.err


def test_a_symbol_is_deleted_with_all_its_rows_also_after_a_kill_and_never_without(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    run = cli(simulator)
    fetch = ("run", "--symbols", "AAPL,MSFT", "-t", "d1,h1", "--from", "2024-11-06", *AS_OF)
    run("watch", "add", "--offline", "AAPL")
    assert run(*fetch).code == 0
    query(
        database_url,
        "INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id) "
        "SELECT id, 'd1', now(), 'high_low', '{}', gen_random_uuid() FROM symbols",
    )
    bars = len(stored_bars(database_url, "AAPL", D1)) + len(
        stored_bars(database_url, "AAPL", Timeframe.h1)
    )
    other = stored_bars(database_url, "MSFT", D1)

    asked = run("symbols", "delete", "AAPL")
    assert (asked.code, asked.err.count("\n")) == (2, 1)
    assert f"AAPL holds {bars} bars (h1, d1); nothing was deleted" in asked.err
    with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
        query(database_url, "DELETE FROM symbols")
    assert refused.value.hint is not None
    assert "--yes" in refused.value.hint
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        query(database_url, "TRUNCATE symbols CASCADE")
    assert orphans(database_url) == {}

    # A process that was killed after its first rows: nothing is fetched, nothing claimed.
    some = blocking(in_store(database_url, removal.delete_some, "AAPL", most=3))
    assert (some.bars, some.is_last) == (3, False)
    assert orphans(database_url) == {}
    calls = len(simulator.calls)
    meanwhile = run(*fetch, "--json")
    assert (meanwhile.code, len(simulator.calls)) == (1, calls)
    assert {one["symbol"] for one in meanwhile.json["failures"]} == {"AAPL"}
    assert "symbols delete AAPL --yes" in meanwhile.json["failures"][0]["message"]
    judged = run("status", *AS_OF, "--json").json["series"]
    assert {one["symbol"]: one["fresh"] for one in judged} == {"AAPL": False, "MSFT": True}

    deleted = run("symbols", "delete", "AAPL", "--yes", "--json")
    assert (deleted.code, deleted.err) == (0, "")
    assert deleted.json == {"ticker": "AAPL", "bars": bars - 3, "quarantined": 1}
    assert orphans(database_url) == {}
    assert [row[0] for row in query(database_url, "SELECT ticker FROM symbols")] == ["MSFT"]
    assert stored_bars(database_url, "MSFT", D1) == other
    assert "orphans" not in run("status", *AS_OF, "--json").json

    # Where a table is another system's, no trigger holds its rows: status tells what they left.
    query(
        database_url,
        "INSERT INTO ohlc_bars SELECT 1234, timeframe, ts, open, high, low, close, volume "
        "FROM ohlc_bars LIMIT 2",
    )
    assert run("status", *AS_OF, "--json").json["orphans"] == ["1234"]
    told = run("status", *AS_OF)
    assert (told.code, "symbols lacks (1234)" in told.out) == (0, True)
    assert run("symbols", "delete", "AAPL", "--yes").code == 2  # it is not known any more
    assert run(*fetch, "--json").json["bars"]["inserted"] == bars  # a symbol as new as any


def test_what_is_trimmed_is_not_fetched_again_until_somebody_names_it(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate(), BACKFILL_SINCE="2024-09-03")
    fetch = ("run", "--symbol", "AAPL", "-t", "m30,d1,w1", *AS_OF, "--json")
    assert run(*fetch).code == 0
    whole = {one: stored_bars(database_url, "AAPL", one) for one in (D1, Timeframe.w1)}
    query(
        database_url,
        "INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id) "
        "SELECT id, 'd1', at, 'high_low', '{}', gen_random_uuid() "
        "FROM symbols, unnest('{2024-10-01,2024-11-01}'::timestamptz[]) AS at",
    )

    nothing = run("symbols", "trim", "AAPL", "--before", "2024-11-12")
    assert (nothing.code, nothing.err.count("\n")) == (2, 1)
    assert "its newest bar is of 2024-11-11" in nothing.err

    trimmed = run("symbols", "trim", "AAPL", "--before", "2024-10-16", "--json")  # a Wednesday

    assert (trimmed.code, trimmed.err) == (0, "")
    assert (trimmed.json["kept_from"], trimmed.json["quarantined"]) == ("2024-10-16", 1)
    assert trimmed.json["bars"] > 400
    midnight = 1_729_051_200_000  # 2024-10-16T04:00Z
    assert stored_bars(database_url, "AAPL", D1) == [row for row in whole[D1] if row[0] >= midnight]
    assert stored_bars(database_url, "AAPL", Timeframe.w1) == [
        row for row in whole[Timeframe.w1] if row[0] >= midnight - 2 * 86_400_000
    ]
    [reach] = query(
        database_url,
        "SELECT min(lower(coverage)), min(wanted_from), min(oldest_bar) FROM backfill_progress "
        "WHERE timeframe <> 'w1'",
    )
    assert min(reach).timestamp() * 1000 >= midnight - 4 * 3_600_000
    assert query(
        database_url, "SELECT count(*) FROM known_empty WHERE lower(slots) < '2024-10-13'"
    ) == [(0,)]
    for again in (run(*fetch), run(*fetch, "--incremental")):
        assert (again.code, again.json["calls"], again.json["bars"]["inserted"]) == (0, 0, 0)
    assert run("gaps", *AS_OF).code == 0
    assert run("status", *AS_OF).code == 0

    assert run(*fetch, "--from", "2024-10-01").json["bars"]["inserted"] > 0
    run("watch", "add", "--offline", "AAPL", "-t", "d1,w1", "--since", "2024-09-03")
    assert run(*fetch).json["bars"]["inserted"] > 0
    assert stored_bars(database_url, "AAPL", D1) == whole[D1]
