"""Runs on databases as hosts and their owners set them up (R20, R30)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from pydantic import SecretStr
from structlog.testing import capture_logs

from backfill import api
from backfill.cli import commands
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.simulator import Simulator
from tests.conftest import KEY, NOW, _leave, query
from tests.integration.store_kit import connection_to, database_name

SYMBOLS = ("AAPL", "MSFT", "NVDA")
JOB = Job(
    symbols=SYMBOLS,
    timeframes=(Timeframe.m5, Timeframe.d1),
    first=Bound(date(2024, 11, 4)),
    as_of=NOW,
)


def settings_of(url: str, simulator: Simulator) -> Settings:
    return Settings(
        DATABASE_URL=SecretStr(url),
        MASSIVE_API_KEY=SecretStr(KEY),
        BACKFILL_PROVIDER_URL=simulator.url,
        BACKFILL_QUOTA="unlimited",
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
            await commands.status(settings, NOW),
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
