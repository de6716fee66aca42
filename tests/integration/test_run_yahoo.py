"""Yahoo in whole runs: one call at a time, and each length as far back as it goes."""

from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import NOW

pytestmark = pytest.mark.wide


async def test_no_call_is_sent_beside_another_and_minutes_begin_where_there_are_any(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider="yahoo")
    account = AccountSettings(url=simulator.url, plan="unlimited")
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="yahoo", accounts={"yahoo": account}
    )
    job = api.Job(
        symbols=("AAPL", "SPLT"),
        timeframes=(Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.d1),
        first=Bound(date(2024, 6, 3)),
        as_of=NOW,
    )
    planned = await api.plan(settings, job)
    begins = {(one.timeframe, one.begins) for one in planned.series if one.symbol == "AAPL"}
    assert begins == {
        ("m1", "2024-10-15"),
        ("m5", "2024-09-15"),
        ("h1", "2024-09-15"),
        ("d1", None),
    }

    simulator.inject(Fault(action=Action.LATE, back_s=(0.02, 0.05)))
    summary = await api.run(settings, job)

    assert (summary.exit_code, summary.failures) == (0, [])
    assert summary.calls == planned.calls == planned.calls_max
    assert all(
        following.at_s >= (call.head_s or 0.0) for call, following in pairwise(simulator.calls)
    )
