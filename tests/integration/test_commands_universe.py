"""The smaller commands: the schema, the symbols, the watchlist, the help."""

from collections.abc import Callable

import pytest

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli, query

AS_OF = ("--as-of", NOW.isoformat())


def test_help_is_exit_0_and_names_the_commands(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    ended = cli(simulate())("--help")

    assert (ended.code, ended.err) == (0, "")
    for command in ("run", "migrate", "status", "symbols", "watch", "simulate", "demo"):
        assert f" {command} " in ended.out


def test_migrate_tells_what_it_applied_and_a_second_time_nothing(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], empty_url: str
) -> None:
    run = cli(simulate(), DATABASE_URL=empty_url)

    first, second = run("migrate", "--json"), run("migrate", "--json")

    assert (first.code, second.code) == (0, 0)
    assert len(first.json["applied"]) >= 1
    assert any(name.endswith("_initial") for name in first.json["applied"])
    assert second.json == {"applied": []}
    assert run("migrate").out == "the schema is up to date\n"


def test_the_first_run_brings_the_schema_to_an_empty_database(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], empty_url: str
) -> None:
    simulator = simulate()

    ended = cli(simulator, DATABASE_URL=empty_url)(
        "run", "--symbol", "AAPL", "--from", "2024-11-01", *AS_OF
    )

    assert ended.code == 0, ended.err
    assert query(empty_url, "SELECT count(*) FROM ohlc_bars")[0][0] == 7


def test_a_database_newer_than_the_code_is_refused_without_a_call(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    query(
        database_url,
        "INSERT INTO backfill_migrations (version, name, checksum) VALUES ('29990101', 'far', '')",
    )

    ended = cli(simulator)("run", "--symbol", "AAPL", *AS_OF)

    assert ended.code == 3
    assert "upgrade backfill" in ended.err
    assert simulator.calls == []


def test_symbols_are_registered_then_confirmed_by_a_run_and_not_watched_by_either(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    run = cli(simulator)

    added = run("symbols", "add", "AAPL", "X:BTCUSD", "--json")

    assert added.code == 0
    assert [
        (one["ticker"], one["asset_type"], one["calendar"], one["confirmed"])
        for one in added.json["symbols"]
    ] == [("AAPL", "stock", "XNYS", False), ("X:BTCUSD", "crypto", "24/7", False)]
    assert run("symbols", "list", "--json").json == {"symbols": []}

    run("run", "--symbols", "AAPL,NEWCO", "--from", "2024-03-01", *AS_OF)
    listed = run("symbols", "list", "--json").json["symbols"]

    assert [(one["ticker"], one["confirmed"]) for one in listed] == [
        ("AAPL", True),
        ("NEWCO", True),
    ]
    assert listed[1]["listed_on"] == "2024-03-14"
    assert run("watch", "list", "--json").json == {"watchlist": []}


def test_the_watchlist_is_what_it_was_told_and_remove_keeps_the_bars(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate())

    new = run(
        "watch", "add", "--offline", "MSFT", "AAPL", "-t", "h1", "-t", "d1", "--since", "2024-10-01"
    )
    assert new.out.splitlines() == [
        f"{name} is watched now: timeframes h1 d1, since 2024-10-01, priority 0, "
        "provider the default"
        for name in ("MSFT", "AAPL")
    ]
    assert run("watch", "add", "--offline", "MSFT").out == "MSFT: nothing changed\n"
    told = run("watch", "add", "--offline", "MSFT", "-t", "d1", "--since", "default")
    assert told.out == ("MSFT: timeframes h1 d1 → d1, since 2024-10-01 → as the plan allows\n")

    assert run("watch", "list", "--json").json == {
        "watchlist": [
            {
                "symbol": "AAPL",
                "timeframes": ["h1", "d1"],
                "since": "2024-10-01",
                "paused": False,
                "priority": 0,
                "provider": None,
            },
            {
                "symbol": "MSFT",
                "timeframes": ["d1"],
                "since": None,
                "paused": False,
                "priority": 0,
                "provider": None,
            },
        ]
    }

    assert run("run", "--symbol", "AAPL", *AS_OF).code == 0
    held = query(database_url, "SELECT DISTINCT timeframe::text FROM ohlc_bars ORDER BY timeframe")
    assert sorted(row[0] for row in held) == ["d1", "h1"]  # those that it is watched in

    removed = run("watch", "remove", "AAPL", "TSLA", "--json")
    assert (removed.code, removed.json) == (0, {"removed": ["AAPL"]})
    assert query(database_url, "SELECT count(*) > 0 FROM ohlc_bars")[0][0]
    assert run("run", "--all", "--dry-run", "--json", *AS_OF).json["series"][0]["symbol"] == "MSFT"


@pytest.mark.parametrize("command", ["add", "remove"])
def test_a_malformed_symbol_is_refused_by_watch_before_anything_is_written(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
    command: str,
) -> None:
    ended = cli(simulate())("watch", command, "AAPL", "O'BRIEN")

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert query(database_url, "SELECT count(*) FROM symbols")[0][0] == 0


@pytest.mark.soak
def test_two_spellings_of_a_pair_are_one_symbol_under_the_first(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    run = cli(simulator)
    span = ("--from", "2024-11-01", *AS_OF, "--json")
    assert run("run", "--symbols", "BTC/USD,X:BTCUSD", *span).json["series"]["total"] == 1
    calls = len(simulator.calls)

    again = run("run", "--symbol", "X:BTCUSD", *span)
    planned = run("run", "--symbol", "X:BTCUSD", *span, "--dry-run")
    watched = run("watch", "add", "--offline", "X:BTCUSD", "--json")
    removed = run("watch", "remove", "BTC/USD", "X:BTCUSD", "--json")

    assert (again.code, len(simulator.calls)) == (0, calls)
    assert [(one["symbol"], one["calls"]) for one in planned.json["series"]] == [("BTC/USD", 0)]
    assert [one["symbol"] for one in watched.json["watchlist"]] == ["BTC/USD"]
    assert removed.json == {"removed": ["BTC/USD"]}
    assert [row[0] for row in query(database_url, "SELECT ticker FROM symbols")] == ["BTC/USD"]


def test_a_mix_of_two_spellings_is_refused(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    ended = cli(simulate())("symbols", "add", "X:BTC/USD")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "BTC/USD or X:BTCUSD" in ended.err


def test_a_paused_entry_is_left_out_of_all_until_it_is_resumed(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    simulator = simulate()
    run = cli(simulator)
    every = ("run", "--all", "--dry-run", "--json", *AS_OF)
    run("watch", "add", "--offline", "AAPL", "BTC/USD", "MSFT")

    paused = run("watch", "pause", "AAPL", "X:BTCUSD", "--json")

    assert paused.code == 0, paused.err
    assert {one["symbol"]: one["paused"] for one in paused.json["watchlist"]} == {
        "AAPL": True,
        "BTC/USD": True,
        "MSFT": False,
    }
    assert [one["symbol"] for one in run(*every).json["series"]] == ["MSFT"]
    assert "AAPL" not in run("status", "--json", *AS_OF).out

    again = run("watch", "add", "--offline", "AAPL", "--priority", "0", "--json")
    [changed] = again.json["changed"]
    assert changed["was"] == changed["is"]
    assert changed["is"]["paused"]

    strange = run("watch", "resume", "AAPL", "TSLA")
    assert (strange.code, strange.err.count("\n")) == (2, 1)
    assert "TSLA" in strange.err
    assert [one["symbol"] for one in run(*every).json["series"]] == ["MSFT"]

    assert run("watch", "resume", "AAPL").code == 0
    assert [one["symbol"] for one in run(*every).json["series"]] == ["AAPL", "MSFT"]
    run("watch", "pause", "AAPL", "MSFT")
    assert run(*every).code == 2


def test_pausing_what_is_stored_and_not_watched_says_what_would_help(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())
    assert run("run", "--symbol", "AAPL", "--from", "2024-11-01", *AS_OF).code == 0

    paused = run("watch", "pause", "AAPL")

    assert (paused.code, paused.err.count("\n")) == (2, 1)
    assert "`run --all` leaves AAPL out as it is" in paused.err
    assert "backfill watch add AAPL" in paused.err


def test_a_higher_priority_is_listed_and_planned_first(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())
    run("watch", "add", "--offline", "AAPL", "MSFT")
    run("watch", "add", "--offline", "NVDA", "--priority", "5")
    listed = run("watch", "add", "--offline", "TSLA", "--priority", "-1", "--json").json[
        "watchlist"
    ]

    assert [(one["symbol"], one["priority"]) for one in listed] == [
        ("NVDA", 5),
        ("AAPL", 0),
        ("MSFT", 0),
        ("TSLA", -1),
    ]
    planned = run("run", "--all", "--dry-run", "--json", *AS_OF).json["series"]
    assert [one["symbol"] for one in planned] == ["NVDA", "AAPL", "MSFT", "TSLA"]


def test_a_ticker_is_looked_at_before_it_is_believed_a_call_each(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    run = cli(simulator)
    assert run("run", "--symbol", "AAPL", "--from", "2024-11-01", *AS_OF).code == 0
    calls = len(simulator.calls)

    # The reference is asked about both, and for the list of tickers with the same first letter.
    for wrong, meant in (("APPL", "AAPL"), ("TLSA", "TSLA")):
        refused = run("watch", "add", "MSFT", wrong)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert f"knows no {wrong} (did you mean {meant}?)" in refused.err
    assert len(simulator.calls) == calls + 6
    for wrong, meant in (("aapl", "AAPL"), ("bitcoin", "X:BTCUSD")):
        for command in (("watch", "add"), ("symbols", "add"), ("run", "--symbol")):
            refused = run(*command, wrong)
            assert (refused.code, refused.out) == (2, "")
            assert f"in capitals: {wrong} (did you mean {meant}?)" in refused.err
    assert len(simulator.calls) == calls + 6
    for verb in ("watch pause", "gaps", "bars"):
        assert "(did you mean AAPL?)" in run(*verb.split(), "aapl").err
    assert query(database_url, "SELECT ticker FROM symbols") == [("AAPL",)]

    kept = run("watch", "add", "AAPL", "MSFT", "--json")  # one is confirmed
    assert (kept.code, kept.json["notes"], len(simulator.calls)) == (0, [], calls + 7)
    offline = run("watch", "add", "NOSUCH", "--offline", "--json")
    keyless = run("watch", "add", "NOSUCH", "--json", MASSIVE_API_KEY="")
    assert (offline.code, offline.json["notes"], keyless.code) == (0, [], 0)
    assert "not looked up: NOSUCH" in keyless.json["notes"][0]
    assert len(simulator.calls) == calls + 7
