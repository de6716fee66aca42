"""A run with nothing due: what it asks for does not grow with the series that are kept."""

from collections.abc import Callable

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli
from tests.faults.proxy import Proxy

TICKERS = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "SPY")
TIMEFRAMES = ("d1", "w1", "mn1")
RUN = ("run", "--all", "--incremental", "--as-of", NOW.isoformat(), "--json")


def test_many_series_with_nothing_due_cost_no_call_and_no_more_queries_than_one(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], server: str, database_url: str
) -> None:
    simulator = simulate()

    def watch(*tickers: str, timeframes: tuple[str, ...]) -> None:
        frames = [part for timeframe in timeframes for part in ("-t", timeframe)]
        assert backfill("watch", "add", "--offline", *tickers, *frames, "--since", "60d").code == 0

    def round_trips_of_an_idle_run(series: int) -> int:
        assert backfill(*RUN).code == 0
        calls, before = len(simulator.calls), proxy.round_trips
        idle = backfill(*RUN)
        assert (idle.code, idle.json["series"]["complete"]) == (0, series)
        assert len(simulator.calls) == calls
        return proxy.round_trips - before

    with Proxy.before(server) as proxy:
        backfill = cli(simulator, DATABASE_URL=proxy.url(database_url))
        watch("AAPL", timeframes=("d1",))
        one = round_trips_of_an_idle_run(series=1)
        watch(*TICKERS, timeframes=TIMEFRAMES)
        many = len(TICKERS) * len(TIMEFRAMES)
        assert round_trips_of_an_idle_run(series=many) == one
