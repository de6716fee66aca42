"""What a run says, where, and what it never says."""

import json
from collections.abc import Callable
from datetime import datetime

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import NOW, Cli, query

AS_OF = ("--as-of", NOW.isoformat())
SUMMARY = {
    "run_id", "status", "exit_code", "mode", "provider", "calls", "lookups", "retries",
    "rate_limited", "duration_s", "series", "bars", "failures", "providers",
    "rate_limited_by_others", "symbol_events",
}  # fmt: skip


def test_json_is_one_object_alone_on_stdout_with_the_keys_of_the_contract(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    ended = cli(simulate())("run", "--symbols", "AAPL,NOSUCH", *AS_OF, "--json")

    assert ended.out.count("\n") == 1
    assert ended.json.keys() == SUMMARY
    assert ended.json["series"].keys() == {"total", "complete", "partial", "failed", "skipped"}
    assert ended.json["bars"].keys() == {
        "inserted", "updated", "unchanged", "rejected", "withdrawn", "ignored",
    }  # fmt: skip
    [failure] = ended.json["failures"]
    assert failure.keys() == {"symbol", "timeframe", "outcome", "message", "provider"}
    assert ended.json["providers"]["massive"] == {
        "calls": 2, "lookups": 3, "retries": 0, "rate_limited": 0, "failed": 1,
    }  # fmt: skip
    assert ended.json["exit_code"] == ended.code == 1

    [row] = query(database_url, "SELECT * FROM backfill_runs")
    assert str(row["run_id"]) == ended.json["run_id"]
    for column, value in {
        "status": ended.json["status"],
        "mode": "default",
        "symbols_processed": 2,
        "calls": ended.json["calls"],
        "lookups": 3,  # the ticker, the splits, the dividends
        "bars_inserted": ended.json["bars"]["inserted"],
        "bars_updated": 0,
        "bars_unchanged": 0,
        "bars_rejected": 0,
    }.items():
        assert row[column] == value, column
    assert json.loads(row["failures"]) == ended.json["failures"]
    assert row["started_at"] < row["finished_at"]


def test_stderr_in_a_pipe_is_json_lines_that_name_the_run(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.STATUS, status=503, ticker="MSFT", times=1))
    ended = cli(simulator)("run", "--symbols", "AAPL,MSFT,NOSUCH", *AS_OF)

    events = [json.loads(line) for line in ended.err.splitlines()]
    for event in events:
        assert event.keys() >= {"timestamp", "level", "event", "run_id"}
        assert datetime.fromisoformat(event["timestamp"]).utcoffset() is not None
    assert len({event["run_id"] for event in events}) == 1
    assert events[0]["event"] == "run.started"
    assert events[-1]["event"] == "run.finished"
    assert {event["event"] for event in events} == {
        "run.started", "plan.ready", "fetch.page", "fetch.retry", "chunk.stored", "series.failed",
        "run.finished",
    }  # fmt: skip
    for event in events:
        if event["event"] in {"fetch.page", "fetch.retry", "chunk.stored", "series.failed"}:
            assert event.keys() >= {"symbol", "timeframe", "provider"}
    assert events[-1].keys() >= SUMMARY


@pytest.mark.attack(5)
def test_the_key_appears_nowhere_not_even_where_the_provider_repeats_it(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    key = "K3y-of-this-test"
    simulator = simulate(key=key)
    told = json.dumps({"status": "ERROR", "error": f"no such parameter: {key}"})
    simulator.inject(Fault(action=Action.STATUS, status=400, ticker="MSFT", body=told))
    simulator.inject(Fault(action=Action.STATUS, status=500, ticker="TSLA", body=told, times=1))
    # White space around it is a slip of the hand, not a part of it.
    run = cli(simulator, MASSIVE_API_KEY=f" {key}\n")

    ended = [
        run("run", "--symbols", "AAPL,MSFT,TSLA", "--json", *AS_OF),
        run("run", "--symbols", "MSFT", *AS_OF, BACKFILL_LOG="console"),
    ]

    assert [end.code for end in ended] == [1, 1]
    assert ended[0].json["series"]["complete"] == 2
    for end in ended:
        assert "no such parameter" in end.out + end.err
        assert key not in end.out
        assert key not in end.err
    tables = query(
        database_url,
        "SELECT quote_ident(relname) AS name FROM pg_class "
        "WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace",
    )
    assert len(tables) > 8
    for table in tables:
        rows = query(database_url, f"SELECT t::text AS row FROM {table['name']} AS t")
        assert not [row for row in rows if key in row["row"]], table["name"]


def test_without_json_a_person_reads_a_table_that_is_not_cut(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())

    plan = run("run", "--symbols", "AAPL,X:BTCUSD", "-t", "d1,h1", "--dry-run", *AS_OF)
    ended = run("run", "--symbols", "AAPL,NOSUCH", *AS_OF)
    status = run("status", *AS_OF)

    assert (plan.code, ended.code, status.code) == (0, 1, 0)
    assert "Nothing was called." in plan.out
    assert "X:BTCUSD" in plan.out
    assert "unknown_symbol" in ended.out
    assert "doesn't know this ticker" in ended.out
    assert "2024-11-11 05:00" in status.out
    for out in (plan.out, ended.out, status.out):
        assert "…" not in out
        assert "\x1b" not in out


def test_a_reader_of_stdout_that_leaves_gets_no_traceback(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    process = cli(simulate()).start("run", "--symbol", "AAPL", "--json", *AS_OF)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)

    assert "Traceback" not in err
    assert '"status": "ok"' in err
