"""What is said of Kraken."""

from datetime import date
from typing import Final

from backfill.core.timeframe import Timeframe
from backfill.errors import (
    GeoBlocked,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
)
from backfill.providers.kraken import Kraken
from backfill.simulator import Action
from tests.providers.table import FIXTURES, Entry, Page, Refusal

_FOLDER: Final = FIXTURES / "kraken"


ENTRY: Final = Entry(
    provider=Kraken(),
    ticker="BTC/USDT",
    market_ticker="X:BTCUSDT",
    unknown="NOSUCH/USD",
    spellings={
        "BTC/USD": "XBTUSD",
        "XXBTZUSD": "XBTUSD",
        "DOGE/USD": "XDGUSD",
        "X:ETHUSD": "ETHUSD",
    },
    derived={Timeframe.w1: Timeframe.d1, Timeframe.mn1: Timeframe.d1},
    pages=(
        Page(
            "ohlc_m1_since.json",
            "BTC/USD",
            Timeframe.m1,
            date(2026, 9, 3),
            date(2026, 9, 4),
            bars=3,
            oldest=(
                *(1_788_415_200_000, 77776.4, 77800.0, 77717.8, 77736.8, 4.07649664),
                *(77777.6, 167),
            ),
            newest=(
                *(1_788_415_320_000, 77714.7, 77730.3, 77682.0, 77707.9, 2.64594439),
                *(77694.0, 90),
            ),
        ),
        Page(
            "ohlc_m1_head_tail_excerpt.json",
            "BTC/USDT",
            Timeframe.m1,
            date(2025, 11, 10),
            date(2025, 11, 12),
            bars=79,
            oldest=(
                *(1_762_777_020_000, 106038.2, 106038.2, 106038.2, 106038.2, 0.0),
                *(0.0, 0),
            ),
            newest=(
                *(1_762_820_160_000, 105899.4, 105899.4, 105899.4, 105899.4, 0.0),
                *(0.0, 0),
            ),
        ),
    ),
    refusals=(
        Refusal(200, _FOLDER / "error_unknown_pair.json", UnknownSymbol),
        Refusal(200, _FOLDER / "error_rate_limited.json", RateLimited),
        Refusal(200, _FOLDER / "error_invalid_arguments.json", ProviderError),
        Refusal(200, '{"error":["EService:Unavailable"]}', ProviderUnavailable),
        Refusal(451, "", GeoBlocked),
    ),
    quota="12/1s",
    says=frozenset({Action.WRONG_TICKER}),
)
