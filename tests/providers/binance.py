"""What is said of Binance."""

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
from backfill.providers.binance import Binance
from tests.providers.table import FIXTURES, Entry, Page, Refusal

_FOLDER: Final = FIXTURES / "binance"


ENTRY: Final = Entry(
    provider=Binance(),
    ticker="BTC/USDT",
    market_ticker="X:BTCUSDT",
    unknown="BTC/USD",
    spellings={"BTC/USDT": "BTCUSDT", "BTCUSDT": "BTCUSDT", "X:ETHBTC": "ETHBTC"},
    pages=(
        Page(
            "klines_m1.json",
            "BTC/USDT",
            Timeframe.m1,
            date(2021, 10, 22),
            date(2021, 10, 23),
            bars=10,
            oldest=(
                *(1_634_943_780_000, 60685.22, 60729.84, 60670.9, 60719.27, 21.63272),
                *(1_313_200.0134041 / 21.63272, 617),
            ),
            newest=(
                *(1_634_944_320_000, 60739.85, 60739.85, 60739.85, 60739.85, 0.04734),
                *(2875.424499 / 0.04734, 7),
            ),
        ),
        Page(
            "klines_h1.json",
            "BTC/USDT",
            Timeframe.h1,
            date(2023, 1, 6),
            date(2023, 1, 7),
            bars=4,
            oldest=(
                *(1_672_981_200_000, 16823.24, 16823.63, 16792.12, 16810.18, 6230.44034),
                *(104_737_787.3657063 / 6230.44034, 162_086),
            ),
            newest=(
                *(1_672_992_000_000, 16794.33, 16812.22, 16791.47, 16802.11, 5475.1394),
                *(92_000_245.5434114 / 5475.1394, 164_303),
            ),
        ),
    ),
    refusals=(
        Refusal(400, _FOLDER / "error_400_invalid_symbol.json", UnknownSymbol),
        Refusal(429, _FOLDER / "error_429_weight.json", RateLimited),
        Refusal(418, '{"code":-1003,"msg":"Way too much request weight used"}', RateLimited),
        Refusal(403, "<html>", RateLimited),
        Refusal(451, _FOLDER / "error_451_location.json", GeoBlocked),
        Refusal(503, "", ProviderUnavailable),
        Refusal(400, '{"code":-1120,"msg":"Invalid interval."}', ProviderError),
    ),
    quota="24/1s",
)
