"""A hostile answer costs one failed chunk, bounded memory and bounded time (R22)."""

import asyncio
from collections.abc import Callable

import pytest

from backfill.core.wire import Request, Response
from backfill.errors import ProviderUnavailable
from backfill.fetch.retrying import Patience
from backfill.simulator import Action, Fault, Market, Simulator
from tests.faults import tables
from tests.faults.command import Command
from tests.kit import KEY, WrittenLedger, client

pytestmark = pytest.mark.soak

GIB = 2**30

# Two at a time: three that fail are a provider that is down.
UNREADABLE = ((Action.NESTED, Action.CHARSET), (Action.HTML, Action.RANDOM_BYTES))


def test_bodies_without_end_are_cut_off_and_cost_their_series_only(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.ENORMOUS_BODY, size=5 * GIB, ticker="AAPL"))
    simulator.inject(Fault(action=Action.GZIP_BOMB, size=5 * GIB, ticker="MSFT"))

    ended = command(simulator).start("--symbols", "AAPL,MSFT,NVDA", "--from", "2024-01-02").end()

    assert ended.code == 1, ended.err
    failures = {one["symbol"]: (one["outcome"], one["message"]) for one in ended.json["failures"]}
    assert failures.keys() == {"AAPL", "MSFT"}
    for outcome, message in failures.values():
        assert outcome == "bad_answer"
        assert "exceeds" in message
    assert ended.max_rss_mb < 400
    assert ended.lasted_s < 60
    assert tables.covered_bars(database_url, market) == 218


@pytest.mark.parametrize(
    "pair", [UNREADABLE[0], pytest.param(UNREADABLE[1], marks=pytest.mark.soak)], ids="-and-".join
)
def test_bodies_that_nobody_can_read_cost_their_series_only(
    pair: tuple[Action, Action],
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    for ticker, action in zip(("AAPL", "MSFT"), pair, strict=True):
        simulator.inject(Fault(action=action, ticker=ticker))

    ended = command(simulator).start("--symbols", "AAPL,MSFT,NVDA", "--from", "2024-01-02").end()

    assert ended.code == 1, ended.err
    assert {one["symbol"]: one["outcome"] for one in ended.json["failures"]} == {
        "AAPL": "bad_answer",
        "MSFT": "bad_answer",
    }
    assert len(simulator.calls) == 4 + 4 + 1 + 2  # and splits, dividends
    assert ended.max_rss_mb < 400
    assert tables.covered_bars(database_url, market) == 218


async def test_a_slow_drip_ends_with_the_deadline_of_the_attempt(
    provider: Callable[..., Simulator],
) -> None:
    simulator = provider(key=KEY)
    simulator.inject(Fault(action=Action.DRIP, bytes_per_s=500))
    patience = Patience(total_s=0.5, attempts=2, backoff_s=0.1)
    path = "/v2/aggs/ticker/AAPL/range/1/day/2024-01-02/2024-11-01"

    async def body(*, patience: Patience) -> bytes:
        def read(response: Response) -> bytes:
            return response.body

        opened = client(WrittenLedger(), base_url=simulator.url, patience=patience)
        async with opened as asking:
            return await asking.fetch(Request(path), read, asker="AAPL d1")

    async with asyncio.timeout(30):
        with pytest.raises(ProviderUnavailable):
            await body(patience=patience)
    assert [call.fault for call in simulator.calls] == ["drip", "drip"]

    simulator.clear_faults()
    assert len(await body(patience=Patience())) > 10_000


def test_a_slow_drip_does_not_outlast_the_deadline_of_the_run(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.DRIP, ticker="AAPL", bytes_per_s=100))

    ended = command(simulator)("--symbols", "AAPL,MSFT", "--deadline", "3")

    assert ended.code == 5, ended.err
    assert ended.lasted_s < 3 + 10
    assert (ended.json["status"], ended.json["series"]["complete"]) == ("stopped", 1)
    assert tables.leases(database_url) == 0
