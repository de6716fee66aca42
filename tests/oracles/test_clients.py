"""What a run stores is what real client libraries read of the same answers (`make oracles`)."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.providers import PROVIDERS
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from tests.conftest import KEY, NOW, stored_bars
from tests.documents import DOCS
from tests.oracles.clients import CLIENTS

HERE: Final = Path(__file__).parent
CLOCK: Final = NOW.replace(minute=7)
"""Seven minutes into an hour and twelve hours into a day: both are forming."""
NEW_YORK: Final = ZoneInfo("America/New_York")

Row = tuple[Any, ...]


def as_they_are(rows: list[Row]) -> list[Row]:
    """Nothing but what forms still."""
    return rows


def without_fillers(rows: list[Row]) -> list[Row]:
    """Kraken repeats the last close where nobody traded (its NOTES: "a price-only bar")."""
    return [row for row in rows if row[5]]


def days_in_new_york(rows: list[Row]) -> list[Row]:
    """Finnhub, since July 2021, and Tiingo stamp a day with 00:00Z (their NOTES)."""
    days = [datetime.fromtimestamp(row[0] / 1000, UTC).replace(tzinfo=NEW_YORK) for row in rows]
    return [(round(day.timestamp() * 1000), *row[1:]) for day, row in zip(days, rows, strict=True)]


@dataclass(frozen=True)
class Case:
    """A client, whom it asks, and what explains where its rows are others than ours."""

    client: str
    provider: str
    symbol: str
    timeframe: Timeframe = Timeframe.h1
    explained: Callable[[list[Row]], list[Row]] = as_they_are

    @property
    def since(self) -> datetime:
        """Midnight, in New York for shares; of days over a change of its clocks."""
        day = date(2024, 10, 1) if self.timeframe is Timeframe.d1 else date(2024, 11, 8)
        zone = UTC if "/" in self.symbol else NEW_YORK
        return datetime.combine(day, time(), zone).astimezone(UTC)

    def __str__(self) -> str:
        return f"{self.client} {self.symbol} {self.timeframe}"


CASES: Final = (
    Case("massive", "massive", "AAPL"),
    Case("massive", "massive", "BTC/USD", Timeframe.m15),
    Case("massive", "massive", "AAPL", Timeframe.d1),
    Case("alpaca-py", "alpaca", "AAPL"),
    Case("alpaca-py", "alpaca", "BTC/USD"),
    Case("alpaca-py", "alpaca", "AAPL", Timeframe.d1),
    Case("python-binance", "binance", "BTC/USDT"),
    Case("python-binance", "binance", "BTC/USDT", Timeframe.d1),
    Case("binance-connector", "binance", "BTC/USDT", Timeframe.m1),
    Case("ccxt binance", "binance", "BTC/USDT"),
    Case("ccxt coinbaseexchange", "coinbase", "BTC/USD"),
    Case("ccxt coinbaseexchange", "coinbase", "BTC/USD", Timeframe.m15),
    Case("ccxt kraken", "kraken", "BTC/USD"),
    Case("krakenex", "kraken", "BTC/USD"),
    Case("krakenex", "kraken", "ETH/USD", Timeframe.m1, without_fillers),
    Case("finnhub-python", "finnhub", "AAPL"),
    Case("finnhub-python", "finnhub", "AAPL", Timeframe.d1, days_in_new_york),
    Case("ccxt bybit", "bybit", "BTC/USDT"),
    Case("pybit", "bybit", "BTC/USDT", Timeframe.m1),
    Case("tiingo", "tiingo", "AAPL", Timeframe.m15),
    Case("tiingo", "tiingo", "AAPL", Timeframe.d1, days_in_new_york),
    Case("twelvedata", "twelvedata", "AAPL", Timeframe.m15),
    Case("twelvedata", "twelvedata", "AAPL", Timeframe.d1),
    Case("twelvedata", "twelvedata", "BTC/USD"),
    Case("yfinance", "yahoo", "AAPL", Timeframe.d1),
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_table_of_a_run_is_what_the_client_reads(
    python: str, case: Case, simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider=case.provider, plan="unlimited", quota="unlimited", now=CLOCK)
    keys = tuple(Secret(KEY) for _ in PROVIDERS[case.provider].key_variables)
    account = AccountSettings(
        url=simulator.url, other_url=simulator.url, plan="unlimited", quota="unlimited", keys=keys
    )
    settings = api.Settings(
        database_url=Secret(database_url),
        provider_name=case.provider,
        accounts={case.provider: account},
    )
    job = api.Job((case.symbol,), (case.timeframe,), first=Bound(case.since), as_of=CLOCK)
    assert (await api.run(settings, job)).exit_code == 0
    ours = await asyncio.to_thread(stored_bars, database_url, case.symbol, case.timeframe)

    found = await read(python, case, simulator.url)
    theirs = case.explained(found)
    assert (theirs == found) is (case.explained is as_they_are)

    # They have what is forming or not final yet, and we never store that; the rest is the same to
    # the last bit, as far as the client tells it.
    settling = PROVIDERS[case.provider].terms["unlimited"].settling
    delay_ms = settling.intraday_ms if case.timeframe.is_intraday else settling.daily_ms
    final_ms = _ms(CLOCK) - delay_ms - _length_ms(case.timeframe)
    assert all(row[0] > final_ms for row in theirs[len(ours) :])
    closed = theirs[: len(ours)]
    assert len(ours) > 2
    assert [told(row, like) for row, like in zip(ours, closed, strict=True)] == closed


async def read(python: str, case: Case, url: str) -> list[Row]:
    """The rows that a client reads, in a process of the Python that has it."""
    process = await asyncio.create_subprocess_exec(
        *(python, str(HERE / "clients.py"), case.client, url, case.symbol, str(case.timeframe)),
        *(str(_ms(case.since)), str(_ms(CLOCK))),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return [tuple(row) for row in json.loads(out)]


def told(row: Row, like: Row) -> Row:
    """A row without what the other leaves out."""
    return tuple(None if other is None else value for value, other in zip(row, like, strict=True))


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _length_ms(timeframe: Timeframe) -> int:
    return 86_400_000 if timeframe is Timeframe.d1 else timeframe.length_ms


def test_the_page_tells_of_every_client_by_the_version_that_is_asked() -> None:
    pins = dict(
        line.split("==") for line in HERE.joinpath("requirements.txt").read_text().splitlines()
    )
    for name in ("duckdb", "polars", "pytz"):
        del pins[name]  # of the readers of exports
    page = DOCS.joinpath("validation.md").read_text("utf-8")
    named = re.findall(r"^\| `([\w-]+) ([\d.]+)`(?:, (\w+))? \| (\w+) \|", page, re.M)
    assert {(name, version) for name, version, _, _ in named} == set(pins.items())
    told = {(f"{name} {of}".strip(), provider) for name, _, of, provider in named}
    assert told == {(case.client, case.provider) for case in CASES}
    assert {case.client for case in CASES} == CLIENTS.keys()
