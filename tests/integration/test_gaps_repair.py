"""What a repair asks for, and what it makes of the answers: in the tests' own process."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from tests.conftest import KEY, blocking, query, stored_bars
from tests.integration.truth import asked

NOW = datetime(2024, 11, 12, 12, tzinfo=UTC)
SINCE = Bound(date(2024, 11, 1))

Run = Callable[..., api.Summary]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(now=NOW, plan="unlimited")


@pytest.fixture
def settings(simulator: Simulator, database_url: str) -> api.Settings:
    return api.Settings(
        database_url=Secret(database_url),
        provider_url=simulator.url,
        accounts={"massive": api.AccountSettings(keys=(Secret(KEY),))},
        plan="unlimited",
    )


@pytest.fixture
def run(settings: api.Settings) -> Run:
    """Load timeframes of a ticker."""

    def one(ticker: str, timeframes: str) -> api.Summary:
        named = tuple(Timeframe(name) for name in timeframes.split(","))
        job = api.Job(symbols=(ticker,), timeframes=named, as_of=NOW, first=SINCE)
        summary = blocking(api.run(settings, job))
        assert summary.exit_code == 0, summary
        return summary

    return one


def lose(url: str, ticker: str, timeframe: str, *starts: str) -> None:
    """Delete bars by hand."""
    rows = query(
        url,
        """
        DELETE FROM ohlc_bars AS o USING symbols AS s
        WHERE s.id = o.symbol_id AND s.ticker = $1 AND o.timeframe = $2::text::timeframe
            AND o.ts = ANY ($3::timestamptz[])
        RETURNING 1
        """,
        ticker,
        timeframe,
        [datetime.fromisoformat(start) for start in starts],
    )
    assert len(rows) == len(starts)


def test_what_one_symbol_lacks_is_not_asked_for_of_another(
    simulator: Simulator, settings: api.Settings, run: Run, database_url: str
) -> None:
    run("AAPL", "m30")
    run("MSFT", "h1")
    kept = [("AAPL", Timeframe.m30), ("MSFT", Timeframe.h1)]
    before = [stored_bars(database_url, *one) for one in kept]
    lose(database_url, "AAPL", "m30", "2024-11-06T15:00Z")
    lose(database_url, "MSFT", "h1", "2024-11-07T15:00Z")
    calls = len(simulator.calls)

    repaired = blocking(api.repair(settings, NOW))

    assert (repaired.exit_code, repaired.left) == (0, [])
    assert [stored_bars(database_url, *one) for one in kept] == before
    assert sorted((call.ticker, call.unit) for call in asked(simulator, calls)) == [
        ("AAPL", "30 minute"),
        ("MSFT", "1 hour"),
    ]
    series = query(
        database_url,
        "SELECT s.ticker, p.timeframe::text FROM backfill_progress p JOIN symbols s ON s.id = "
        "p.symbol_id UNION SELECT s.ticker, o.timeframe::text FROM ohlc_bars o JOIN symbols s ON "
        "s.id = o.symbol_id ORDER BY 1",
    )
    assert [tuple(row) for row in series] == [(one, str(timeframe)) for one, timeframe in kept]


def test_an_hour_over_a_hole_before_the_open_is_asked_for_and_not_made_without_it(
    simulator: Simulator, settings: api.Settings, run: Run, database_url: str
) -> None:
    run("AAPL", "m5,h1")
    before = stored_bars(database_url, "AAPL", Timeframe.h1)
    # From 09:00 in New York on; nothing tells of the five minutes but the hour that holds them.
    lose(database_url, "AAPL", "h1", "2024-11-06T14:00Z")
    lose(database_url, "AAPL", "m5", "2024-11-06T14:10Z")
    calls = len(simulator.calls)

    repaired = blocking(api.repair(settings, NOW))

    assert (repaired.exit_code, repaired.left) == (0, [])
    assert stored_bars(database_url, "AAPL", Timeframe.h1) == before
    assert [call.unit for call in asked(simulator, calls)] == ["5 minute"]
