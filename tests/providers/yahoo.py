"""What is said of Yahoo."""

from datetime import date
from typing import Final

from backfill.core.timeframe import Timeframe
from backfill.errors import (
    GeoBlocked,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
)
from backfill.providers.yahoo import Yahoo
from backfill.simulator import Action
from tests.providers.table import FIXTURES, Entry, Page, Refusal, priced_alone

_FOLDER: Final = FIXTURES / "yahoo"

ENTRY: Final = Entry(
    provider=Yahoo(),
    ticker="AAPL",
    market_ticker="AAPL",
    unknown="NOSUCH",
    spellings={"AAPL": "AAPL", "BRK.B": "BRK-B", "BRK-B": "BRK-B"},
    derived={
        Timeframe.m30: Timeframe.m15,
        Timeframe.h1: Timeframe.m15,
        Timeframe.h4: Timeframe.m15,
        Timeframe.w1: Timeframe.d1,
        Timeframe.mn1: Timeframe.d1,
    },
    pages=(
        Page(
            "chart_d1_split_div.json",
            "AAPL",
            Timeframe.d1,
            date(2020, 8, 31),
            date(2020, 11, 7),
            bars=49,
            oldest=(
                *(1_598_880_600_000, 127.58000183105469, 131.0, 126.0),
                *(129.0399932861328, 225_702_700.0, None, None),
            ),
            newest=(
                *(1_604_673_000_000, 118.31999969482422, 119.19999694824219, 116.12999725341797),
                *(118.69000244140625, 114_457_900.0, None, None),
            ),
            adjustment="split",
        ),
    ),
    refusals=(
        Refusal(404, _FOLDER / "error_404_not_found.json", UnknownSymbol),
        Refusal(422, _FOLDER / "error_422_m1_window.json", NotEntitled),
        Refusal(429, "Too Many Requests\r\n", RateLimited),
        Refusal(429, "Edge: Too Many Requests", RateLimited),
        Refusal(451, "", GeoBlocked),
        Refusal(401, "", ProviderError),
        Refusal(200, "<html>Will be right back</html>", ProviderUnavailable),
        Refusal(503, "", ProviderUnavailable),
    ),
    read_elsewhere=frozenset(
        {
            "chart_d1_crypto.json",
            "chart_d1_forming_stamp.json",
            "chart_d1_fx.json",
            "chart_d1_xetra.json",
            "chart_delisted_no_data.json",
            "chart_m1_no_quotes.json",
            "error_400_no_data_in_range.json",
        }
    ),
    quota="12/1s",
    told=priced_alone,
    is_regular=True,
    says=frozenset({Action.WRONG_TICKER}),
)
