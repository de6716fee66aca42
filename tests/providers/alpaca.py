"""What is said of Alpaca."""

from dataclasses import replace
from datetime import date
from typing import Final

from backfill.core.bars import Bars
from backfill.core.timeframe import Timeframe
from backfill.errors import (
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
)
from backfill.providers.alpaca import Alpaca
from backfill.providers.alpaca_boats import AlpacaBoats
from backfill.providers.alpaca_iex import AlpacaIex
from backfill.simulator import Action
from tests.providers.table import FIXTURES, Entry, Page, Refusal

_FOLDER: Final = FIXTURES / "alpaca"

ENTRY: Final = Entry(
    provider=Alpaca(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK-B": "BRK.B", "X:BTCUSD": "BTC/USD", "ETHUSDT": "ETH/USDT"},
    derived={
        Timeframe.h4: Timeframe.h1,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "stocks_bars_m15_split.json",
            "AMZN",
            Timeframe.m15,
            date(2021, 10, 15),
            date(2021, 10, 16),
            bars=5,
            oldest=(
                *(1_634_313_600_000, 3378.14, 3380.815, 3376.3001, 3379.72, 211_689.0),
                *(3379.041755, 5435),
            ),
            newest=(
                *(1_634_317_200_000, 3387.56, 3390.74, 3382.87, 3382.87, 134_339.0),
                *(3387.086825, 5832),
            ),
            adjustment="split",
        ),
        Page(
            "crypto_bars_m1.json",
            "BCH/USD",
            Timeframe.m1,
            date(2021, 11, 11),
            date(2021, 11, 12),
            bars=11,
            oldest=(
                *(1_636_629_060_000, 679.75, 679.76, 679.26, 679.26, 3.67960285),
                *(679.6324449731, 10),
            ),
            newest=(
                *(1_636_629_660_000, 679.48, 679.81, 679.39, 679.71, 3.53102371),
                *(679.6679296305, 19),
            ),
        ),
    ),
    refusals=(
        Refusal(403, _FOLDER / "error_403_sip.json", NotEntitled),
        Refusal(403, '{"message": "forbidden."}', Unauthorised),
        Refusal(401, '{"message": "unauthorized."}', Unauthorised),
        Refusal(400, _FOLDER / "error_400_location.json", ProviderError),
        Refusal(400, '{"message":"invalid symbol: NO/SUCH"}', UnknownSymbol),
        Refusal(403, "<html>", ProviderError),
        Refusal(429, '{"message":"too many requests."}', RateLimited),
        Refusal(504, "", ProviderUnavailable),
    ),
    read_elsewhere=frozenset(
        {
            "crypto_bars_h2_legacy_same_ts.json",
            "stocks_bars_desc_page.json",
            "stocks_bars_empty.json",
            "stocks_bars_multi_d1.json",
            "stocks_bars_page1.json",
            "stocks_bars_page2.json",
        }
    ),
    quota="12/1s",
    says=frozenset({Action.WRONG_TICKER}),
)


def at_iex(bars: Bars) -> Bars:
    """Return bars as they are where one share in 32 is traded."""
    return replace(bars, volume=bars.volume / 32)


IEX: Final = replace(
    ENTRY,
    provider=AlpacaIex(),
    spellings={"AAPL": "AAPL", "BRK-B": "BRK.B"},
    pages=ENTRY.pages[:1],
    refusals=(
        Refusal(403, '{"message": "forbidden."}', Unauthorised),
        Refusal(429, '{"message":"too many requests."}', RateLimited),
    ),
    read_elsewhere=ENTRY.read_elsewhere
    | {"crypto_bars_m1.json", "error_403_sip.json", "error_400_location.json"},
    told=at_iex,
    hours=(8, 17),
)
"""Its other feed by the same account: the same answers, but for what was traded elsewhere."""

BOATS: Final = replace(
    IEX,
    provider=AlpacaBoats(),
    derived=dict.fromkeys(
        (Timeframe.m5, Timeframe.m15, Timeframe.m30, Timeframe.h1, Timeframe.h4), Timeframe.m1
    ),
    refusals=(
        Refusal(
            403,
            '{"message":"subscription does not permit querying recent BOATS data"}',
            NotEntitled,
        ),
        *IEX.refusals,
    ),
    told=lambda bars: bars,
    hours=(20, 4),
    lacks=frozenset({Timeframe.d1, Timeframe.w1, Timeframe.mn1}),
    frame=Timeframe.h1,
)
"""The feed of the night alone."""
