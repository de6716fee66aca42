"""A run with nothing due: what it asks for does not grow with the series that are kept."""

from collections.abc import Callable

import asyncpg

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli
from tests.faults.proxy import Proxy

TICKERS = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "SPY")
TIMEFRAMES = ("d1", "w1", "mn1")
RUN = ("run", "--all", "--incremental", "--as-of", NOW.isoformat(), "--json")
BETWEEN = 4
"""What a session is like; the schema, the watchlist and what is known of its series; the sessions
of its calendar; and the row of the ledger."""


async def test_many_series_with_nothing_due_cost_no_call_and_four_round_trips(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], server: str, database_url: str
) -> None:
    simulator = simulate()

    def watch(*tickers: str, timeframes: tuple[str, ...]) -> None:
        frames = [part for timeframe in timeframes for part in ("-t", timeframe)]
        assert backfill("watch", "add", "--offline", *tickers, *frames, "--since", "60d").code == 0

    async def round_trips_of_connecting() -> int:
        before = proxy.round_trips
        await (await asyncpg.connect(proxy.url(database_url))).close()
        return proxy.round_trips - before

    def round_trips_of_an_idle_run(series: int) -> int:
        assert backfill(*RUN).code == 0
        calls, before = len(simulator.calls), proxy.round_trips
        proxy.act_at(b"typeinfo_tree", lambda: asked_of_types.append(series))
        idle = backfill(*RUN)
        assert (idle.code, idle.json["series"]["complete"]) == (0, series)
        assert len(simulator.calls) == calls
        return proxy.round_trips - before

    # What asyncpg asks of the server's own tables where it doesn't know a type.
    asked_of_types: list[int] = []
    with Proxy.before(server) as proxy:
        backfill = cli(simulator, DATABASE_URL=proxy.url(database_url))
        at_the_ends = await round_trips_of_connecting()
        watch("AAPL", timeframes=("d1",))
        assert round_trips_of_an_idle_run(series=1) - at_the_ends == BETWEEN
        watch(*TICKERS, timeframes=TIMEFRAMES)
        many = len(TICKERS) * len(TIMEFRAMES)
        assert round_trips_of_an_idle_run(series=many) - at_the_ends == BETWEEN
    assert asked_of_types == []
