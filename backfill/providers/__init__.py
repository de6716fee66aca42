"""Providers: what each market-data service is asked and what its answers mean. No I/O."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

from backfill.errors import UsageError

if TYPE_CHECKING:
    from backfill.providers.base import Provider


class _Registry(MutableMapping[str, "Provider"]):
    """Providers by name, each loaded when it is first asked for: most commands ask for one."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._known: dict[str, Provider | str] = dict(homes)

    def __getitem__(self, name: str) -> "Provider":
        known = self._known[name]
        if isinstance(known, str):
            module, _, kind = known.partition(":")
            made: Provider = getattr(import_module(f"{__name__}.{module}"), kind)()
            self._known[name] = known = made
        return known

    def __setitem__(self, name: str, provider: "Provider") -> None:
        self._known[name] = provider

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return name in self._known


PROVIDERS: Final = _Registry(
    {
        "massive": "massive:Massive",
        "alpaca": "alpaca:Alpaca",
        "alpaca-iex": "alpaca_iex:AlpacaIex",
        "alpaca-boats": "alpaca_boats:AlpacaBoats",
        "binance": "binance:Binance",
        "coinbase": "coinbase:Coinbase",
        "kraken": "kraken:Kraken",
        "finnhub": "finnhub:Finnhub",
        "bybit": "bybit:Bybit",
        "tiingo": "tiingo:Tiingo",
        "twelvedata": "twelvedata:TwelveData",
        "yahoo": "yahoo:Yahoo",
    }
)
ALIASES: Final = {"polygon": "massive"}
_OTHER_PREFIXES: Final = {"POLYGON": "massive", "APCA": "alpaca"}
"""How variables of the environment begin, beside a provider's own name."""


def canonical(name: str) -> str:
    """Return a provider's own name for it or an alias; another name as it is."""
    return ALIASES.get(name, name)


def provider_named(name: str) -> "Provider":
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


def account_name(name: str) -> str:
    """Return the name of the account by which a provider is asked: what stands before its dash.

    Feeds of one service are providers of their own, with one address, plan, keys and quota.

    >>> account_name("alpaca-iex"), account_name("alpaca")
    ('alpaca', 'alpaca')
    """
    return name.partition("-")[0]


def account_holders() -> list["Provider"]:
    """Return a provider for each account: the one that the account is named after."""
    return [PROVIDERS[one] for one in PROVIDERS if account_name(one) == one]


def spoken_of(environment: Mapping[str, str]) -> list["Provider"]:
    """Return the holders of the accounts of which variables may tell, by how their names begin."""
    said = (name for name, text in environment.items() if "_" in name and text.strip())
    begins = {name.partition("_")[0] for name in said}
    others = {_OTHER_PREFIXES[one] for one in begins & _OTHER_PREFIXES.keys()}
    return [PROVIDERS[one] for one in PROVIDERS if one.upper() in begins or one in others]
