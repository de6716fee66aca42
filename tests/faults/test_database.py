"""The database goes away in mid-run: pages are written again or reported, never claimed (R21)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import blocking, query
from tests.faults import tables
from tests.faults.command import Command, Going
from tests.faults.proxy import Proxy
from tests.faults.servers import OwnServer, SmallDisk

pytestmark = pytest.mark.soak

SERIES = ("--symbols", "AAPL,MSFT,THIN", "-t", "m15", "-t", "d1", "--from", "2024-02-05")
BARS = 30_000
PAGE = b"COPY ohlc_bars"
"""What a page of some hundred bars or more begins with on its way to the table."""
_END_OTHERS = """
    SELECT pg_terminate_backend(pid)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def soak(value: object) -> Any:
    return pytest.param(value, marks=pytest.mark.soak)


@pytest.fixture
def simulator(provider: Callable[..., Simulator]) -> Simulator:
    """A provider whose pages take a while, so that there is a middle of the run."""
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, path="/minute/", bytes_per_s=2.5e5))
    return simulator


def start(run: Command, **environment: str) -> Going:
    going = run.start(*SERIES, **environment)
    going.wait_for("chunk.stored", timeframe="m15")
    return going


def assert_finished_by_the_next(
    run: Command, simulator: Simulator, url: str, market: Market
) -> None:
    simulator.clear_faults()
    ended = run(*SERIES)
    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 6
    assert tables.covered_bars(url, market) > BARS


def assert_done_in_spite_of_it(going: Going, url: str, market: Market) -> None:
    ended = going.end()
    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 6
    assert "database.retry" in ended.err
    assert tables.covered_bars(url, market) > BARS
    assert [status for _, status, _ in tables.ledger(url)] == ["ok"]


def test_sessions_that_the_server_ends_are_opened_again_and_nothing_is_lost(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    ended: list[int] = []

    def end_them() -> None:
        with ThreadPoolExecutor() as apart:  # the proxy's own thread has a loop
            ended.append(len(apart.submit(query, database_url, _END_OTHERS).result()))
        if len(ended) < 2:
            proxy.act_at(PAGE, end_them, arrives=True)

    proxy.act_at(PAGE, end_them, arrives=True)
    going = start(command(simulator), DATABASE_URL=proxy.url(database_url))
    assert_done_in_spite_of_it(going, database_url, market)
    assert len(ended) == 2
    assert all(ended)


@pytest.mark.parametrize(
    "sent", [b"COMMIT", *(soak(sent) for sent in (b"COPY ", b"backfill_progress"))]
)
def test_a_connection_that_is_cut_amid_a_transaction_costs_no_page(
    sent: bytes,
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    going = start(command(simulator), DATABASE_URL=proxy.url(database_url))
    proxy.cut_at(sent)
    assert_done_in_spite_of_it(going, database_url, market)


def test_a_server_that_takes_no_session_for_a_while_costs_no_page(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    going = start(command(simulator), DATABASE_URL=proxy.url(database_url))
    proxy.refuse()
    proxy.cut()
    going.wait_for("database.retry", attempt=2)
    proxy.refuse(refusing=False)
    assert_done_in_spite_of_it(going, database_url, market)


def test_connections_that_stall_for_a_while_and_are_slow_then_cost_no_page(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    going = start(command(simulator), DATABASE_URL=proxy.url(database_url))
    proxy.stall()
    going.wait_for("fetch.page")
    proxy.slow(0.01)
    proxy.resume()
    ended = going.end()
    assert ended.code == 0, ended.err
    assert tables.covered_bars(database_url, market) > BARS


def test_a_database_that_stays_away_is_one_clear_message_and_exit_3(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
    proxy: Proxy,
) -> None:
    run = command(simulator)
    going = start(run, DATABASE_URL=proxy.url(database_url))
    proxy.refuse()
    proxy.cut()
    ended = going.end()
    assert_reported(ended.code, ended.json, ended.err)
    assert tables.covered_bars(database_url, market) > 0
    tables.expire_leases(database_url)
    assert_finished_by_the_next(run, simulator, database_url, market)
    assert [status for _, status, _ in tables.ledger(database_url)] == ["interrupted", "ok"]


def assert_reported(code: int, summary: dict[str, object], err: str) -> None:
    assert code == 3, err
    failures = summary["failures"]
    assert isinstance(failures, list)
    assert {one["outcome"] for one in failures} == {"database_error"}
    *_, end = map(json.loads, err.splitlines())  # every line is JSON, the last too
    assert (end["event"], end["exit_code"]) == ("command.ended", 3)
    assert "database" in end["message"]


def test_a_database_that_turns_read_only_is_one_clear_message_and_exit_3(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
) -> None:
    run = command(simulator)
    going = start(run)
    ((name,),) = query(database_url, "SELECT current_database()")
    setting = "default_transaction_read_only"
    tables.execute(
        database_url,
        f"ALTER DATABASE {name} SET {setting} = on",
        # The setting is read when a session begins: a failover ends the old ones, too.
        _END_OTHERS,
    )
    ended = going.end()
    tables.execute(database_url, f"SET {setting} = off", f"ALTER DATABASE {name} RESET {setting}")
    assert_reported(ended.code, ended.json, ended.err)
    assert "read-only" in ended.err
    tables.covered_bars(database_url, market)
    tables.expire_leases(database_url)
    assert_finished_by_the_next(run, simulator, database_url, market)


def test_a_lock_that_somebody_holds_for_a_while_costs_no_page(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    database_url: str,
) -> None:
    going = start(command(simulator))

    async def hold() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():
                await connection.execute("SELECT FROM backfill_progress FOR UPDATE")
                # Pages pile up behind the lock for as long as it takes two more to come.
                for _ in range(2):
                    going.wait_for("fetch.page")
        finally:
            await connection.close()

    blocking(hold())
    ended = going.end()
    assert ended.code == 0, ended.err
    assert tables.covered_bars(database_url, market) > BARS


@pytest.mark.parametrize("how", [soak("fast"), "immediate"])
def test_a_server_that_is_restarted_costs_no_page(
    how: str,
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    own_server: OwnServer,
) -> None:
    going = start(command(simulator), DATABASE_URL=own_server.url)
    own_server.restart(how)
    ended = going.end()
    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 6
    assert tables.covered_bars(own_server.url, market) > BARS
    assert [status for _, status, _ in tables.ledger(own_server.url)] == ["ok"]


def test_a_server_that_is_killed_is_one_clear_message_and_the_next_run_finishes_once_it_is_back(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    own_server: OwnServer,
) -> None:
    run = command(simulator, DATABASE_URL=own_server.url)
    going = start(run)
    own_server.kill()
    ended = going.end()
    assert_reported(ended.code, ended.json, ended.err)
    own_server.start()
    tables.covered_bars(own_server.url, market)
    tables.expire_leases(own_server.url)
    assert_finished_by_the_next(run, simulator, own_server.url, market)


def test_a_role_that_is_out_of_connections_for_a_while_costs_no_page(
    market: Market,
    simulator: Simulator,
    command: Callable[..., Command],
    own_server: OwnServer,
) -> None:
    tables.execute(own_server.url, "CREATE ROLE busy LOGIN IN ROLE backfill_runner")
    as_busy = own_server.url.replace("//postgres:", "//busy:")
    going = start(command(simulator), DATABASE_URL=as_busy)
    tables.execute(
        own_server.url,
        "ALTER ROLE busy CONNECTION LIMIT 0",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'busy'",
    )
    going.wait_for("database.retry", attempt=2)
    tables.execute(own_server.url, "ALTER ROLE busy CONNECTION LIMIT -1")
    assert_done_in_spite_of_it(going, own_server.url, market)


def test_a_full_disk_is_one_clear_message_and_the_next_run_finishes_when_there_is_room(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    server: str,
    template: str,
) -> None:
    simulator = provider()
    name = f"small_{uuid4().hex[:12]}"
    with SmallDisk.mounted("18m") as disk:
        tables.execute(
            server,
            f"CREATE TABLESPACE {name} LOCATION '{disk.folder}'",
            f"CREATE DATABASE {name} TEMPLATE {template} TABLESPACE {name}",
        )
        url = server.replace("/postgres?", f"/{name}?")
        try:
            run = command(simulator)
            full = ("--symbols", "AAPL,THIN", "-t", "m1", "-t", "d1", "--from", "2024-03-04")
            ended = run(*full, DATABASE_URL=url)
            assert_reported(ended.code, ended.json, ended.err)
            assert "No space left" in ended.err
            tables.covered_bars(url, market)
            disk.grow("200m")
            tables.expire_leases(url)
            again = run(*full, DATABASE_URL=url)
            assert again.code == 0, again.err
            assert tables.covered_bars(url, market) > 100_000
        finally:
            tables.execute(server, f"DROP DATABASE {name} WITH (FORCE)", f"DROP TABLESPACE {name}")
