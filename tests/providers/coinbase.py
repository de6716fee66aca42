"""What is said of Coinbase."""

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
from backfill.providers.coinbase import Coinbase
from tests.providers.table import FIXTURES, Entry, Page, Refusal, priced_alone

_FOLDER: Final = FIXTURES / "coinbase"


ENTRY: Final = Entry(
    provider=Coinbase(),
    ticker="BTC/USD",
    market_ticker="X:BTCUSD",
    unknown="NOSUCH/USD",
    spellings={"BTC/USD": "BTC-USD", "X:ETHUSD": "ETH-USD", "BTC/USDT": "BTC-USDT"},
    derived={
        Timeframe.m30: Timeframe.m15,
        Timeframe.h4: Timeframe.h1,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "candles_m1_desc.json",
            "BTC/USD",
            Timeframe.m1,
            date(2018, 2, 1),
            date(2018, 2, 2),
            bars=10,
            oldest=(
                *(1_517_443_200_000, 10099.99, 10099.99, 10099.98, 10099.98, 1.87868123),
                *(None, None),
            ),
            newest=(
                *(1_517_443_740_000, 10106.01, 10120.21, 10106.0, 10120.21, 2.85107455),
                *(None, None),
            ),
        ),
        Page(
            "candles_h1_one.json",
            "BTC/USD",
            Timeframe.h1,
            date(2024, 3, 13),
            date(2024, 3, 14),
            bars=1,
            oldest=(
                *(1_710_327_600_000, 73243.33, 73402.47, 73241.5, 73370.65, 1.56794406),
                *(None, None),
            ),
            newest=(
                *(1_710_327_600_000, 73243.33, 73402.47, 73241.5, 73370.65, 1.56794406),
                *(None, None),
            ),
        ),
    ),
    refusals=(
        Refusal(404, '{"message":"NotFound"}', UnknownSymbol),
        Refusal(429, '{"message":"Public rate limit exceeded"}', RateLimited),
        Refusal(451, "", GeoBlocked),
        Refusal(503, "", ProviderUnavailable),
        Refusal(400, _FOLDER / "error_400_too_many.json", ProviderError),
    ),
    read_elsewhere=frozenset({"empty.json"}),
    quota="12/1s",
    told=priced_alone,
)
