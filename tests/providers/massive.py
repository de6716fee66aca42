"""What is said of Massive."""

from dataclasses import replace
from datetime import date
from typing import Final

from backfill.core.timeframe import Timeframe
from backfill.errors import (
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
)
from backfill.providers.massive import Massive
from backfill.simulator import Action
from tests.providers.table import Entry, Page, Refusal

ENTRY: Final = Entry(
    provider=Massive(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK.B": "BRK.B", "BTC/USD": "X:BTCUSD", "BTCUSDT": "X:BTCUSDT"},
    derived={Timeframe.h4: Timeframe.h1},
    pages=(
        Page(
            "aggs-AAPL-day-2005-04-01-2005-04-04.json",
            "AAPL",
            Timeframe.d1,
            date(2005, 4, 1),
            date(2005, 4, 5),
            bars=2,
            oldest=(
                *(1_112_331_600_000, 1.5032, 1.5064, 1.4489, 1.4604, 642_646_396.0),
                *(1.469, 82_132),
            ),
            newest=(
                *(1_112_587_200_000, 1.4639, 1.4754, 1.4343, 1.4675, 578_172_308.0),
                *(1.4589, 65_543),
            ),
            adjustment="split",
        ),
    ),
    refusals=(
        Refusal(401, '{"status":"ERROR","error":"Unknown API Key"}', Unauthorised),
        Refusal(403, '{"status":"NOT_AUTHORIZED","message":"upgrade your plan"}', NotEntitled),
        Refusal(429, '{"status":"ERROR","error":"exceeded the maximum"}', RateLimited),
        Refusal(
            200,
            '{"status":"ERROR","error":"You\'ve exceeded the maximum requests per minute"}',
            RateLimited,
        ),
        Refusal(504, "", ProviderUnavailable),
        Refusal(400, '{"status":"ERROR","error":"from must not be after to"}', ProviderError),
    ),
    read_elsewhere=frozenset(
        {
            "dividends.json",
            "events-META.json",
            "grouped-stocks.json",
            "openapi-2026-04-subset.json",
            "openapi-subset.json",
            "splits.json",
            "ticker-AAPL.json",
            "tickers-page1.json",
        }
    ),
    quota="12/1s",
    says=frozenset({Action.WRONG_TICKER, Action.WRONG_ADJUSTED}),
)

CURRENCIES: Final = replace(
    ENTRY,
    ticker="EUR/USD",
    market_ticker="C:EURUSD",
    unknown="EUR/ZAR",
    spellings={"EUR/USD": "C:EURUSD", "USDJPY=X": "C:USDJPY"},
    derived=dict.fromkeys((Timeframe.h4, Timeframe.d1, Timeframe.w1, Timeframe.mn1), Timeframe.h1),
)
"""The same of its currencies."""
