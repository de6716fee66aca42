"""Providers: what each market-data service is asked and what its answers mean. No I/O."""

from typing import Final

from backfill.errors import UsageError
from backfill.providers.alpaca import Alpaca
from backfill.providers.base import Provider
from backfill.providers.binance import Binance
from backfill.providers.bybit import Bybit
from backfill.providers.coinbase import Coinbase
from backfill.providers.finnhub import Finnhub
from backfill.providers.kraken import Kraken
from backfill.providers.massive import Massive
from backfill.providers.tiingo import Tiingo
from backfill.providers.yahoo import Yahoo

PROVIDERS: Final[dict[str, Provider]] = {
    one.name: one
    for one in (
        Massive(),
        Alpaca(),
        Binance(),
        Coinbase(),
        Kraken(),
        Finnhub(),
        Bybit(),
        Tiingo(),
        Yahoo(),
    )
}
ALIASES: Final = {"polygon": "massive"}


def canonical(name: str) -> str:
    """Return a provider's own name for it or an alias; another name as it is."""
    return ALIASES.get(name, name)


def provider_named(name: str) -> Provider:
    """Return a provider by its name or alias.

    Raises
    ------
    UsageError
        If there is none.
    """
    provider = PROVIDERS.get(canonical(name))
    if provider is None:
        known = ", ".join([*PROVIDERS, *ALIASES])
        raise UsageError(f"provider {name!r} is not known; choose from: {known}")
    return provider
