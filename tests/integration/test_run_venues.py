"""One instrument of several providers: one row however it is written, a symbol for each venue."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date
from typing import Any, Final

import pytest

from backfill import api
from backfill.admin import symbols, watchlist
from backfill.core.when import Bound
from backfill.errors import UsageError
from backfill.providers import PROVIDERS
from backfill.run.job import Scope
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Market, Simulator
from backfill.store.pool import Database
from backfill.store.universe import WatchChange
from tests.conftest import KEY, NOW
from tests.integration.store_kit import rows
from tests.providers.tiny import Service, Tiny

FIRST, LAST = Bound(date(2024, 11, 4)), Bound(date(2024, 11, 10))
SERIES: Final = """
    SELECT s.ticker, coalesce(v.ticker, '-') AS of, p.provider, n.spelling,
        (SELECT count(*) FROM ohlc_bars AS b WHERE b.symbol_id = s.id)::integer AS bars
    FROM symbols AS s
    LEFT JOIN symbols AS v ON v.id = s.listing_of
    LEFT JOIN backfill_progress AS p ON p.symbol_id = s.id
    LEFT JOIN provider_symbols AS n ON n.symbol_id = s.id AND n.provider = p.provider
    ORDER BY s.id
"""


def week(*tickers: str) -> api.Job:
    """A job for a week of some symbols, or of the watchlist."""
    return api.Job(symbols=tickers or None, first=FIRST, last=LAST, as_of=NOW)


class Venues:
    """Massive's simulator and the tiny service over one market, and what was asked of them."""

    def __init__(self, massive: Simulator, tiny: Service, settings: api.Settings) -> None:
        self.massive, self.tiny, self.settings = massive, tiny, settings

    @property
    def calls(self) -> int:
        return len(self.massive.calls) + self.tiny.calls.total()

    def asking(self, provider: str) -> api.Settings:
        """The settings with ``--provider``."""
        return replace(self.settings, provider_asked=provider)

    async def run(self, *tickers: str, provider: str | None = None) -> Any:
        settings = self.asking(provider) if provider else self.settings
        return await api.run(settings, week(*tickers))


@pytest.fixture
async def venues(
    simulate: Callable[..., Simulator],
    market: Market,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Venues]:
    monkeypatch.setitem(PROVIDERS, "tiny", Tiny())
    massive, tiny = simulate(plan="unlimited"), Service(market, NOW)
    async with tiny.serve() as url:
        accounts = {
            "massive": AccountSettings(
                url=massive.url, plan="unlimited", keys=(Secret(KEY),), quota="100/1s"
            ),
            "tiny": AccountSettings(url=url),
        }
        settings = api.Settings(database_url=Secret(database_url), accounts=accounts)
        yield Venues(massive, tiny, settings)


async def held(database: Database) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await rows(database, SERIES)]


async def test_every_way_to_write_a_symbol_is_one_row_and_another_venue_s_bars_are_another(
    venues: Venues, database: Database
) -> None:
    first = await venues.run("X:ETHUSD", "eth-usd@tiny")
    assert (first.exit_code, first.provider, first.failures) == (0, "mixed", [])
    assert await held(database) == [
        ("X:ETHUSD", "-", "massive", "X:ETHUSD", 7),
        ("eth-usd@tiny", "X:ETHUSD", "tiny", "ETH_USD", 7),
    ]

    calls = venues.calls
    again = await venues.run("ETH/USD", "XETHZUSD", "ETHUSD", "ETH/USD@tiny", "XETHZUSD@tiny")
    assert (again.exit_code, again.series.total, venues.calls) == (0, 2, calls)
    assert len(await held(database)) == 2
    scope = Scope(("ETHUSD@tiny", "ETH-USD"), first=FIRST, last=LAST)
    assert (await api.gaps(venues.settings, NOW, scope)).exit_code == 0
    with pytest.raises(UsageError, match="no series of ETHUSDT "):
        await api.gaps(venues.settings, NOW, replace(scope, tickers=("ETHUSDT",)))


async def test_a_plain_symbol_is_whoever_s_filled_it_first(
    venues: Venues, database: Database
) -> None:
    assert (await venues.run("ETH/USD", provider="tiny")).exit_code == 0

    other = await venues.run("ETH-USD")
    twice = await venues.run("ETH/USD@tiny")
    own = await venues.run("ETH/USD@massive")

    [failure] = other.failures
    assert (other.exit_code, failure.outcome) == (1, "source_mismatch")
    assert "tiny/spot/raw" in failure.message
    assert "ETH/USD@massive" in failure.message
    [failure] = twice.failures
    assert (twice.exit_code, failure.outcome, twice.calls) == (1, "source_mismatch", 0)
    assert "are kept as ETH/USD; run: backfill run ETH/USD" in failure.message
    assert own.exit_code == 0
    assert [row[:4] for row in await held(database)] == [
        ("ETH/USD", "-", "tiny", "ETH_USD"),
        ("ETH/USD@tiny", "ETH/USD", None, None),
        ("ETH/USD@massive", "ETH/USD", "massive", "X:ETHUSD"),
    ]


@pytest.mark.parametrize(
    ("ticker", "told"),
    [
        ("ETH/USD@tiny", "is tiny's alone, and --provider names massive"),
        ("ETH/USD@elsewhere", "provider 'elsewhere' is not known"),
        ("ETH/USD@polygon", "write @massive"),
        ("ETH/USD@2024-13-01", "is no day"),
    ],
)
async def test_a_suffix_that_goes_against_the_flag_or_names_nobody_is_refused_before_any_call(
    venues: Venues, database: Database, ticker: str, told: str
) -> None:
    settings = venues.asking("massive")
    with pytest.raises(UsageError, match=told):
        await api.run(settings, week(ticker))
    with pytest.raises(UsageError, match=told):
        await watchlist.add(settings, [ticker], WatchChange())
    assert (venues.calls, await held(database)) == (0, [])


async def test_a_symbol_that_has_series_gets_no_other_provider_on_the_watchlist(
    venues: Venues, database: Database
) -> None:
    await venues.run("ETH/USD", provider="tiny")

    with pytest.raises(UsageError, match=r"holds the bars of tiny; .* backfill watch add ETH/USD@"):
        await watchlist.add(venues.asking("massive"), ["X:ETHUSD"], WatchChange())
    assert await watchlist.listed(venues.settings) == []

    await watchlist.add(venues.settings, ["X:ETHUSD"], WatchChange(), offline=True)
    await watchlist.add(venues.settings, ["ETH/USD@massive"], WatchChange(), offline=True)
    entries = await watchlist.listed(venues.settings)
    assert [(one.symbol.ticker, one.provider) for one in entries] == [
        ("ETH/USD", "tiny"),
        ("ETH/USD@massive", "massive"),
    ]
    assert (await api.run(venues.settings, week())).exit_code == 0
    kept = await api.status(venues.settings, NOW)
    assert {one.symbol for one in kept} == {"ETH/USD", "ETH/USD@massive"}


async def test_a_venue_that_knows_no_such_market_leaves_nothing_of_it(
    venues: Venues, database: Database
) -> None:
    ended = await venues.run("DOGE/USD@tiny")

    assert [one.outcome for one in ended.failures] == ["unknown_symbol"]
    assert await held(database) == []
    assert await rows(database, "SELECT FROM provider_symbols") == []


async def test_a_spelling_that_a_provider_reads_otherwise_is_never_asked_for(
    venues: Venues, database: Database
) -> None:
    # Massive's X:DOTUSD is DOT in dollars, whatever DO in TUSD would be spelled as.
    ended = await venues.run("DO/TUSD")

    [failure] = ended.failures
    assert (failure.outcome, venues.calls) == ("not_entitled", 0)
    assert "X:DOTUSD is DOT/USD" in failure.message


async def test_other_venues_are_set_aside_with_the_plain_symbol_and_keep_it_from_being_deleted(
    venues: Venues, database: Database
) -> None:
    await venues.run("ETH/USD", "ETH/USD@tiny")
    await watchlist.add(venues.settings, ["ETH/USD@tiny"], WatchChange(), offline=True)

    with pytest.raises(UsageError, match=r"backfill symbols delete ETH/USD@tiny --yes"):
        await symbols.delete(venues.settings, "ETH/USD", sure=True)
    with pytest.raises(UsageError, match="is retired with it"):
        await symbols.retire(venues.settings, "ETH/USD@tiny", sure=True)
    await symbols.retire(venues.settings, "X:ETHUSD", sure=True)

    assert [row[:2] for row in await held(database)] == [
        ("ETH/USD@2024-11-10", "-"),
        ("ETH/USD@2024-11-10@tiny", "ETH/USD@2024-11-10"),
        ("ETH/USD", "-"),
        ("ETH/USD@tiny", "ETH/USD"),
    ]
    [entry] = await watchlist.listed(venues.settings)
    assert (entry.symbol.ticker, entry.provider) == ("ETH/USD@tiny", "tiny")

    await symbols.restore(venues.settings, "ETH/USD@2024-11-10")
    assert [row[:2] for row in await held(database)] == [
        ("ETH/USD", "-"),
        ("ETH/USD@tiny", "ETH/USD"),
    ]
    [entry] = await watchlist.listed(venues.settings)
    assert entry.symbol.retired_on is None
    assert (await venues.run("ETH/USD", "ETH/USD@tiny")).calls == 0
