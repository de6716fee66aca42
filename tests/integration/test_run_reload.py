"""A reload asks again for what is stored, corrects it, and loses nothing when it is cut."""

import json
from collections.abc import Callable
from datetime import date

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, Cli, query, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

AS_OF = ("--as-of", NOW.isoformat())
TODAY = date(2024, 11, 12)
ROWS = "SELECT ts, ctid::text, xmin::text FROM ohlc_bars ORDER BY symbol_id, timeframe, ts"


def test_a_reload_fetches_again_and_touches_only_what_the_provider_changed(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbol", "AAPL", "-t", "d1", "--from", "2024-08-01", *AS_OF, "--json")
    true = true_bars(market, "AAPL", Timeframe.d1, date(2024, 8, 1), TODAY)
    assert run(*command).json["bars"]["inserted"] == len(true)
    rows = query(database_url, ROWS)

    same = run(*command, "--reload")

    assert same.code == 0
    assert len(asked(simulator)) == 2
    assert same.json["bars"] == {
        "inserted": 0,
        "updated": 0,
        "unchanged": len(true),
        "rejected": 0,
        "withdrawn": 0,
        "ignored": 0,
    }
    assert query(database_url, ROWS) == rows  # not one row was written again

    gone, corrected = true[10], true[20]
    simulator.inject(Fault(action=Action.DROP_BARS, span_ms=(gone[0], gone[0] + 1)))
    changed = run(*command, "--reload")

    assert changed.code == 0, changed.err
    assert changed.json["bars"]["withdrawn"] == 1
    assert changed.json["bars"]["unchanged"] == len(true) - 1
    assert_same(stored_bars(database_url, "AAPL", Timeframe.d1), true[:10] + true[11:])
    [row] = query(
        database_url,
        "SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts, reason, raw FROM quarantined_bars",
    )
    assert (row["ts"], row["reason"]) == (gone[0], "withdrawn")
    assert json.loads(row["raw"])["close"] == gone[4]

    simulator.clear_faults()
    volume = corrected[5] + 100
    span = (corrected[0], corrected[0] + 1)
    simulator.inject(Fault(action=Action.EDIT_BARS, span_ms=span, bar={"v": volume}))
    back = run(*command, "--reload")

    assert back.code == 0, back.err
    assert back.json["bars"] == {
        "inserted": 1,
        "updated": 1,
        "unchanged": len(true) - 2,
        "rejected": 0,
        "withdrawn": 0,
        "ignored": 0,
    }
    true[20] = (*corrected[:5], volume, *corrected[6:])
    assert_same(stored_bars(database_url, "AAPL", Timeframe.d1), true)


def test_a_reload_cut_half_way_keeps_every_row_and_a_plain_run_finishes_it(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbol", "AAPL", "-t", "h1", "--from", "2023-11-13", *AS_OF, "--json")
    first = run(*command)
    assert first.json["calls"] >= 3
    true = true_bars(market, "AAPL", Timeframe.h1, date(2023, 11, 13), TODAY)
    old = true[50]
    simulator.inject(Fault(action=Action.DROP_BARS, span_ms=(old[0], old[0] + 1)))

    cut = run(*command, "--reload", "--max-calls", "1")

    assert cut.code == 5
    assert cut.json["bars"]["unchanged"] > 0
    assert_same(stored_bars(database_url, "AAPL", Timeframe.h1), true)

    calls = len(simulator.calls)
    rest = run(*command)

    assert rest.code == 0, rest.err
    assert rest.json["bars"]["withdrawn"] == 1  # it knows that the range was to be replaced
    assert len(simulator.calls) - calls == first.json["calls"] - 1
    assert_same(stored_bars(database_url, "AAPL", Timeframe.h1), true[:50] + true[51:])
    assert run(*command).json["calls"] == 0
