"""A run with nothing due: what it asks for does not grow with the series that are kept."""

from collections.abc import Callable

import asyncpg

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli
from tests.faults.proxy import Proxy

TICKERS = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "SPY")
TIMEFRAMES = ("d1", "w1", "mn1")
AT_NOON = ("--as-of", NOW.isoformat(), "--json")
ALL = ("run", "--all")
BETWEEN = 3
"""What a session is like; the schema, the watchlist, what is known of its series, and the sessions
of its calendars; and the row of the ledger."""

# As many symbols more, each kept as AAPL is.
_MANY = """
    WITH added AS (
        INSERT INTO symbols (ticker, asset_type, calendar, listed_on, confirmed_at)
        SELECT 'Z' || n, s.asset_type, s.calendar, s.listed_on, s.confirmed_at
        FROM symbols AS s, generate_series(1, $1::integer) AS n
        WHERE s.ticker = 'AAPL'
        RETURNING id, ticker
    ),
    spelled AS (
        INSERT INTO provider_symbols (symbol_id, provider, spelling)
        SELECT id, 'massive', ticker FROM added
    ),
    watched AS (
        INSERT INTO watchlist (symbol_id, since) SELECT id, '60d' FROM added
    )
    INSERT INTO backfill_progress (
        symbol_id, timeframe, provider, feed, adjustment, coverage, wanted_from, oldest_bar,
        newest_bar
    )
    SELECT a.id, p.timeframe, p.provider, p.feed, p.adjustment, p.coverage, p.wanted_from,
        p.oldest_bar, p.newest_bar
    FROM added AS a, backfill_progress AS p
    JOIN symbols AS s ON s.id = p.symbol_id
    WHERE s.ticker = 'AAPL' AND p.timeframe = 'd1'
"""


async def test_series_with_nothing_due_cost_no_call_and_three_round_trips_however_many_they_are(
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

    def between(*command: str, series: int) -> int:
        calls, before = len(simulator.calls), proxy.round_trips
        proxy.act_at(b"typeinfo_tree", lambda: asked_of_types.append(series))
        idle = backfill(*command, *AT_NOON)
        assert (idle.code, idle.json["series"]["complete"]) == (0, series)
        assert len(simulator.calls) == calls
        return proxy.round_trips - before - at_the_ends

    # What asyncpg asks of the server's own tables where it doesn't know a type.
    asked_of_types: list[int] = []
    with Proxy.before(server) as proxy:
        backfill = cli(simulator, DATABASE_URL=proxy.url(database_url))
        at_the_ends = await round_trips_of_connecting()
        watch("AAPL", timeframes=("d1",))
        assert backfill(*ALL, *AT_NOON).code == 0
        assert between(*ALL, "--incremental", series=1) == BETWEEN
        watch(*TICKERS, timeframes=TIMEFRAMES)
        assert backfill(*ALL, *AT_NOON).code == 0
        many = len(TICKERS) * len(TIMEFRAMES)
        assert between(*ALL, "--incremental", series=many) == BETWEEN
        assert between(*ALL, series=many) == BETWEEN
        named = ("run", "--symbols", ",".join(TICKERS))
        assert between(*named, "--incremental", series=many) == BETWEEN
        assert between(*named, "--from", "2024-10-01", series=many) == BETWEEN

        connection = await asyncpg.connect(database_url)
        await connection.execute(_MANY.replace("$1", str(5_000 - many)))
        await connection.close()
        assert between(*ALL, "--incremental", series=5_000) == BETWEEN
    assert asked_of_types == []
