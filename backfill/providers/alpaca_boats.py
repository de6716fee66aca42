"""Alpaca's feed ``boats``: bars of the night of US stocks, as Blue Ocean ATS has it.

That is from 20:00 to 4:00 in New York, before every session of the exchange, and nothing else:
other bars than those of ``alpaca``, of which they are a feed by name, with one account and quota.
Like those, they can be read on the free plan once they are fifteen minutes old.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from backfill.core.capabilities import Capabilities
from backfill.core.pages import BarsPerPage
from backfill.core.terms import UNTOLD, Quota, Terms
from backfill.core.timeframe import Timeframe
from backfill.providers.alpaca import BASIC, DELAYED, MOST, PLUS, Alpaca

# Of older ones nobody tells.
_SINCE: Final = date(2024, 9, 16)


class AlpacaBoats(Alpaca):
    """The provider ``alpaca-boats``."""

    name = "alpaca-boats"
    asked_feed = "boats"
    # Of what is longer than a minute users tell different things; days are refused.
    can = Capabilities(
        feed="boats",
        native={"stock": frozenset({Timeframe.m1})},
        adjustments=("raw", "split"),
        pages=BarsPerPage(MOST),
    )
    terms: Mapping[str, Terms] = {
        "free": Terms("free", BASIC, DELAYED, None, _SINCE),
        "plus": Terms("plus", PLUS, UNTOLD, None, _SINCE),
        "unlimited": Terms("unlimited", Quota(), UNTOLD, None, _SINCE),
    }
