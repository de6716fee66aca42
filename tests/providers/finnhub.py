"""What is said of Finnhub."""

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
from backfill.providers.finnhub import Finnhub
from tests.providers.table import FIXTURES, Entry, Page, Refusal, priced_alone

_FOLDER: Final = FIXTURES / "finnhub"


ENTRY: Final = Entry(
    provider=Finnhub(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK.B": "BRK.B", "BRK-B": "BRK.B"},
    derived={
        Timeframe.h4: Timeframe.h1,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "candle_d_aapl_2019_docs.json",
            "AAPL",
            Timeframe.d1,
            date(2019, 9, 24),
            date(2019, 9, 27),
            bars=3,
            oldest=(1_569_297_600_000, 221.03, 222.49, 217.19, 217.68, 33_463_820.0, None, None),
            newest=(1_569_470_400_000, 220.0, 220.94, 218.83, 219.89, 20_730_608.0, None, None),
            adjustment="split",
        ),
        Page(
            "candle_d_spy_2020.json",
            "SPY",
            Timeframe.d1,
            date(2020, 6, 8),
            date(2020, 6, 13),
            bars=5,
            oldest=(1_591_623_000_000, 320.22, 323.41, 319.63, 323.2, 73_641_200.0, None, None),
            newest=(1_591_968_600_000, 308.24, 309.08, 298.6, 304.21, 194_529_100.0, None, None),
            adjustment="split",
        ),
        Page(
            "candle_d_aapl_2021.json",
            "AAPL",
            Timeframe.d1,
            date(2021, 9, 7),
            date(2021, 9, 23),
            bars=12,
            oldest=(1_630_972_800_000, 154.97, 157.26, 154.39, 156.69, 82_278_261.0, None, None),
            newest=(1_632_268_800_000, 144.45, 146.43, 143.7001, 145.85, 76_404_341.0, None, None),
            adjustment="split",
        ),
        Page(
            "candle_60_aapl_2020.json",
            "AAPL",
            Timeframe.h1,
            date(2020, 7, 2),
            date(2020, 7, 3),
            bars=2,
            oldest=(1_593_714_600_000, 366.95, 367.31, 366.21, 366.5698, 2_113_793.0, None, None),
            newest=(1_593_718_200_000, 366.59, 367.0, 365.93, 366.19, 656_192.0, None, None),
        ),
    ),
    refusals=(
        Refusal(401, _FOLDER / "error_401_invalid_key.json", Unauthorised),
        Refusal(401, _FOLDER / "error_401_no_key.json", Unauthorised),
        Refusal(403, _FOLDER / "error_403_not_entitled.json", NotEntitled),
        Refusal(401, '{"error":"You don\'t have access to this resource."}', NotEntitled),
        Refusal(
            429,
            '{"error":"API limit reached. Please try again later. Remaining Limit: 0"}',
            RateLimited,
        ),
        Refusal(429, _FOLDER / "error_429_2020.txt", RateLimited),
        Refusal(302, "<html>", ProviderError),
        Refusal(503, "", ProviderUnavailable),
    ),
    read_elsewhere=frozenset({"candle_no_data.json"}),
    quota="12/1s",
    told=priced_alone,
)
