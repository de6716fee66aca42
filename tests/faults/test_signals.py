"""SIGTERM and Ctrl-C end a run in order, whatever it waits for (R19)."""

import signal
from collections.abc import Callable

import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.faults import tables
from tests.faults.command import Command, Going, eventually
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.soak

SERIES = ("--symbols", "AAPL,MSFT", "-t", "m15", "-t", "d1", "--from", "2024-03-01")


def assert_ended_in_order(going: Going, url: str, number: int) -> None:
    going.send(number)
    ended = going.end()
    assert ended.code == 130, ended.err
    assert ended.lasted_s < 10
    assert (ended.json["status"], ended.json["exit_code"]) == ("interrupted", 130)
    ((run_id, status, error),) = tables.ledger(url)
    assert (run_id, status) == (ended.json["run_id"], "interrupted")
    assert signal.Signals(number).name in error
    assert tables.leases(url) == 0


def assert_finished_by_the_next(run: Command, url: str, market: Market) -> None:
    ended = run(*SERIES)
    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 4
    assert tables.covered_bars(url, market) > 15_000


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_a_signal_amid_pages_ends_the_run_and_the_next_one_finishes(
    number: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, path="/minute/", skip=2, bytes_per_s=1e4))
    run = command(simulator)
    going = run.start(*SERIES)
    going.wait_for("chunk.stored", timeframe="m15")
    assert_ended_in_order(going, database_url, number)
    assert tables.covered_bars(database_url, market) > 0
    simulator.clear_faults()
    calls = len(simulator.calls)
    assert_finished_by_the_next(run, database_url, market)
    assert len(simulator.calls) > calls


WAITS: dict[str, tuple[Fault | None, dict[str, str], str, int]] = {
    "a-slow-quota": (None, {"BACKFILL_QUOTA": "1/60s"}, "chunk.stored", signal.SIGTERM),
    "a-provider-that-hangs": (Fault(action=Action.HANG, skip=1), {}, "chunk.stored", signal.SIGINT),
    "a-long-backoff": (
        Fault(action=Action.STATUS, status=503, headers={"Retry-After": "60"}, skip=1),
        {},
        "fetch.retry",
        signal.SIGTERM,
    ),
    "a-pause-for-all": (
        Fault(action=Action.STATUS, status=429, headers={"Retry-After": "60"}, skip=1),
        {},
        "quota.throttled",
        signal.SIGINT,
    ),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_ends_a_run_that_waits_for(
    wait: str,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    fault, environment, event, number = WAITS[wait]
    simulator = provider()
    if fault:
        simulator.inject(fault)
    run = command(simulator)
    going = run.start(*SERIES, **environment)
    going.wait_for(event)
    assert_ended_in_order(going, database_url, number)
    simulator.clear_faults()
    # The pause that the provider asked for outlives the run, as it must.
    tables.execute(database_url, "TRUNCATE provider_quota")
    assert_finished_by_the_next(run, database_url, market)


def test_a_signal_ends_a_run_whose_database_is_silent(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, path="/minute/", skip=2, bytes_per_s=1e5))
    run = command(simulator)
    going = run.start(*SERIES, DATABASE_URL=proxy.url(database_url))
    going.wait_for("chunk.stored", timeframe="m15")
    proxy.stall()
    going.send(signal.SIGTERM)
    ended = going.end()
    proxy.resume()
    assert ended.code == 130, ended.err
    assert ended.lasted_s < 10
    assert ended.json["status"] == "interrupted"
    tables.covered_bars(database_url, market)
    tables.expire_leases(database_url)
    simulator.clear_faults()
    assert_finished_by_the_next(run, database_url, market)
    assert [status for _, status, _ in tables.ledger(database_url)] == ["interrupted", "ok"]


@pytest.mark.parametrize("sent", [b"ohlc_bars", b"COMMIT"], ids=bytes.decode)
def test_a_series_whose_last_page_the_database_never_took_is_not_called_complete(
    sent: bytes,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, bytes_per_s=1e4, times=1))
    run = command(simulator)
    series = ("--symbol", "AAPL", "-t", "d1", "--from", "2024-03-01")
    going = run.start(*series, DATABASE_URL=proxy.url(database_url))
    eventually(lambda: simulator.calls)
    proxy.stall_at(sent)  # what goes to the database next is the page
    going.wait_for("fetch.page")
    going.send(signal.SIGTERM)
    ended = going.end()
    proxy.resume()
    assert ended.code == 130, ended.err
    assert ended.json["series"]["complete"] == 0
    tables.expire_leases(database_url)
    assert run(*series).json["series"]["complete"] == 1
    assert tables.covered_bars(database_url, market) > 100
