"""How more than one provider spells what a ticker names."""

import re

from backfill.core.instrument import Instrument, Pair, Stock, pair_of, stock_of
from backfill.errors import NotEntitled


class Dashed:
    """Has shares only, with dashes where ours have dots: ``BRK.B`` is ``BRK-B`` there."""

    name: str
    proven: re.Pattern[str]

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling."""
        return share(self.name, instrument).replace(".", "-")

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the share that a spelling of the service is proven to name."""
        return stock_of(spelling) if self.proven.fullmatch(spelling) else None


def share(provider: str, instrument: Instrument) -> str:
    """Return a share as we spell it, for a provider that is asked for nothing else.

    Raises
    ------
    NotEntitled
        If it is none.
    """
    if not isinstance(instrument, Stock):
        raise NotEntitled(f"{provider} is asked for shares only: {instrument}")
    return str(instrument)


def joined(provider: str, instrument: Instrument) -> str:
    """Return a pair in one word, for a provider of pairs: ``BTC/USDT`` is ``BTCUSDT`` there.

    Raises
    ------
    NotEntitled
        If it is a share.
    """
    if not isinstance(instrument, Pair):
        raise NotEntitled(f"{provider} has no shares: {instrument}")
    return instrument.base + instrument.quote


def by_slash(spelling: str) -> Instrument:
    """Return what a spelling with a slash in pairs, and in nothing else, names.

    >>> str(by_slash("XBT/USD")), str(by_slash("BRK.B"))
    ('BTC/USD', 'BRK.B')
    """
    base, slash, quote = spelling.partition("/")
    return pair_of(base, quote) if slash else stock_of(spelling)
