"""Pages in flight: no more than there is room for, however slow the database is."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from backfill import api
from backfill.core.pages import BaseAggregates
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.fetch.client import Client
from backfill.providers.massive import Massive
from backfill.run import fetching, writing
from backfill.run.behind import Behind
from backfill.run.room import PER_BAR, PER_PAGE
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store.bars import write_chunks
from tests.conftest import KEY, NOW

SYMBOLS = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "SPY", "QQQ", "JPM")
PAGE = 1000
PAGES = 3


async def test_a_provider_faster_than_the_database_is_asked_for_what_there_is_room_for(
    simulate: Callable[..., Simulator], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight = [0, 0]
    fetch, put, write = Client.fetch, Behind.put, write_chunks

    async def fetched(self: Client, request: Any, *args: Any, **options: Any) -> Any:
        if "/range/" in request.target:
            flight[0] += 1
            flight[1] = max(flight)
        return await fetch(self, request, *args, **options)

    async def slowly(*given: Any, **options: Any) -> Any:
        await asyncio.sleep(0.02)
        return await write(*given, **options)

    def put_to_be_written(self: Behind, *given: Any) -> asyncio.Task[bool]:
        task = put(self, *given)
        task.add_done_callback(lambda _: flight.__setitem__(0, flight[0] - 1))
        return task

    monkeypatch.setattr(Client, "fetch", fetched)
    monkeypatch.setattr(Behind, "put", put_to_be_written)
    monkeypatch.setattr(writing, "write_chunks", slowly)
    monkeypatch.setattr(fetching, "ROOM", PAGES * (PER_PAGE + PAGE * PER_BAR))
    monkeypatch.setattr(Massive, "can", replace(Massive.can, pages=BaseAggregates(PAGE)))
    settings = Settings(
        database_url=Secret(database_url),
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        provider_url=simulate().url,
        quota_override="unlimited",
    )
    job = api.Job(
        symbols=SYMBOLS,
        timeframes=(Timeframe.m1,),
        first=Bound(date(2024, 11, 4)),
        last=Bound(date(2024, 11, 6)),
        as_of=NOW,
    )
    summary = await api.run(settings, job)
    assert summary.exit_code == 0
    assert summary.series.complete == len(SYMBOLS)
    assert summary.calls >= 2 * len(SYMBOLS)
    # A page that came is shrunk to what it holds, so that there may be room for one more.
    assert 2 <= flight[1] <= PAGES + 1
