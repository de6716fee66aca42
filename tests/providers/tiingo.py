"""What is said of Tiingo."""

from datetime import date
from typing import Final

from backfill.core.timeframe import Timeframe
from backfill.errors import (
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    SymbolsUsedUp,
    Unauthorised,
    UnknownSymbol,
)
from backfill.providers.tiingo import Tiingo
from tests.providers.table import FIXTURES, Entry, Page, Refusal, priced_alone

_FOLDER: Final = FIXTURES / "tiingo"
_HOUR: Final = '{"detail":"Error: You have run over your hourly request allocation."}'

ENTRY: Final = Entry(
    provider=Tiingo(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK.B": "BRK-B", "BRK-B": "BRK-B"},
    derived={
        Timeframe.h1: Timeframe.m30,
        Timeframe.h4: Timeframe.m30,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "daily_d1.json",
            "GOOGL",
            Timeframe.d1,
            date(2015, 1, 2),
            date(2015, 1, 6),
            bars=2,
            oldest=(1_420_156_800_000, 532.6, 535.8, 527.88, 529.55, 1_327_870.0, None, None),
            newest=(1_420_416_000_000, 527.15, 527.9899, 517.75, 519.46, 2_059_119.0, None, None),
        ),
        Page(
            "daily_d1_dividend_excerpt.json",
            "AAPL",
            Timeframe.d1,
            date(2023, 5, 11),
            date(2023, 5, 16),
            bars=3,
            oldest=(1_683_763_200_000, 173.85, 174.59, 172.17, 173.75, 49_514_676.0, None, None),
            newest=(1_684_108_800_000, 173.16, 173.21, 171.47, 172.07, 37_266_659.0, None, None),
        ),
    ),
    refusals=(
        Refusal(404, _FOLDER / "error_404_ticker.json", UnknownSymbol),
        Refusal(200, _FOLDER / "error_200_csv_ticker.txt", UnknownSymbol),
        Refusal(200, _FOLDER / "error_200_symbol_quota.txt", SymbolsUsedUp),
        Refusal(403, _FOLDER / "error_403_no_token.json", Unauthorised),
        Refusal(403, "None", Unauthorised),
        Refusal(403, '{"detail":"Upgrade to read this."}', NotEntitled),
        Refusal(429, _HOUR, RateLimited),
        Refusal(200, _HOUR, RateLimited),
        Refusal(404, '{"detail":"Not found."}', ProviderError),
        Refusal(503, "", ProviderUnavailable),
    ),
    read_elsewhere=frozenset(
        {
            "crypto_d1.json",
            "daily_columns_2024.json",
            "daily_w1.json",
            "empty.json",
            "iex_m30.json",
            "metadata_pg.json",
        }
    ),
    quota="12/1s",
    told=priced_alone,
    is_regular=True,
)
