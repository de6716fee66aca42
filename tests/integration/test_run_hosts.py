"""Runs on databases as hosts and their owners set them up (R20, R30)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from backfill import api
from backfill.audit.status import status
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.errors import DatabaseError
from backfill.run.job import Job
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store.pool import Database
from tests.conftest import KEY, NOW, _fresh, _leave, query
from tests.integration.store_kit import as_user, connection_to, database_name
from tests.integration.test_store_tables import partition

SYMBOLS = ("AAPL", "MSFT", "NVDA")
JOB = Job(
    symbols=SYMBOLS,
    timeframes=(Timeframe.m5, Timeframe.d1),
    first=Bound(date(2024, 11, 4)),
    as_of=NOW,
)


@pytest.fixture
def other_url(server: str, with_calendars: str) -> Iterator[str]:
    """The URL of a second database of the same kind."""
    yield from _fresh(server, with_calendars)


def settings_of(url: str, simulator: Simulator) -> Settings:
    return Settings(
        database_url=Secret(url),
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        provider_url=simulator.url,
        quota_override="unlimited",
    )


async def set_default(server: str, url: str, **values: str) -> None:
    """Give a database defaults of its own."""
    name = database_name(url)
    async with connection_to(server) as owner:
        for setting, one in values.items():
            await owner.execute(f"ALTER DATABASE {name} SET {setting} = {one}")
    await _leave(server, name)


async def test_status_gaps_and_a_dry_run_only_read(
    simulate: Callable[..., Simulator], server: str, database_url: str
) -> None:
    simulator = simulate()
    settings = settings_of(database_url, simulator)
    assert (await api.run(settings, JOB)).exit_code == 0
    await asyncio.to_thread(query, database_url, "DELETE FROM ohlc_bars WHERE ts < '2024-11-05'")
    wider = replace(JOB, first=Bound(date(2024, 10, 1)))

    async def seen() -> tuple[object, ...]:
        return (
            await status(settings, NOW),
            (await api.gaps(settings, NOW)).gaps,
            (await api.plan(settings, wider)).as_dict(),
        )

    before, calls = await seen(), len(simulator.calls)
    await set_default(server, database_url, default_transaction_read_only="on")
    assert await seen() == before
    assert len(simulator.calls) == calls


async def test_six_runs_at_once_where_serializable_is_the_default_give_the_table_of_one(
    simulate: Callable[..., Simulator], server: str, database_url: str
) -> None:
    await set_default(
        server,
        database_url,
        default_transaction_isolation="serializable",
        lc_messages="'C'",
        datestyle="'German, DMY'",
        timezone="'Asia/Kolkata'",
        intervalstyle="'sql_standard'",
        extra_float_digits="0",
        array_nulls="off",
    )
    simulator = simulate()
    settings = settings_of(database_url, simulator)
    with capture_logs() as logs:
        ended = await asyncio.gather(*(api.run(settings, JOB) for _ in range(6)))
    assert [entry for entry in logs if entry["event"] == "database.retry"] == []
    assert [one.exit_code for one in ended] == [0] * 6
    bars = "SELECT count(*), min(ts), max(ts) FROM ohlc_bars"
    [row] = await asyncio.to_thread(query, database_url, bars)
    assert tuple(row) == (
        sum(one.bars.inserted for one in ended),
        datetime(2024, 11, 4, 5, tzinfo=UTC),
        datetime(2024, 11, 12, 0, 55, tzinfo=UTC),
    )


@pytest.mark.attack(11)
@pytest.mark.direct
async def test_a_run_lives_with_a_login_that_may_have_three_sessions(
    simulate: Callable[..., Simulator], server: str, database_url: str
) -> None:
    user = f"few_{uuid4().hex[:8]}"
    async with connection_to(server) as owner:
        await owner.execute(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 3 IN ROLE backfill_runner")
    limited, simulator = as_user(database_url, user), simulate()
    try:
        async with connection_to(limited), connection_to(limited):
            summary = await api.run(settings_of(limited, simulator), JOB)
    finally:
        async with connection_to(server) as owner:
            await owner.execute(f"DROP ROLE {user}")
    assert (summary.exit_code, summary.bars.inserted > 0) == (0, True)


@pytest.mark.soak
async def test_a_schema_that_the_database_names_is_worked_in(
    simulate: Callable[..., Simulator], server: str, empty_url: str
) -> None:
    async with connection_to(empty_url) as owner:
        await owner.execute("CREATE SCHEMA market")
    await set_default(server, empty_url, search_path="market")
    summary = await api.run(settings_of(empty_url, simulate()), JOB)
    assert summary.exit_code == 0
    stored = "SELECT count(*) FROM market.ohlc_bars"
    [row] = await asyncio.to_thread(query, empty_url, stored)
    assert row[0] == summary.bars.inserted


@pytest.mark.soak
@pytest.mark.parametrize("by", ["range", "list"])
async def test_the_life_of_series_in_partitions_gives_the_table_of_a_plain_one(
    simulate: Callable[..., Simulator], database_url: str, other_url: str, by: str
) -> None:
    async with Database.connect(other_url) as database:
        await partition(database, by)
    simulator = simulate()
    plain, parted = [
        await _life(settings_of(url, simulator), url) for url in (database_url, other_url)
    ]
    assert plain[1] == parted[1]
    assert plain[0] == parted[0]


async def test_a_range_that_no_partition_takes_is_refused_before_any_call(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    async with Database.connect(database_url) as database:
        await partition(database, "range")
    async with connection_to(database_url) as owner:
        await owner.execute("DROP TABLE bars_2024")
        await owner.execute(
            """
            CREATE TABLE bars_early PARTITION OF ohlc_bars
                FOR VALUES FROM ('2023-11-14 23:00Z') TO ('2024-11-08 01:00Z')
            """
        )
    simulator = simulate()
    settings = settings_of(database_url, simulator)
    for look in (api.run, api.plan):
        with pytest.raises(DatabaseError, match=r"no partition.* takes (m5|d1) bars of 2024-11"):
            await look(settings, JOB)
    assert not simulator.calls
    earlier = replace(JOB, last=Bound(date(2024, 11, 7)))
    assert (await api.run(settings, earlier)).exit_code == 0


async def _life(settings: Settings, url: str) -> tuple[list[object], list[tuple[object, ...]]]:
    """Load, go on, lose rows, find and repair them, reload; return what was told and is stored."""
    later = replace(JOB, first=None, as_of=NOW + timedelta(days=1), mode=Mode.incremental)
    told: list[object] = []
    for job in (JOB, JOB, later):
        summary = await api.run(settings, job)
        told.append((summary.exit_code, summary.calls, summary.bars))
    lost = "DELETE FROM ohlc_bars WHERE ts BETWEEN '2024-11-07 15:00Z' AND '2024-11-07 16:00Z'"
    await asyncio.to_thread(query, url, lost)
    repaired = await api.repair(settings, later.as_of)
    told.append((repaired.found.gaps, repaired.left))
    reloaded = await api.run(settings, replace(later, first=JOB.first, mode=Mode.reload))
    told.append((reloaded.exit_code, reloaded.calls, reloaded.bars))
    rows = await asyncio.to_thread(
        query, url, "SELECT * FROM ohlc_bars ORDER BY symbol_id, timeframe, ts"
    )
    return told, [tuple(row) for row in rows]
