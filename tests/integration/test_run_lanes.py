"""Providers beside each other in a run: each its own lane, its own account, its own law."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from threading import Event
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.asked import Asked
from backfill.core.pages import BarsPerPage, Files, NewestOnly, Order, PageLaw
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.wire import Page, Response
from backfill.core.work import Mode
from backfill.errors import DatabaseError, Interrupted, NotEntitled
from backfill.fetch.stop import StopSignal
from backfill.providers import PROVIDERS
from backfill.run import writing
from backfill.run.outcomes import Summary
from backfill.run.rounds import Ending, Rhythm, run_rounds
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Market, Simulator
from backfill.store import universe
from backfill.store.pool import Database
from tests.conftest import KEY, NOW, query, stored_bars
from tests.integration.truth import midnight_ms
from tests.providers.tiny import PAGE, Service, Tiny

QUOTA: Final = "20/1s"
WEEK: Final = (Bound(date(2024, 11, 4)), Bound(date(2024, 11, 10)))


@dataclass(frozen=True)
class Two:
    """Massive's simulator and the tiny service, with the settings to ask both."""

    massive: Simulator
    tiny: Service
    settings: api.Settings

    def having(self, **accounts: dict[str, Any]) -> api.Settings:
        """The settings, with what is said of some accounts changed."""
        held = dict(self.settings.accounts)
        for name, changes in accounts.items():
            held[name] = replace(held[name], **changes)
        return replace(self.settings, accounts=held)


@pytest.fixture
async def two(
    simulate: Callable[..., Simulator],
    market: Market,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Two]:
    """Both providers; the second one is known by one line."""
    monkeypatch.setitem(PROVIDERS, "tiny", Tiny())
    massive, tiny = simulate(plan="unlimited"), Service(market, NOW, quota=QUOTA)
    async with tiny.serve() as url:
        accounts = {
            "massive": AccountSettings(
                url=massive.url, plan="unlimited", keys=(Secret(KEY),), quota="100/1s"
            ),
            "tiny": AccountSettings(url=url, quota=QUOTA),
        }
        yield Two(massive, tiny, api.Settings(database_url=Secret(database_url), accounts=accounts))


async def watch(url: str, ticker: str, *timeframes: Timeframe, provider: str | None) -> None:
    change = universe.WatchChange(timeframes, since="2024-11-04", provider=provider)
    async with Database.connect(url) as database:
        await database.run(lambda connection: universe.watch(connection, [ticker], change))


async def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await asyncio.to_thread(query, url, sql)]


def in_table(url: str, market: Market, timeframe: Timeframe) -> tuple[list[Any], list[Any]]:
    """What is stored of ETH, and what it should be: stamps, prices, volume."""
    first, final_ms = midnight_ms(date(2024, 11, 4), "X:ETHUSD"), round(NOW.timestamp() * 1000) - 1
    true = market.bars("X:ETHUSD", timeframe, first, final_ms, now_ms=final_ms)
    columns = true.ts_ms, true.open, true.high, true.low, true.close, true.volume
    return (
        [row[:6] for row in stored_bars(url, "X:ETHUSD", timeframe)],
        list(zip(*(column.tolist() for column in columns), strict=True)),
    )


async def test_two_providers_fill_one_watchlist_each_under_its_own_quota(
    two: Two, market: Market, database_url: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, Timeframe.h1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.m5, Timeframe.h4, Timeframe.d1, provider="tiny")
    planned = await api.plan(two.settings, api.Job(as_of=NOW))
    summary = await api.run(two.settings, api.Job(as_of=NOW))

    assert (summary.exit_code, summary.provider) == (0, "mixed")
    assert summary.failures == []
    calls = {name: counts.calls for name, counts in summary.providers.items()}
    assert calls["tiny"] == two.tiny.calls["ETH_USD"] == -(-17 * 144 // PAGE) + 1
    assert two.tiny.calls["refused"] == 0
    assert summary.calls == sum(calls.values()) == planned.calls
    for timeframe in (Timeframe.m5, Timeframe.d1):
        held, true = await asyncio.to_thread(in_table, database_url, market, timeframe)
        assert held == true != []
    assert await rows(
        database_url,
        "SELECT DISTINCT timeframe::text, provider, derived_from::text FROM backfill_progress "
        "ORDER BY 1",
    ) == [
        ("d1", "massive", None), ("d1", "tiny", None), ("h1", "massive", None),
        ("h4", "tiny", "m5"), ("m5", "tiny", None),
    ]  # fmt: skip

    again = await api.run(two.settings, api.Job(as_of=NOW))
    assert (again.exit_code, again.calls, again.lookups) == (0, 0, 0)
    found = await api.gaps(two.settings, NOW)
    assert found.exit_code == 0


@pytest.mark.parametrize("down", ["tiny", "massive"])
async def test_a_provider_that_is_down_fails_its_series_and_no_other(
    two: Two, database_url: str, down: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.d1, provider="tiny")
    settings = two.settings
    if down == "tiny":
        two.tiny.is_down = True
    else:
        accounts = dict(settings.accounts)
        accounts["massive"] = AccountSettings(url=two.massive.url, keys=(Secret("another-key"),))
        settings = api.Settings(database_url=settings.database_url, accounts=accounts)

    summary = await api.run(settings, api.Job(as_of=NOW))

    assert summary.exit_code == 1
    [failure] = summary.failures
    assert failure.provider == down
    assert summary.providers[down].failed == 1
    assert summary.series.complete == 1
    if down == "massive":
        assert failure.outcome == "unauthorised"
        assert "another-key" not in str(summary)


async def test_only_what_every_provider_that_is_asked_shares_is_exit_3(
    two: Two, database_url: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.d1, provider="tiny")
    accounts = {
        "massive": AccountSettings(url=two.massive.url),
        "tiny": AccountSettings(url="http://127.0.0.1:1"),
    }
    settings = api.Settings(database_url=two.settings.database_url, accounts=accounts)

    summary = await api.run(settings, api.Job(as_of=NOW))

    outcomes = {one.provider: one.outcome for one in summary.failures}
    assert outcomes == {"massive": "unauthorised", "tiny": "provider_error"}
    assert summary.exit_code == 3


async def test_a_market_that_a_provider_has_not_is_said_before_any_call(
    two: Two, database_url: str
) -> None:
    await watch(database_url, "MSFT", Timeframe.d1, provider="tiny")
    summary = await api.run(two.settings, api.Job(as_of=NOW))
    [failure] = summary.failures
    assert (failure.outcome, failure.provider) == ("not_entitled", "tiny")
    assert (summary.exit_code, summary.calls, summary.lookups) == (1, 0, 0)


@pytest.mark.parametrize(
    ("law", "timeframe"),
    [
        (BarsPerPage(PAGE, Order.oldest), Timeframe.m15),
        pytest.param(BarsPerPage(PAGE, Order.newest), Timeframe.m15, marks=pytest.mark.wide),
        (NewestOnly(720), Timeframe.h1),
        pytest.param(NewestOnly(300), Timeframe.h1, marks=pytest.mark.wide),
        (Files(Timeframe.d1), Timeframe.m15),
        pytest.param(Files(Timeframe.mn1), Timeframe.h1, marks=pytest.mark.wide),
    ],
    ids=str,
)
async def test_a_plan_costs_what_it_says_by_every_law_of_pages(
    two: Two,
    market: Market,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    law: PageLaw,
    timeframe: Timeframe,
) -> None:
    monkeypatch.setitem(PROVIDERS, "tiny", Tiny(law))
    settings = api.Settings(
        database_url=two.settings.database_url,
        accounts=two.settings.accounts,
        provider_name="tiny",
    )
    job = api.Job(
        symbols=("X:ETHUSD",), timeframes=(timeframe,), first=Bound(date(2024, 10, 20)), as_of=NOW
    )
    planned = await api.plan(settings, job)
    summary = await api.run(settings, job)

    assert summary.exit_code == 0
    assert summary.calls == planned.calls == planned.calls_max == sum(two.tiny.calls.values())
    [(oldest, bars)] = await rows(database_url, "SELECT min(ts), count(*) FROM ohlc_bars")
    reach = law.newest_slots
    if reach is not None and reach < 500:
        assert bars == reach - 2  # the newest are one that forms, and one that isn't final yet
        assert planned.bars == bars
    else:
        assert oldest.date() == date(2024, 10, 20)
    again = await api.run(settings, job)
    assert (again.exit_code, again.calls) == (0, 0)


async def test_a_quota_that_is_used_up_ends_its_own_lane_and_no_other(
    two: Two, database_url: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, Timeframe.m1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.m5, provider="tiny")

    settings = two.having(massive={"quota": "1/1s"}, tiny={"quota": "1/1d"})
    summary = await api.run(settings, api.Job(as_of=NOW))

    assert summary.exit_code == 5
    assert summary.error is not None
    assert "the quota (1/86400s) is used up" in summary.error
    assert (summary.series.complete, summary.series.partial) == (2, 1)
    assert (summary.failures, summary.providers["tiny"].calls) == ([], 1)


async def test_the_last_of_the_calls_are_made_whichever_lane_has_them(
    two: Two, database_url: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, Timeframe.m1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.m5, provider="tiny")

    # Of massive's two calls one waits for its slot when the tiny service has had the last.
    settings = two.having(massive={"quota": "1/2s"})
    summary = await api.run(settings, api.Job(as_of=NOW, max_calls=5))

    assert (summary.exit_code, summary.calls) == (5, 5)
    assert summary.providers["massive"].calls == 2
    assert summary.series.complete == 2


@pytest.mark.parametrize("ends", ["refused", "used up"])
async def test_a_watch_goes_on_without_a_lane(two: Two, database_url: str, ends: str) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.m5, provider="tiny")
    settings = (
        two.having(massive={"keys": (Secret("another-key"),)})
        if ends == "refused"
        else two.having(tiny={"quota": "1/1d"})
    )
    told: list[Summary] = []
    stop = StopSignal()

    def tell(summary: Summary) -> None:
        told.append(summary)
        if len(told) == 2:
            stop.set(Interrupted("that will do"))

    rhythm = Rhythm(look_s=0.05, away_s=0.05, again_s=0.05)
    async with asyncio.timeout(20):
        ending = await run_rounds(
            settings, api.Job(), tell, stop=stop, rhythm=rhythm, clock=lambda: NOW
        )

    assert ending == Ending(130)
    assert [one.exit_code for one in told] == ([1, 3] if ends == "refused" else [5, 5])


async def test_an_entry_with_an_alias_has_the_account_of_the_provider_that_it_means(
    two: Two,
) -> None:
    settings = replace(two.settings, provider_name="tiny")
    assert settings.account_of("polygon").provider.name == "massive"
    assert settings.account_of("nobody").provider.name == "tiny"


@pytest.mark.parametrize("keys", [(), (Secret("another-key"),)], ids=["no key", "refused"])
async def test_an_account_that_cannot_be_asked_fails_its_samples_and_no_others(
    two: Two, database_url: str, keys: tuple[Secret, ...]
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, provider=None)
    await watch(database_url, "X:ETHUSD", Timeframe.d1, provider="tiny")
    assert (await api.run(two.settings, api.Job(as_of=NOW))).exit_code == 0

    found = await api.gaps(two.having(massive={"keys": keys}), NOW, verify_calls=10)

    assert (found.exit_code, found.error) == (1, None)
    assert found.verification is not None
    assert {one.symbol.ticker for one in found.verification.compared} == {"X:ETHUSD"}
    [failure] = found.verification.failures
    assert (failure.symbol, failure.outcome) == ("AAPL", "unauthorised")


async def test_a_repair_asks_for_each_series_whom_its_bars_are_from(
    two: Two, database_url: str
) -> None:
    first = Bound(date(2024, 11, 4))
    for name, timeframe in (("massive", Timeframe.d1), ("tiny", Timeframe.h1)):
        settings = replace(two.settings, provider_asked=name)
        job = api.Job(symbols=("X:ETHUSD",), timeframes=(timeframe,), first=first, as_of=NOW)
        assert (await api.run(settings, job)).exit_code == 0
    lost = "DELETE FROM ohlc_bars WHERE ts >= '2024-11-06' AND ts < '2024-11-07' RETURNING 1"
    assert len(await rows(database_url, lost)) == 1 + 24

    done = await api.repair(two.settings, NOW)

    assert (done.exit_code, done.left) == (0, [])
    assert done.summary is not None
    assert done.summary.bars.inserted == 1 + 24
    assert {name: one.calls for name, one in done.summary.providers.items()} == {
        "massive": 1, "tiny": 1,
    }  # fmt: skip


async def test_gaps_reach_as_far_back_as_each_provider_of_a_feed(
    two: Two, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = Tiny()
    shallow.name = "shallow"
    terms = replace(Tiny.terms["free"], depth=timedelta(days=30))
    shallow.terms = {"free": terms, "unlimited": terms}
    monkeypatch.setitem(PROVIDERS, "shallow", shallow)
    await watch(database_url, "X:BTCUSD", Timeframe.d1, provider="shallow")
    await watch(database_url, "X:ETHUSD", Timeframe.d1, provider="tiny")
    deep = api.Job(symbols=("X:ETHUSD",), first=Bound(date(2024, 2, 1)), as_of=NOW)
    assert (await api.run(two.settings, deep)).exit_code == 0
    await rows(database_url, "DELETE FROM ohlc_bars WHERE ts = '2024-03-01' RETURNING 1")

    found = await api.gaps(two.settings, NOW, api.Scope(tickers=["X:ETHUSD"]))
    beside = await api.gaps(two.settings, NOW)

    [gap] = found.gaps
    assert [one for one in beside.gaps if one.series.symbol.ticker == "X:ETHUSD"] == [gap]
    assert sum(one.slots for one in gap.gaps) == 1


async def test_a_run_that_can_ask_nobody_is_the_default_providers(
    two: Two, database_url: str
) -> None:
    await watch(database_url, "AAPL", Timeframe.d1, provider="nobody")
    summary = await api.run(two.settings, api.Job(as_of=NOW))
    assert (summary.exit_code, summary.provider) == (1, "massive")
    assert [one.outcome for one in summary.failures] == ["database_error"]


async def test_a_write_that_the_database_refuses_is_not_hidden_by_what_the_next_page_says(
    two: Two, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch(database_url, "X:ETHUSD", Timeframe.m5, provider="tiny")
    read, pages, second = Tiny.read_bars, list[Asked](), Event()

    def refused_from_the_second_on(self: Tiny, response: Response, asked: Asked) -> Page:
        pages.append(asked)
        if len(pages) > 1:
            second.set()
            raise NotEntitled("no more than that")
        return read(self, response, asked)

    async def refused_behind_the_second_page(*_: object, **__: object) -> None:
        assert await asyncio.to_thread(second.wait, 10)
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(Tiny, "read_bars", refused_from_the_second_on)
    monkeypatch.setattr(writing, "write_chunks", refused_behind_the_second_page)
    async with asyncio.timeout(20):
        summary = await api.run(two.settings, api.Job(as_of=NOW))

    assert (summary.exit_code, summary.error) == (3, "the disk is full")
    assert [one.outcome for one in summary.failures] == ["database_error"]


async def test_what_replaces_another_providers_bars_is_the_command_that_is_told(
    two: Two, database_url: str
) -> None:
    job = api.Job(symbols=("X:ETHUSD",), first=Bound(date(2024, 11, 4)), as_of=NOW)
    assert (await api.run(two.settings, job)).exit_code == 0
    settings = replace(two.settings, provider_asked="tiny")

    [failure] = (await api.run(settings, job)).failures

    assert failure.message.endswith(
        "run: backfill run --symbol X:ETHUSD --timeframe d1 --reload --provider tiny "
        "--from 2024-11-04"
    )
    summary = await api.run(settings, replace(job, mode=Mode.reload))
    assert (summary.exit_code, summary.bars.inserted, summary.bars.unchanged) == (0, 8, 0)
    held = "SELECT DISTINCT provider FROM backfill_progress"
    assert await rows(database_url, held) == [("tiny",)]
