"""Runs that overlap share the work and give the table of one (R20)."""

from collections.abc import Callable

import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.faults import tables
from tests.faults.command import Command

pytestmark = pytest.mark.soak

SERIES = (
    *("--symbols", "AAPL,MSFT,THIN", "--from", "2023-11-13"),
    *("-t", "m30", "-t", "h1", "-t", "h4", "-t", "d1"),
)


@pytest.mark.parametrize("runs", [pytest.param(2, marks=pytest.mark.soak), 4])
def test_runs_at_once_do_no_work_twice_and_give_the_table_of_one(
    runs: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    alone = run(*SERIES)
    assert alone.code == 0, alone.err
    bars, claims = tables.bars(database_url), tables.claims(database_url)
    calls = len(simulator.calls)
    tables.empty_tables(database_url)

    simulator.inject(Fault(action=Action.DRIP, bytes_per_s=2e5))
    going = [run.start(*SERIES) for _ in range(runs)]
    ended = [one.end() for one in going]

    for one in ended:
        assert one.code == 0, one.err
        assert one.json["series"]["complete"] + one.json["series"]["skipped"] == 12
        assert one.json["bars"]["unchanged"] == one.json["bars"]["updated"] == 0
        assert "deadlock" not in one.err
    assert len(simulator.calls) == 2 * calls
    assert sum(one.json["calls"] for one in ended) == alone.json["calls"]
    assert sum(one.json["bars"]["inserted"] for one in ended) == tables.size(database_url)
    assert tables.bars(database_url) == bars
    assert tables.claims(database_url) == claims
    assert [status for _, status, _ in tables.ledger(database_url)] == ["ok"] * runs
    assert tables.leases(database_url) == 0


def test_a_run_that_comes_second_leaves_a_live_run_its_series_and_says_so(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.DRIP, path="/minute/", bytes_per_s=1e4, skip=1))
    series = ("--symbol", "AAPL", "-t", "m30", "--from", "2023-11-13")
    first = run.start(*series)
    first.wait_for("chunk.stored")
    second = run(*series)
    assert first.running
    first.kill()

    assert second.code == 0, second.err
    assert second.json["series"]["skipped"] == 1
    assert (second.json["status"], second.json["calls"]) == ("ok", 0)
    assert tables.covered_bars(database_url, market) > 1_000
