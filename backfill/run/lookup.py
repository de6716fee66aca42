"""Looking at a ticker before it is believed: one question to the provider's reference."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from backfill.core.series import Symbol
from backfill.errors import BackfillError, UnknownSymbol
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.providers.base import References
from backfill.run.connect import open_client
from backfill.settings import Account
from backfill.store.pool import Database

_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Looked:
    """Which tickers a provider knows, which it surely doesn't, and why no more were asked for."""

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unasked: str | None = None


async def looked_up(database: Database, account: Account, symbols: Sequence[Symbol]) -> Looked:
    """Ask a provider's reference about symbols, a call each, within its quota and ten seconds.

    What it says is not noted: a run asks again where its answers leave a question.
    """
    provider = account.provider
    if not isinstance(provider, References):
        return Looked(unasked=f"{provider.name} has no reference")
    known: list[str] = []
    unknown: list[str] = []
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
    except TimeoutError:
        unasked = f"no answer within {_PATIENCE_S:.0f} s, or the quota is used up"
    except BackfillError as error:
        unasked = str(error)
    return Looked(tuple(known), tuple(unknown), unasked)
