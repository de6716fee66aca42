"""What a newcomer types first does what it says."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile

import pytest

from backfill.simulator import Simulator
from tests.conftest import KEY, NOW, Cli, query
from tests.documents import DOCS

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


@pytest.mark.soak
def test_the_first_examples_of_the_readme_take_no_key_and_a_free_one(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    text = DOCS.parent.joinpath("README.md").read_text("utf-8")
    [use] = re.findall(r"^## Use it\n(.*?)^With a key of Massive", text, re.M | re.S)
    commands = re.findall(r"^\$ backfill ([^#\n]+)", use, re.M)
    binance, alpaca = (simulate(provider=one) for one in ("binance", "alpaca"))
    shares = {f"APCA_API_{one}": KEY for one in re.findall(r"APCA_API_(\w+)=", use)}
    hosts = {"BINANCE_URL": binance.url, "ALPACA_URL": alpaca.url, "APCA_API_BASE_URL": alpaca.url}
    backfill = Cli({"DATABASE_URL": database_url, "BACKFILL_SINCE": "60d"} | hosts)

    first, second, third, fourth = map(shlex.split, commands)
    assert (backfill(*first, *AS_OF).code, backfill(*second).code) == (0, 0)
    assert "no key for alpaca" in backfill(*third, *AS_OF).err
    with_keys = replace(backfill, environment=backfill.environment | shares)
    assert with_keys(*third, *AS_OF).code == 0
    assert backfill(*fourth).out.count("\n") > 5
    held = "SELECT ticker, provider, newest_bar::date::text FROM backfill_progress JOIN symbols ON"
    assert query(database_url, f"{held} id = symbol_id ORDER BY id") == [
        ("BTC/USDT", "binance", "2024-11-11"),
        ("MSFT", "alpaca", "2024-11-11"),
    ]


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
