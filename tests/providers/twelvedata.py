"""What is said of Twelve Data."""

from datetime import date
from typing import Final

from backfill.core.timeframe import Timeframe
from backfill.errors import (
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
)
from backfill.providers.twelvedata import TwelveData
from backfill.simulator import Action
from tests.providers.table import FIXTURES, Entry, Page, Refusal, priced_alone

_FOLDER: Final = FIXTURES / "twelvedata"
_DAY: Final = (
    '{"code":429,"message":"You have run out of API credits for the day. 7662 API credits were '
    'used, with the current limit being 800.","status":"error"}'
)
_NOT_IN_PLAN: Final = (
    '{"code":404,"message":"This symbol is available starting with the Grow or Venture plan. '
    'Consider upgrading now at https://twelvedata.com/pricing","status":"error"}'
)
_UNKNOWN: Final = (
    '{"code":404,"message":"**symbol** or **figi** parameter is missing or invalid. Please provide '
    'a valid symbol according to API documentation","status":"error"}'
)

ENTRY: Final = Entry(
    provider=TwelveData(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK-B": "BRK.B", "C:EURUSD": "EUR/USD", "BTCUSDT": "BTC/USDT"},
    derived={
        Timeframe.h1: Timeframe.m30,
        Timeframe.h4: Timeframe.m30,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "time_series_batch_h1.json",
            "AAPL",
            Timeframe.h1,
            date(2023, 5, 8),
            date(2023, 5, 13),
            bars=30,
            oldest=(1_683_570_600_000, 173.595, 173.8, 173.21001, 173.405, 4_103_527.0, None, None),
            newest=(1_683_919_800_000, 171.91, 172.62, 171.905, 172.56, 5_265_382.0, None, None),
        ),
    ),
    refusals=(
        Refusal(401, _FOLDER / "error_401_apikey.json", Unauthorised),
        Refusal(200, _FOLDER / "error_401_apikey.json", Unauthorised),
        Refusal(403, _FOLDER / "error_403_demo_key.json", Unauthorised),
        Refusal(200, _FOLDER / "error_403_plan.json", NotEntitled),
        Refusal(404, _NOT_IN_PLAN, NotEntitled),
        Refusal(200, _UNKNOWN, UnknownSymbol),
        Refusal(200, _FOLDER / "error_429_minute.json", RateLimited),
        Refusal(429, _DAY, RateLimited),
        Refusal(200, '{"code":500,"message":"","status":"error"}', ProviderUnavailable),
        Refusal(502, "<html>", ProviderUnavailable),
        Refusal(
            200, '{"code":400,"message":"Invalid **interval**","status":"error"}', ProviderError
        ),
    ),
    read_elsewhere=frozenset({"batch_with_error_handmade.json", "error_404_data_not_found.json"}),
    quota="12/1s",
    told=priced_alone,
    is_regular=True,
    says=frozenset({Action.WRONG_TICKER}),
)
