"""`backfill verify --against P`: a sample of what is stored, held against another provider."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import UsageError
from backfill.present.against import compared
from backfill.providers import PROVIDERS
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Simulator
from backfill.store.pool import Database
from tests.conftest import KEY, NOW, Cli
from tests.integration.store_kit import rows
from tests.providers.alpaca import ENTRY as ALPACA

FIRST: Final = Bound(date(2024, 10, 1))
STORED: Final = """
    SELECT b.*, p.* FROM ohlc_bars AS b
    LEFT JOIN backfill_progress AS p USING (symbol_id, timeframe)
    ORDER BY b.symbol_id, b.timeframe, b.ts
"""
CHANGE: Final = """
    UPDATE ohlc_bars SET {what}
    WHERE timeframe = 'd1' AND symbol_id = (SELECT id FROM symbols WHERE ticker = 'AAPL')
        AND ts = $1::text::timestamptz
    RETURNING ts
"""
LOSE: Final = "DELETE FROM ohlc_bars WHERE ts = $1::text::timestamptz RETURNING ts"


@dataclass(frozen=True)
class Both:
    """Massive and Alpaca over one market; what is stored is Massive's."""

    massive: Simulator
    alpaca: Simulator
    settings: api.Settings

    async def verify(self, against: str = "alpaca", **options: Any) -> Any:
        return await api.verify(self.settings, against, NOW, **options)

    def having(self, name: str, **changes: Any) -> "Both":
        accounts = dict(self.settings.accounts)
        accounts[name] = replace(accounts[name], **changes)
        return replace(self, settings=replace(self.settings, accounts=accounts))


@pytest.fixture
async def both(simulate: Callable[..., Simulator], database_url: str) -> Both:
    massive = simulate(plan="unlimited", quota="unlimited")
    alpaca = simulate(provider="alpaca", plan="unlimited", quota="4/1s")
    keys = (Secret(KEY), Secret(KEY))
    accounts = {
        "massive": AccountSettings(
            url=massive.url, plan="unlimited", quota="unlimited", keys=keys[:1]
        ),
        "alpaca": AccountSettings(
            url=alpaca.url, other_url=alpaca.url, plan="unlimited", quota="4/1s", keys=keys
        ),
    }
    settings = api.Settings(database_url=Secret(database_url), accounts=accounts)
    await load(settings, Timeframe.d1)
    return Both(massive, alpaca, settings)


async def load(settings: api.Settings, *timeframes: Timeframe) -> None:
    """Store a stock's and a coin's bars."""
    job = api.Job(("AAPL", "BTC/USD"), timeframes, first=FIRST, as_of=NOW)
    assert (await api.run(settings, job)).exit_code == 0


async def test_two_providers_of_one_market_agree_and_nothing_is_stored(
    both: Both, database: Database
) -> None:
    await load(both.settings, Timeframe.h1, Timeframe.h4)
    stored, asked = await rows(database, STORED), len(both.massive.calls)

    whole = await both.verify(max_calls=100)

    assert (whole.exit_code, whole.failures) == (0, [])
    told = whole.as_dict()
    assert told["calls"] == len(both.alpaca.calls) > 4
    assert [call for call in both.alpaca.calls if call.over_quota] == []
    assert len(both.massive.calls) == asked
    assert await rows(database, STORED) == stored
    assert len(stored) - 10 < told["bars"] <= len(stored)  # the newest aren't final there yet
    assert {(one["symbol"], one["timeframe"]) for one in told["series"]} == {
        (ticker, str(timeframe))
        for ticker in ("AAPL", "BTC/USD")
        for timeframe in (Timeframe.h1, Timeframe.h4, Timeframe.d1)
    }
    for one in told["series"]:
        assert {name: count for name, count in one["slots"].items() if count} == {
            "both": one["fields"]["close"]["compared"]
        }
        assert {field["differ"] for field in one["fields"].values()} == {0}
        assert set(one["fields"]) == set(told["tolerances"])

    before = len(both.alpaca.calls)
    sample = await both.verify(max_calls=1)
    assert (sample.exit_code, len(both.alpaca.calls) - before) == (0, 1)
    assert 0 < sample.bars < whole.bars


async def test_each_field_and_slot_that_differs_is_told_and_counted(
    both: Both, database: Database
) -> None:
    for day, what in (
        ("2024-10-08", "close = low, high = high * 1.2"),
        ("2024-10-09", "volume = volume / 2"),
        ("2024-10-10", "close = close * 1.0001, vwap = NULL"),  # within; and nothing to compare
        ("2024-10-15", "trade_count = trade_count * 2"),
    ):
        assert await rows(database, CHANGE.format(what=what), f"{day} 04:00Z")
    assert await rows(database, LOSE, "2024-10-16 04:00Z")
    gone_ms = 1_729_224_000_000  # 2024-10-18 04:00Z
    both.alpaca.inject(
        Fault(action=Action.DROP_BARS, ticker="AAPL", span_ms=(gone_ms, gone_ms + 1))
    )

    scope = api.Scope(tickers=["AAPL"], timeframes=[Timeframe.d1])
    found = await both.verify(scope=scope)

    assert found.exit_code == 4
    told = found.as_dict()
    kinds = {one["ts"][:10]: one["kind"] for one in told["differences"]}
    assert kinds == {
        "2024-10-08": "differs",
        "2024-10-09": "differs",
        "2024-10-15": "differs",
        "2024-10-16": "only_provider",
        "2024-10-18": "only_stored",
    }
    [one] = told["series"]
    differ = {name: field["differ"] for name, field in one["fields"].items()}
    assert differ == {
        "open": 0, "high": 1, "low": 0, "close": 1, "volume": 1, "vwap": 0, "trade_count": 1
    }  # fmt: skip
    days = one["fields"]["open"]["compared"]
    assert one["slots"] == {
        "both": days, "differs": 3, "only_stored": 1, "only_provider": 1, "rejected": 0
    }  # fmt: skip
    assert one["fields"]["vwap"]["compared"] == days - 1
    volume = one["fields"]["volume"]
    assert (volume["largest"], volume["largest_ts"][:10]) == (0.5, "2024-10-09")
    assert (one["stored"], one["provider"]) == ("massive/sip/raw", "alpaca/sip/raw")

    lenient = api.Tolerances.parse(["close=99%", "high=20%", "volume=50%", "trade_count=any"])
    again = (await both.verify(scope=scope, tolerances=lenient)).as_dict()
    assert {each["kind"] for each in again["differences"]} == {"only_provider", "only_stored"}
    assert again["tolerances"]["trade_count"] is None
    assert "trade_count" not in again["series"][0]["fields"]


@pytest.mark.wide
async def test_the_command_says_by_which_tolerances_it_judged(
    both: Both, database: Database, cli: Callable[..., Cli]
) -> None:
    command = cli(
        both.massive,
        ALPACA_URL=both.alpaca.url,
        APCA_API_KEY_ID=KEY,
        APCA_API_SECRET_KEY=KEY,
        ALPACA_PLAN="unlimited",
    )
    asked = ("verify", "AAPL", "-t", "d1", "--against", "alpaca", "--as-of", f"{NOW:%FT%TZ}")
    agreed = command(*asked, "--json")
    assert (agreed.code, agreed.json["differences"]) == (0, []), agreed.err
    assert agreed.json["tolerances"]["close"] == 0.001

    assert await rows(database, CHANGE.format(what="volume = 2 * volume"), "2024-10-09 04:00Z")
    differs = command(*asked)
    assert differs.code == 4
    assert "no more than: open high low close vwap 0.1%; volume trade_count 5%" in differs.out
    assert "1 slot differs" in differs.out
    told = command(*asked, "--tolerance", "volume=any")
    assert told.code == 0
    assert "volume any" in told.out


async def test_what_can_t_be_compared_is_said_and_makes_exit_1(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = len(both.alpaca.calls)
    split = replace(PROVIDERS["alpaca"].can, adjustments=("split",))
    monkeypatch.setattr(type(PROVIDERS["alpaca"]), "can", split)
    adjusted = await both.verify(scope=api.Scope(timeframes=[Timeframe.d1]))
    assert (adjusted.exit_code, len(both.alpaca.calls)) == (1, asked)
    assert {one.outcome for one in adjusted.failures} == {"source_mismatch"}
    assert "adjusted as raw, those of alpaca as split" in adjusted.failures[0].message

    coins = await both.verify("coinbase", scope=api.Scope(tickers=["AAPL"]))
    assert {one.outcome for one in coins.failures} == {"not_entitled"}
    assert (coins.exit_code, coins.tally.calls) == (1, 0)


@pytest.mark.wide
async def test_hours_that_one_of_the_feeds_has_not_are_not_compared(
    both: Both, simulate: Callable[..., Simulator], database: Database
) -> None:
    """Tiingo has the regular session only: of the hour from 9:00 it lacks the half before that."""
    tiingo = simulate(provider="tiingo", plan="unlimited", quota="unlimited")
    account = AccountSettings(
        url=tiingo.url, plan="unlimited", quota="unlimited", keys=(Secret(KEY),)
    )
    accounts = {**both.settings.accounts, "tiingo": account}
    beside = replace(both, settings=replace(both.settings, accounts=accounts))
    await load(beside.settings, Timeframe.h1)
    scope = api.Scope(tickers=["AAPL"], timeframes=[Timeframe.h1])

    found = await beside.verify("tiingo", scope=scope)

    assert (found.exit_code, found.failures) == (0, [])
    [one] = found.as_dict()["series"]
    sessions = await rows(
        database, "SELECT FROM ohlc_bars WHERE timeframe = 'd1' AND symbol_id = 1"
    )
    assert one["slots"]["both"] == found.bars == 6 * len(sessions)  # from 10:00 to 16:00


@pytest.mark.wide
async def test_the_other_s_bars_are_those_that_a_run_would_store(
    both: Both, simulate: Callable[..., Simulator]
) -> None:
    """Tiingo's days are of another feed than its minutes; a coin's day is made of raw hours."""
    accounts = dict(both.settings.accounts)
    for name in ("tiingo", "twelvedata"):
        url = simulate(provider=name, plan="unlimited", quota="unlimited").url
        accounts[name] = AccountSettings(
            url=url, plan="unlimited", quota="unlimited", keys=(Secret(KEY),)
        )
    beside = replace(both, settings=replace(both.settings, accounts=accounts))

    for name, ticker, source in (
        ("tiingo", "AAPL", "tiingo/eod/raw"),
        ("twelvedata", "BTC/USD", "twelvedata/time_series/raw, derived from h1"),
    ):
        scope = api.Scope(tickers=[ticker], timeframes=[Timeframe.d1])
        found = await beside.verify(name, scope=scope)
        assert found.failures == []
        assert found.bars > 0
        [one] = found.as_dict()["series"]
        assert one["provider"] == source


async def test_where_nothing_was_compared_nobody_is_said_to_agree(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = both.having("alpaca", quota="1/1d")
    scope = api.Scope(tickers=["AAPL"], timeframes=[Timeframe.d1])
    first = await spent.verify(scope=scope)
    assert (first.exit_code, first.bars > 0) == (0, True)

    second = await spent.verify(scope=scope)
    capsys.readouterr()
    compared(second)

    assert (second.exit_code, second.bars) == (5, 0)
    said = " ".join(capsys.readouterr().out.split())
    assert "in 0 calls: nothing was compared: the quota (1/86400s) is used up" in said
    assert "they agree" not in said


async def test_an_unknown_symbol_fails_alone(both: Both) -> None:
    refusal = '{"message":"invalid symbol: BTC/USD"}'
    both.alpaca.inject(Fault(action=Action.STATUS, status=400, body=refusal, path="BTC"))
    found = await both.verify(scope=api.Scope(timeframes=[Timeframe.d1]))
    assert found.exit_code == 1
    assert [(one.symbol, one.outcome) for one in found.failures] == [("BTC/USD", "unknown_symbol")]
    assert {one.symbol.ticker for one in found.series} == {"AAPL"}


async def test_who_can_t_be_asked_at_all_is_said_before_or_ends_it(both: Both) -> None:
    assert ALPACA.name == "alpaca"
    with pytest.raises(UsageError, match="no key for alpaca"):
        await both.having("alpaca", keys=()).verify()
    with pytest.raises(UsageError, match="from another provider than massive"):
        await both.verify("polygon")
    with pytest.raises(UsageError, match="nobody"):
        await both.verify("nobody")
    refused = await both.having("alpaca", keys=(Secret("other"), Secret("other"))).verify()
    assert (refused.exit_code, refused.error.outcome) == (3, "unauthorised")
