"""Alpaca's feed ``iex``: bars of what US stocks traded at one exchange, IEX, and nowhere else.

Two or three shares of a hundred trade there, so these are other bars than those of ``alpaca``, of
which they are a feed by name: one account, and so one quota. The free plan has them at once.
IEX trades from 8:00 to 17:00 in New York.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from backfill.core.capabilities import Capabilities
from backfill.core.pages import BarsPerPage
from backfill.core.terms import UNTOLD, Quota, Terms
from backfill.providers.alpaca import BASIC, MOST, NATIVE, PLUS, Alpaca

# Nobody has seen older ones: https://github.com/kzhdev/alpaca_zorro_plugin/issues/11.
_SINCE: Final = date(2020, 7, 1)


class AlpacaIex(Alpaca):
    """The provider ``alpaca-iex``."""

    name = "alpaca-iex"
    asked_feed = "iex"
    # Tiingo's feed `iex` has the regular session alone: hours are by the feed's name.
    can = Capabilities(
        feed="iex-extended",
        native={"stock": NATIVE},
        adjustments=("raw", "split"),
        pages=BarsPerPage(MOST),
    )
    terms: Mapping[str, Terms] = {
        name: Terms(name, quota, UNTOLD, None, _SINCE)
        for name, quota in (("free", BASIC), ("plus", PLUS), ("unlimited", Quota()))
    }
