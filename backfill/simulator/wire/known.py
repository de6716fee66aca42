"""Every wire, by the name of its provider."""

from typing import Final

from backfill.simulator.wire.alpaca import AlpacaBoatsWire, AlpacaIexWire, AlpacaWire
from backfill.simulator.wire.base import Wire
from backfill.simulator.wire.binance.wire import BinanceWire
from backfill.simulator.wire.bybit import BybitWire
from backfill.simulator.wire.coinbase import CoinbaseWire
from backfill.simulator.wire.finnhub import FinnhubWire
from backfill.simulator.wire.kraken import KrakenWire
from backfill.simulator.wire.massive.wire import MassiveWire
from backfill.simulator.wire.tiingo import TiingoWire
from backfill.simulator.wire.twelvedata import TwelveDataWire
from backfill.simulator.wire.yahoo import YahooWire

WIRES: Final[dict[str, Wire]] = {
    wire.name: wire
    for wire in (
        MassiveWire(),
        AlpacaWire(),
        AlpacaIexWire(),
        AlpacaBoatsWire(),
        BinanceWire(),
        CoinbaseWire(),
        KrakenWire(),
        FinnhubWire(),
        BybitWire(),
        TiingoWire(),
        TwelveDataWire(),
        YahooWire(),
    )
}
