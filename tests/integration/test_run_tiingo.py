"""Tiingo in whole runs: the month's symbols are used up for one, and no other pays for that."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import KEY, NOW, query

pytestmark = pytest.mark.wide

USED_UP: Final = "You have run over your 500 symbol look up for this month. Please upgrade"


async def test_a_symbol_over_the_months_number_costs_one_call_and_the_others_are_complete(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider="tiingo")
    key = (Secret(KEY),)
    account = AccountSettings(url=simulator.url, plan="unlimited", keys=key, secrets=key)
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="tiingo", accounts={"tiingo": account}
    )
    simulator.inject(Fault(action=Action.STATUS, status=200, body=USED_UP, ticker="AAPL"))
    job = api.Job(
        symbols=("AAPL", "SPLT"),
        timeframes=(Timeframe.m30, Timeframe.d1, Timeframe.w1),
        first=Bound(date(2015, 1, 2)),
        as_of=NOW,
    )

    planned = await api.plan(settings, job)
    begins = {(one.timeframe, one.begins) for one in planned.series}
    assert begins == {("m30", "2016-08-19"), ("d1", None), ("w1", None)}

    summary = await api.run(settings, job)
    assert {(one.symbol, one.outcome) for one in summary.failures} == {("AAPL", "rate_limited")}
    refused = [call for call in simulator.calls if call.fault]
    assert (len(refused), summary.retries) == (2, 0)  # a series each: minutes, and days
    assert (summary.exit_code, summary.rate_limited) == (1, 0)
    sources = await asyncio.to_thread(
        query,
        database_url,
        "SELECT timeframe::text, feed, adjustment, derived_from::text FROM backfill_progress AS p "
        "JOIN symbols AS s ON s.id = p.symbol_id WHERE s.ticker = 'SPLT' ORDER BY p.timeframe",
    )
    assert [tuple(one) for one in sources] == [
        ("m30", "iex", "raw", None),
        ("d1", "eod", "raw", None),
        ("w1", "eod", "raw", "d1"),
    ]
