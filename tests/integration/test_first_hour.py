"""What a newcomer types first does what it says."""

import re
import shlex
from collections.abc import Callable
from itertools import takewhile

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli, query

AS_OF = ("--as-of", NOW.isoformat())


def test_symbols_stand_behind_the_command_and_lengths_count_back_from_its_clock(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    backfill = cli(simulate())
    assert backfill("run", "AAPL,MSFT", "X:BTCUSD", "--from", "15d", *AS_OF).code == 0
    first = "SELECT ticker, min(ts)::date::text FROM ohlc_bars JOIN symbols ON id = symbol_id"
    assert query(database_url, f"{first} GROUP BY 1 ORDER BY 1") == [
        ("AAPL", "2024-10-28"),
        ("MSFT", "2024-10-28"),
        ("X:BTCUSD", "2024-10-28"),
    ]
    query(database_url, "DELETE FROM ohlc_bars WHERE ts::date IN ('2024-10-29', '2024-11-08')")
    for since, missing in (("15d", 2), ("1w", 1)):
        found = backfill("gaps", "AAPL", "--from", since, *AS_OF, "--json")
        assert found.code == 4
        assert [(one["symbol"], len(one["gaps"])) for one in found.json["series"]] == [
            ("AAPL", missing)
        ]


def test_a_simulator_says_how_it_is_used_and_that_works_as_it_stands(database_url: str) -> None:
    arguments = ("--key", "it's", "--quota", "unlimited", "--now", NOW.isoformat())
    served = Cli({}).start("simulate", *arguments)
    try:
        assert served.stdout is not None
        lines = list(takewhile(lambda line: not line.startswith("Ctrl-C"), served.stdout))
        told = "".join(lines)
        exports = [shlex.split(line)[1] for line in lines if line.lstrip().startswith("export ")]
        exported = dict(one.split("=", 1) for one in exports)
        [command] = re.findall(r"^ +backfill (.*)$", told, re.M)
        ended = Cli({"DATABASE_URL": database_url} | exported)(*shlex.split(command))
    finally:
        served.terminate()
        served.communicate()
    assert served.returncode == 0
    assert ended.code == 0, ended.err
    newest = "SELECT ticker, max(ts)::date::text FROM ohlc_bars JOIN symbols ON id = symbol_id"
    assert query(database_url, f"{newest} GROUP BY 1 ORDER BY 1") == [
        ("AAPL", "2024-11-11"),
        ("X:BTCUSD", "2024-11-11"),
    ]
    assert {"AAPL", "THIN", "X:BTCUSD"} <= set(told.split())


def test_what_lists_symbols_takes_them_behind_the_command(database_url: str) -> None:
    backfill = Cli({"DATABASE_URL": database_url})
    assert backfill("watch", "add", "--offline", "AAPL", "MSFT").code == 0
    query(
        database_url,
        "INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id) "
        "SELECT id, 'd1', '2024-10-01', 'high_low', '{}', gen_random_uuid() FROM symbols",
    )
    query(
        database_url,
        "INSERT INTO splits (ticker, execution_date, split_from, split_to, status) "
        "SELECT ticker, '2024-11-01', 1, 4, 'applied' FROM symbols",
    )
    listed = [
        {one["symbol"] for one in backfill(*command, "MSFT", "--json").json[what]}
        for command, what in ((("quarantine", "list"), "bars"), (("actions", "list"), "splits"))
    ]
    assert listed == [{"MSFT"}, {"MSFT"}]
    assert backfill("quarantine", "accept", "MSFT", "--json").json == {"accepted": 1}
