"""Looking at a ticker before it is believed: one question to the provider's reference.

Where that doesn't know it, a page of the provider's own list of tickers tells what was meant.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from backfill.core.dataclass import dataclass
from backfill.core.series import Symbol, unregistered
from backfill.errors import BackfillError, SeriesError, UnknownSymbol
from backfill.fetch.stop import StopSignal
from backfill.providers.base import OtherHost, Owners, Provider, References
from backfill.run.connect import open_client
from backfill.settings import Account
from backfill.store.pool import Database

if TYPE_CHECKING:
    from backfill.fetch.client import Client

_PATIENCE_S: Final = 10.0
_LETTERS: Final = 3
"""More letters than these are not looked at: each is a call."""
_LAST: Final = "zzzz"


@dataclass(frozen=True, slots=True)
class Looked:
    """Which tickers a provider knows, which it surely doesn't, and why no more were asked for.

    ``listed`` are tickers that it lists beside those that it doesn't know.
    """

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unasked: str | None = None
    listed: tuple[str, ...] = ()


async def looked_up(database: Database, account: Account, symbols: Sequence[Symbol]) -> Looked:
    """Ask a provider's reference about symbols, a call each, within its quota and ten seconds.

    What it says is not noted: a run asks again where its answers leave a question.
    """
    provider = account.provider
    if not isinstance(provider, References):
        return Looked(unasked=f"{provider.name} has no reference")
    from backfill.fetch.reader import Reader
    from backfill.fetch.tally import Tally

    known: list[str] = []
    unknown: list[str] = []
    listed: list[str] = []
    unasked: str | None = None
    try:
        with Reader() as reader:
            async with (
                asyncio.timeout(_PATIENCE_S),
                open_client(
                    account,
                    database,
                    Tally(),
                    StopSignal(),
                    reader,
                    now_ms=0,  # whatever the provider's clock shows
                    symbols=len(symbols),
                ) as client,
            ):
                for symbol in symbols:
                    try:
                        await client.fetch(
                            provider.reference(symbol),
                            partial(provider.read_reference, symbol=symbol),
                            asker=f"{symbol.ticker} reference",
                        )
                    except UnknownSymbol:
                        unknown.append(symbol.ticker)
                    else:
                        known.append(symbol.ticker)
                strange = [one for one in symbols if one.ticker in unknown]
                listed += await _listed_beside(client, provider, strange)
    except TimeoutError:
        unasked = f"no answer within {_PATIENCE_S:.0f} s, or the quota is used up"
    except BackfillError as error:
        unasked = str(error)
    return Looked(tuple(known), tuple(unknown), unasked, tuple(listed))


async def keys_judged(account: Account) -> bool:
    """Have a provider judge the keys where that takes nothing of its quota; return whether it did.

    A look-up at another host of its own than that of the bars takes nothing.

    Raises
    ------
    Unauthorised
        If it refuses them.
    ProviderUnavailable
        If that host doesn't answer.
    """
    provider, url = account.provider, account.other_url
    if url is None or not isinstance(provider, References) or not isinstance(provider, OtherHost):
        return False
    symbol = unregistered(provider.example)
    asked = provider.reference(symbol)
    if not asked.at_other:
        return False
    from backfill.fetch.glance import glance

    headers = provider.headers(account.api_keys())
    found = await glance(f"{url}{asked.target}", headers, proxy=account.proxy)
    try:
        provider.read_reference(found.response, symbol)
    except UnknownSymbol:
        return True
    except SeriesError:
        return False
    return True


async def _listed_beside(
    client: "Client", provider: Provider, unknown: Sequence[Symbol]
) -> list[str]:
    """Return the tickers that a provider lists with the same first letter, a call a letter."""
    if not isinstance(provider, Owners):
        return []
    stocks = [one.ticker for one in unknown if one.is_share]
    listed: list[str] = []
    for letter in sorted({ticker[0].upper() for ticker in stocks})[:_LETTERS]:
        owners, _ = await client.fetch(
            provider.owners(letter, f"{letter}{_LAST}"), provider.read_owners, asker="tickers"
        )
        listed += [owner.ticker for owner in owners]
    return listed
