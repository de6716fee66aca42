"""``run --all --watch``: a round when a bar is due or the watchlist changes, come what may."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from backfill.core.timeframe import Timeframe
from backfill.errors import Interrupted, UsageError
from backfill.fetch.stop import StopSignal
from backfill.run.job import Job
from backfill.run.outcomes import Summary
from backfill.run.rounds import Ending, Rhythm, Waiting, run_rounds
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Simulator
from backfill.store import universe
from backfill.store.pool import Database
from tests.conftest import KEY, NOW, Cli, query
from tests.faults.command import Going, Kept, eventually
from tests.faults.proxy import Proxy

QUICK = Rhythm(look_s=0.05, away_s=0.05, away_max_s=0.2)
DUE = datetime(2024, 11, 13, 6, tzinfo=UTC)
"""When the Tuesday of NOW is final: an hour after its midnight in New York."""


@dataclass
class Watch:
    """A watch under way, on a clock that the test sets."""

    simulator: Simulator
    now: datetime = NOW
    stop: StopSignal = field(default_factory=StopSignal)
    told: list[Summary] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)
    ending: Ending | None = None

    def set_clock(self, now: datetime) -> None:
        self.now = now
        self.simulator.set_now(now)

    async def rounds(self, number: int) -> list[Summary]:
        """Wait for so many rounds in all, and see that there is none more for three looks."""
        await asyncio.to_thread(eventually, lambda: len(self.told) >= number)
        await asyncio.sleep(3 * QUICK.look_s)
        assert len(self.told) == number
        return self.told


@asynccontextmanager
async def watching(
    simulator: Simulator, url: str, job: Job | None = None, rhythm: Rhythm = QUICK
) -> AsyncIterator[Watch]:
    settings = Settings(
        database_url=Secret(url),
        provider_url=simulator.url,
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        quota_override="unlimited",
    )
    it = Watch(simulator)

    async def work() -> None:
        it.ending = await run_rounds(
            settings,
            job or Job(),
            it.told.append,
            stop=it.stop,
            on_wait=it.waits.append,
            rhythm=rhythm,
            clock=lambda: it.now,
        )

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        try:
            yield it
        finally:
            it.stop.set(Interrupted("the test is over"))
        async with asyncio.timeout(10):
            await task


async def keep(url: str, *tickers: str, since: str = "2024-11-01") -> None:
    async with Database.connect(url) as database:
        await database.run(
            lambda connection: universe.watch(
                connection, list(tickers), universe.WatchChange((Timeframe.d1,), since)
            )
        )


async def ask(url: str, sql: str) -> list[asyncpg.Record]:
    return await asyncio.to_thread(query, url, sql)


async def test_a_round_follows_when_a_bar_becomes_final_and_not_before(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    async with watching(simulator, database_url) as it:
        (first,) = await it.rounds(1)
        assert (first.exit_code, first.bars.inserted) == (0, 7)
        assert it.waits == [Waiting(DUE)]

        it.set_clock(DUE - timedelta(milliseconds=1))
        await it.rounds(1)
        it.set_clock(DUE)
        second = (await it.rounds(2))[1]

        assert (second.exit_code, second.bars.inserted) == (0, 1)
    assert it.ending == Ending(130)
    ledger = [str(row[0]) for row in await ask(database_url, _RUNS)]
    assert ledger == [first.run_id, second.run_id]


_RUNS = "SELECT run_id FROM backfill_runs ORDER BY started_at"


async def test_a_clock_that_jumps_there_and_back_is_followed(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    async with watching(simulator, database_url) as it:
        await it.rounds(1)
        it.now = NOW + timedelta(days=400)  # the machine's alone
        await it.rounds(2)
        it.now = NOW
        assert (await it.rounds(3))[2].exit_code == 0
        it.set_clock(DUE)
        await it.rounds(4)


@pytest.mark.parametrize("passed_on", [True, False], ids=["notice", "look"])
async def test_a_round_follows_when_the_watchlist_changes(
    passed_on: bool, simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    slow = Rhythm(look_s=3600) if passed_on else QUICK
    if not passed_on:
        await ask(database_url, "ALTER TABLE watchlist DISABLE TRIGGER backfill_watchlist_changed")
    async with watching(simulator, database_url, rhythm=slow) as it:
        await it.rounds(1)
        await keep(database_url, "MSFT")
        added = (await it.rounds(2))[1]
        assert (added.series.total, added.calls) == (2, 1)

        await ask(database_url, "UPDATE watchlist SET paused = true")
        await it.rounds(2)  # nothing to run, and no reason to end
        await keep(database_url, "NVDA")
        assert (await it.rounds(3))[2].series.total == 1


@pytest.mark.soak
async def test_a_provider_that_is_away_is_waited_for_ever_longer_and_then_asked_again(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL", "MSFT", "NVDA")
    simulator.inject(Fault(action=Action.RESET))
    rhythm = Rhythm(look_s=0.05, away_s=0.3, away_max_s=3600)
    async with watching(simulator, database_url, rhythm=rhythm) as it:
        await asyncio.to_thread(eventually, lambda: it.told)
        simulator.clear_faults()
        await it.rounds(2)
    assert [one.exit_code for one in it.told] == [3, 0]
    assert it.told[1].series.complete == 3


async def test_a_key_that_is_refused_ends_it(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    simulator.inject(Fault(action=Action.STATUS, status=401))
    async with watching(simulator, database_url) as it:
        await asyncio.to_thread(eventually, lambda: it.ending)
    assert it.ending is not None
    assert it.ending.exit_code == 3
    assert [one.exit_code for one in it.told] == [3]


@pytest.mark.soak
async def test_where_no_notice_is_passed_on_a_look_finds_the_change(
    simulate: Callable[..., Simulator], database_url: str, server: str
) -> None:
    await keep(database_url, "AAPL")
    with Proxy.before(server) as proxy:
        proxy.drop_notices()
        async with watching(simulate(), proxy.url(database_url)) as it:
            await it.rounds(1)
            await keep(database_url, "MSFT")
            assert (await it.rounds(2))[1].series.total == 2


@pytest.mark.direct
async def test_a_login_that_is_refused_ends_it(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    nowhere = database_url.replace("/test_", "/no_test_")
    async with watching(simulate(), nowhere) as it:
        await asyncio.to_thread(eventually, lambda: it.ending)
    assert it.ending is not None
    assert it.ending.exit_code == 3
    assert "does not exist" in (it.ending.error or "")


async def test_a_database_that_is_away_is_waited_for(
    simulate: Callable[..., Simulator], database_url: str, server: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    with Proxy.before(server) as proxy:
        proxy.refuse()
        async with watching(simulator, proxy.url(database_url)) as it:
            await asyncio.to_thread(eventually, lambda: proxy.connections >= 3)
            assert it.ending is None
            proxy.refuse(refusing=False)
            (round_,) = await it.rounds(1)
            assert round_.exit_code == 0


@pytest.mark.soak
async def test_a_database_that_goes_away_between_rounds_is_waited_for_and_what_changed_is_fetched(
    simulate: Callable[..., Simulator], database_url: str, server: str
) -> None:
    await keep(database_url, "AAPL")
    with Proxy.before(server) as proxy:
        async with watching(simulate(), proxy.url(database_url)) as it:
            await it.rounds(1)
            proxy.refuse()
            proxy.cut()
            before = proxy.connections
            # The look's own attempts, and then some of the watch's.
            await asyncio.to_thread(eventually, lambda: proxy.connections >= before + 9, 60)
            await keep(database_url, "MSFT")
            proxy.refuse(refusing=False)
            second = (await it.rounds(2))[1]
            assert (second.exit_code, second.calls, second.series.total) == (0, 1, 2)


async def test_max_calls_bound_all_rounds_together(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    await keep(database_url, "AAPL")
    async with watching(simulator, database_url, Job(max_calls=4)) as it:
        await it.rounds(1)
        await keep(database_url, "MSFT", "NVDA")
        await asyncio.to_thread(eventually, lambda: it.ending)
    assert it.ending is not None
    assert it.ending.exit_code == 5
    assert len(simulator.calls) == 4


async def test_an_empty_watchlist_is_a_usage_error_at_the_start(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with watching(simulate(), database_url):
            await asyncio.Event().wait()
    assert raised.group_contains(UsageError, match="watch add")


@pytest.mark.soak
def test_the_command_prints_a_line_a_round_and_ends_with_130_when_it_is_told_to(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate(now=None)
    run = cli(simulator)
    assert run("watch", "add", "--offline", "AAPL", "--since", "30d").code == 0
    going = Going(run.start("run", "--all", "--watch", "--json"), Kept())
    going.wait_for("watch.waiting")
    assert run("watch", "add", "--offline", "BTC/USD", "--since", "30d").code == 0
    going.wait_for("run.finished")
    going.wait_for("watch.waiting")

    going.send(signal.SIGTERM)
    ended = going.end()

    assert ended.code == 130, ended.err
    assert ended.lasted_s < 10
    rounds = [json.loads(line) for line in ended.out.splitlines()]
    assert [(one["exit_code"], one["series"]["total"]) for one in rounds] == [(0, 1), (0, 2)]
    assert [str(row[0]) for row in query(database_url, _RUNS)] == [one["run_id"] for one in rounds]


@pytest.mark.soak
def test_a_deadline_ends_the_command_with_the_code_of_its_last_round(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate(now=None))
    assert run("watch", "add", "--offline", "AAPL", "--since", "30d").code == 0

    ended = run("run", "--all", "--watch", "--deadline", "10", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == 1
