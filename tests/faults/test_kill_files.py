"""A run that ends within a flat file loses nothing that it wrote, and claims no more (R18)."""

import signal
from collections.abc import Callable
from datetime import date

import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import query
from tests.faults import tables
from tests.faults.command import KEY, Command, eventually

ASKED = (
    *("--symbols", "AAPL,MSFT", "-t", "m1", "-t", "h1", "--archive", "always"),
    *("--from", "2024-11-04", "--to", "2024-11-08"),
)
THIRD = "2024-11-06"


class Few(Market):
    """A market of few tickers: a file holds the minutes of them all."""

    tickers = ("AAPL", "MSFT", "NVDA")


@pytest.fixture(scope="module")
def market() -> Market:
    return Few()


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.wide),
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_ends_within_a_file_keeps_those_before_and_claims_nothing_of_it(
    end: signal.Signals,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(
        simulator,
        MASSIVE_FLATFILES_URL=simulator.url,
        MASSIVE_S3_ACCESS_KEY_ID=KEY,
        MASSIVE_S3_SECRET_ACCESS_KEY=KEY[::-1],
        BACKFILL_PLAN="unlimited",
        NO_PROXY="*",
    )
    assert run(*ASKED).code == 0
    bars, claims = tables.bars(database_url), tables.claims(database_url)
    tables.empty_tables(database_url)
    query(database_url, "TRUNCATE archive_files")
    before = len(simulator.calls)

    simulator.inject(Fault(action=Action.STALL, path=THIRD, stall_s=600))
    going = run.start(*ASKED)
    eventually(lambda: any(THIRD in call.path for call in simulator.calls[before:]))
    eventually(lambda: len(query(database_url, "SELECT FROM archive_files")) == 2)
    if end is signal.SIGKILL:
        going.kill()
        tables.expire_leases(database_url)
    else:
        going.send(end)
        assert going.end().code == 130
        assert tables.leases(database_url) == 0
    days = query(
        database_url,
        "SELECT DISTINCT (ts AT TIME ZONE 'America/New_York')::date FROM ohlc_bars ORDER BY 1",
    )
    assert [day for [day] in days] == [date(2024, 11, 7), date(2024, 11, 8)]
    assert tables.covered_bars(database_url, market)

    simulator.clear_faults()
    asked = len(simulator.calls)
    assert run(*ASKED).code == 0
    read = [call.path[-17:-7] for call in simulator.calls[asked:] if "flatfiles" in call.path]
    assert read == ["2024-11-06", "2024-11-05", "2024-11-04"]
    assert tables.bars(database_url) == bars
    assert tables.claims(database_url) == claims
    assert tables.leases(database_url) == 0
