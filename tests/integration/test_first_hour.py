"""What a newcomer types first does what it says."""

from collections.abc import Callable

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
