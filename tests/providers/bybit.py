"""What is said of Bybit."""

from dataclasses import replace
from datetime import date
from typing import Final

import numpy as np

from backfill.core.bars import NO_COUNT
from backfill.core.timeframe import Timeframe
from backfill.errors import (
    GeoBlocked,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
)
from backfill.providers.bybit import Bybit
from backfill.simulator import Action
from tests.providers.table import FIXTURES, Entry, Page, Refusal

_FOLDER: Final = FIXTURES / "bybit"

ENTRY: Final = Entry(
    provider=Bybit(),
    ticker="BTC/USDT",
    market_ticker="X:BTCUSDT",
    unknown="NOSUCH/USDT",
    spellings={"BTC/USDT": "BTCUSDT", "X:ETHBTC": "ETHBTC"},
    pages=(
        Page(
            "kline_h1.json",
            "BTC/USDT",
            Timeframe.h1,
            date(2024, 5, 8),
            date(2024, 5, 9),
            bars=5,
            newest=(
                *(1_715_176_800_000, 62440.14, 62841.64, 62160.72, 62564.68, 706.187244),
                *(44_137_837.83110939 / 706.187244, None),
            ),
            oldest=(
                *(1_715_162_400_000, 62308.69, 62524.28, 62258.76, 62439.82, 421.80928),
                *(26_322_162.21650143 / 421.80928, None),
            ),
        ),
    ),
    refusals=(
        Refusal(200, _FOLDER / "error_10001_symbol.json", UnknownSymbol),
        Refusal(200, _FOLDER / "error_10006_rate_limit.json", RateLimited),
        Refusal(403, '{"retCode":403,"retMsg":"access too frequent"}', RateLimited),
        Refusal(403, _FOLDER / "error_403_country.txt", GeoBlocked),
        Refusal(200, '{"retCode":10016,"retMsg":"Internal System Error"}', ProviderUnavailable),
        Refusal(200, '{"retCode":10001,"retMsg":"invalid interval"}', ProviderError),
        Refusal(502, "", ProviderUnavailable),
    ),
    read_elsewhere=frozenset({"kline_h1_inverse_docs.json"}),
    quota="12/1s",
    told=lambda bars: replace(bars, trade_count=np.full(len(bars), NO_COUNT)),
    says=frozenset({Action.WRONG_TICKER}),
)
