"""A run that is killed at any instant leaves whole pages, and the next run does the rest (R18)."""

import random
import signal
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import query
from tests.faults import tables
from tests.faults.command import Command
from tests.faults.proxy import Proxy

# All are rolled up from m1 but d1 and w1: most pages change four series at once.
SERIES = (
    *("--symbols", "AAPL,VTHIN", "--to", "2024-07-12"),
    *("-t", "m1", "-t", "m15", "-t", "h1", "-t", "h4", "-t", "d1", "-t", "w1"),
)
Rows = list[tuple[Any, ...]]


def life(command: Command, series: tuple[str, ...], url: str) -> tuple[Rows, Rows, int]:
    """Run to the end, and return the table, what is claimed of it, and the lines of the log."""
    ended = command(*series)
    assert ended.code == 0, ended.err
    return tables.bars(url), tables.claims(url), len(ended.err.splitlines())


@pytest.mark.parametrize(
    ("seed", "kills", "begin"),
    [
        (1, 7, "2024-03-04"),  # two pages of Apple's minutes
        *(pytest.param(seed, 20, "2023-07-03", marks=pytest.mark.soak) for seed in (2, 3)),  # five
    ],
)
@pytest.mark.wide
def test_kills_at_random_instants_leave_the_table_of_an_undisturbed_run(
    seed: int,
    kills: int,
    begin: str,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, bytes_per_s=3e6))  # pages come one after another
    run = command(simulator)
    series = (*SERIES, "--from", begin)
    bars, claims, lines = life(run, series, database_url)
    whole = tables.size(database_url)
    assert max(row[2] for row in bars) > 50_000
    tables.empty_tables(database_url)
    random_ = random.Random(seed)
    lives, seen = 0, set()
    stages = 3 * lines // 5  # what the log has said is stored, however slow the machine is
    for kill in range(kills):
        # So many lines into its log or, where there are none yet, somewhere in its first second.
        first, last = (number * stages // kills for number in (kill, kill + 1))
        after = random_.randrange(first, max(last, first + 1))
        going = run.start(*series)
        going.read_lines(after)
        threading.Event().wait(random_.uniform(0, 0.1 if after else 1.0))
        killed = going.kill()
        tables.expire_leases(database_url)
        seen.add(tables.covered_bars(database_url, market))
        if killed.code == 0 or tables.size(database_url) == whole:
            lives += 1
            life_ends(run, series, database_url, bars, claims)
    life_ends(run, series, database_url, bars, claims)
    assert lives <= kills / 3
    assert len(seen) > kills / 5  # they died at many stages


@pytest.mark.parametrize("copies", [2, 3])
def test_a_run_that_dies_while_a_page_is_copied_ahead_leaves_whole_pages(
    copies: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    run = command(provider(), DATABASE_URL=proxy.url(database_url))
    series = ("--symbol", "AAPL", "-t", "m1", "--from", "2023-07-03", "--to", "2024-07-12")
    dies_as(proxy, b"COPY ohlc_bars", copies, run, series, database_url, market)


@pytest.mark.parametrize("writes", [3, 4])
def test_a_run_that_dies_while_it_writes_small_pages_together_leaves_whole_ones(
    writes: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    run = command(provider(), DATABASE_URL=proxy.url(database_url))
    symbols = ",".join(f"SIM{number:03}" for number in range(12))
    series = ("--symbols", symbols, "-t", "d1", "--from", "2024-06-03", "--to", "2024-07-12")
    dies_as(proxy, b"INSERT INTO ohlc_bars", writes, run, series, database_url, market)


def dies_as(
    proxy: Proxy,
    sent: bytes,
    times: int,
    run: Command,
    series: tuple[str, ...],
    url: str,
    market: Market,
) -> None:
    """Kill a run as it sends something: whole pages are left, and the next run does the rest."""
    bars, claims, _ = life(run, series, url)
    tables.empty_tables(url)

    going = run.start(*series)
    proxy.act_at(sent, lambda: going.send(signal.SIGKILL), times)
    assert going.end().code == -9
    tables.expire_leases(url)
    covered = tables.covered_bars(url, market)
    assert query(url, "SELECT count(*) FROM ohlc_bars") == [(covered,)]
    life_ends(run, series, url, bars, claims)


def life_ends(run: Command, series: tuple[str, ...], url: str, bars: Rows, claims: Rows) -> None:
    ended = run(*series)
    assert ended.code == 0, ended.err
    assert tables.bars(url) == bars
    assert tables.claims(url) == claims
    assert tables.leases(url) == 0
    assert {status for _, status, _ in tables.ledger(url)} <= {"ok", "interrupted", "running"}
    tables.empty_tables(url)


@pytest.mark.parametrize(
    "left_s", [4, pytest.param(30, marks=pytest.mark.soak)], ids=["cut-short", "whole"]
)
def test_a_run_waits_for_the_lease_of_a_dead_one_takes_over_and_marks_it_interrupted(
    left_s: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.HANG, path="/minute/", skip=1))
    going = run.start("--symbol", "AAPL", "-t", "m15", "-t", "d1", "--from", "2024-01-02")
    going.wait_for("chunk.stored", timeframe="m15")
    going.kill()
    ((dead, status, _),) = tables.ledger(database_url)
    assert status == "running"
    ((held,),) = query(
        database_url,
        "SELECT count(*) FROM backfill_progress"
        " WHERE timeframe = 'm15' AND claimed_by = $1 AND claimed_until > now()",
        UUID(dead),
    )
    assert held == 1
    simulator.clear_faults()
    tables.expire_leases(database_url, after=f"{left_s} s")

    ended = run("--symbol", "AAPL", "-t", "m15", "-t", "d1", "--from", "2024-01-02")

    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 2
    assert ended.lasted_s > left_s - 1
    assert [(run_id, status) for run_id, status, _ in tables.ledger(database_url)] == [
        (dead, "interrupted"),
        (ended.json["run_id"], "ok"),
    ]
    assert tables.covered_bars(database_url, market) > 10_000
    assert tables.leases(database_url) == 0


def test_a_dead_run_is_marked_interrupted_also_when_nothing_it_worked_on_is_due_any_more(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.HANG, skip=1))
    going = run.start("--symbols", "AAPL,MSFT")
    going.wait_for("chunk.stored")
    going.kill()
    # One of its leases is alive: so may it be.
    simulator.clear_faults()
    assert run("--symbol", "NVDA").code == 0
    assert [status for _, status, _ in tables.ledger(database_url)] == ["running", "ok"]

    tables.expire_leases(database_url)
    again = run("--symbol", "NVDA")

    assert (again.code, again.json["calls"]) == (0, 0)
    assert [status for _, status, _ in tables.ledger(database_url)] == ["interrupted", "ok", "ok"]
