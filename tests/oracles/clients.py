"""What real client libraries read of a simulator, a bar a row.

It runs in a Python of its own, which has the libraries and not backfill (`make oracles`)::

    python clients.py NAME URL SYMBOL TIMEFRAME START_MS END_MS

prints a JSON list of ``[ts_ms, open, high, low, close, volume, vwap, trade_count]``, ``null`` for
what the library doesn't tell, and the calls are the library's own way to read a range.
"""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

NEW_YORK: Final = ZoneInfo("America/New_York")
KEY: Final = "sim-key"
MINUTES: Final = {"m1": 1, "m5": 5, "m15": 15, "h1": 60, "d1": 1440}
Row = list[Any]
Read = Callable[[str, str, str, int, int], Iterable[Row]]


def alpaca_py(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """Its pages followed by the library; a dictionary by symbol, of which one was asked."""
    from alpaca.data import historical, requests
    from alpaca.data.enums import Adjustment, DataFeed
    from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

    amount, unit = {
        "m1": (1, TimeFrameUnit.Minute),
        "m15": (15, TimeFrameUnit.Minute),
        "h1": (1, TimeFrameUnit.Hour),
        "d1": (1, TimeFrameUnit.Day),
    }[timeframe]
    asked = {
        "symbol_or_symbols": symbol,
        "timeframe": TimeFrame(amount, unit),
        "start": _instant(start_ms),
        "end": _instant(end_ms - 1),
    }
    if "/" in symbol:
        coins = historical.CryptoHistoricalDataClient(KEY, KEY, url_override=url)
        found = coins.get_crypto_bars(requests.CryptoBarsRequest(**asked))
    else:
        shares = historical.StockHistoricalDataClient(KEY, KEY, url_override=url)
        found = shares.get_stock_bars(
            requests.StockBarsRequest(**asked, feed=DataFeed.SIP, adjustment=Adjustment.RAW)
        )
    for one in found.data[symbol]:
        yield [
            round(one.timestamp.timestamp() * 1000),
            *(one.open, one.high, one.low, one.close, one.volume),
            one.vwap,
            None if one.trade_count is None else int(one.trade_count),
        ]


def ccxt_of(name: str) -> Read:
    """Return how ccxt reads an exchange: by `fetch_ohlcv`, a range at a time."""

    def read(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
        import ccxt

        base, quote = symbol.split("/")
        spelled = {"coinbaseexchange": f"{base}-{quote}", "kraken": f"XXBTZ{quote}"}
        exchange = getattr(ccxt, name)({"enableRateLimit": False})
        for api in ("public", "sapi", "private"):
            if api in exchange.urls["api"]:
                exchange.urls["api"][api] = url + ("/api/v3" if name == "binance" else "")
        exchange.set_markets(
            [
                {
                    "id": spelled.get(name, base + quote),
                    "symbol": symbol,
                    "base": base,
                    "quote": quote,
                    "baseId": base,
                    "quoteId": quote,
                    "type": "spot",
                    "spot": True,
                    "active": True,
                    "contract": False,
                    "swap": False,
                    "future": False,
                    "option": False,
                    "precision": {"price": 1e-8, "amount": 1e-8},
                }
            ]
        )
        unit = exchange.parse_timeframe(_ccxt_frame(timeframe)) * 1000
        since = start_ms
        while since < end_ms:
            until = min(end_ms, since + 300 * unit)
            found = exchange.fetch_ohlcv(
                symbol,
                _ccxt_frame(timeframe),
                since,
                -(-(until - since) // unit),
                {"until": until - 1},
            )
            for one in found:
                if since <= one[0] < until:
                    yield [*one, None, None]
            since = until

    return read


def python_binance(
    url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int
) -> Iterable[Row]:
    """`get_historical_klines`, which pages by itself."""
    from binance.client import Client

    client = Client(ping=False)
    client.API_URL = f"{url}/api"
    return map(
        _kline,
        client.get_historical_klines(
            symbol.replace("/", ""), _ccxt_frame(timeframe), start_ms, end_ms - 1
        ),
    )


def binance_connector(
    url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int
) -> Iterable[Row]:
    """`klines`, a page a call."""
    from binance.spot import Spot

    client, unit = Spot(base_url=url), MINUTES[timeframe] * 60_000
    for since in range(start_ms, end_ms, 1000 * unit):
        until = min(end_ms, since + 1000 * unit) - 1
        yield from map(
            _kline,
            client.klines(
                symbol.replace("/", ""),
                _ccxt_frame(timeframe),
                startTime=since,
                endTime=until,
                limit=1000,
            ),
        )


def krakenex(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`query_public`, one answer."""
    import krakenex as library

    client = library.API()
    client.uri = url
    asked = {
        "pair": symbol.replace("BTC", "XBT").replace("/", ""),
        "interval": MINUTES[timeframe],
    }
    found = client.query_public("OHLC", asked)
    assert found["error"] == []
    [rows] = [rows for name, rows in found["result"].items() if name != "last"]
    for at, *prices, vwap, volume, count in rows:
        if start_ms <= 1000 * at < end_ms:
            yield [1000 * at, *map(float, (*prices, volume, vwap)), count]


def finnhub_python(
    url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int
) -> Iterable[Row]:
    """`stock_candles`, one answer; of the two slashes that it begins the path with one is left."""
    import finnhub

    client = finnhub.Client(api_key=KEY)
    client.API_URL = url
    get = client._session.get
    client._session.get = lambda uri, **rest: get(uri.replace("//stock", "/stock"), **rest)
    resolution = {"m1": "1", "m15": "15", "h1": "60", "d1": "D"}[timeframe]
    found = client.stock_candles(symbol, resolution, start_ms // 1000, end_ms // 1000 - 1)
    columns = (found[letter] for letter in "tohlcv")
    return ([1000 * at, *rest, None, None] for at, *rest in zip(*columns, strict=True))


def pybit(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`get_kline`, a page a call, newest first."""
    from pybit.unified_trading import HTTP

    client, unit = HTTP(), MINUTES[timeframe] * 60_000
    client.endpoint = url
    for since in range(start_ms, end_ms, 1000 * unit):
        found = client.get_kline(
            category="spot",
            symbol=symbol.replace("/", ""),
            interval={"d1": "D"}.get(timeframe, str(MINUTES[timeframe])),
            start=since,
            end=min(end_ms, since + 1000 * unit) - 1,
            limit=1000,
        )
        for at, *values in reversed(found["result"]["list"]):
            yield [int(at), *map(float, values[:5]), None, None]


def massive(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`list_aggs`, which follows pages by itself."""
    from massive import RESTClient

    amount, unit = {
        "m1": (1, "minute"),
        "m15": (15, "minute"),
        "h1": (1, "hour"),
        "d1": (1, "day"),
    }[timeframe]
    ticker = f"X:{symbol.replace('/', '')}" if "/" in symbol else symbol
    found = RESTClient(KEY, base=url).list_aggs(
        ticker, amount, unit, start_ms, end_ms - 1, adjusted=False, sort="asc", limit=50_000
    )
    for one in found:
        yield [
            *(one.timestamp, one.open, one.high, one.low, one.close, one.volume),
            *(one.vwap, one.transactions),
        ]


def tiingo(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`get_ticker_price`: whole days, of which those that were not asked for are left out."""
    from tiingo import TiingoClient

    client = TiingoClient({"api_key": KEY})
    client._base_url = url
    intraday = {"columns": "open,high,low,close,volume", "frequency": f"{MINUTES[timeframe]}min"}
    found = client.get_ticker_price(
        symbol,
        startDate=f"{_instant(start_ms).astimezone(NEW_YORK):%Y-%m-%d}",
        endDate=f"{_instant(end_ms).astimezone(NEW_YORK):%Y-%m-%d}",
        **({} if timeframe == "d1" else intraday),
    )
    for one in found:
        at_ms = round(datetime.fromisoformat(one["date"]).timestamp() * 1000)
        prices = (one[name] for name in ("open", "high", "low", "close", "volume"))
        if timeframe == "d1" or start_ms <= at_ms < end_ms:
            yield [at_ms, *prices, None, None]


def twelvedata(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`time_series`, one answer, by the clock that it is asked for; no indicator is asked about."""
    from twelvedata import TDClient, client

    client.patch_endpoints_meta.patched = True
    clock = ZoneInfo("UTC") if "/" in symbol else NEW_YORK
    first, last = (_instant(ms).astimezone(clock) for ms in (start_ms, end_ms))
    series = TDClient(apikey=KEY, base_url=url).time_series(
        symbol=symbol,
        interval={"m15": "15min", "h1": "1h", "d1": "1day"}[timeframe],
        start_date=f"{first:%Y-%m-%d %H:%M:%S}",
        end_date=f"{last:%Y-%m-%d %H:%M:%S}",
        timezone=clock.key,
        order="asc",
        outputsize=5000,
    )
    for one in series.as_json():
        prices = (float(one[name]) for name in ("open", "high", "low", "close", "volume"))
        yield [_told_by(clock, one["datetime"]), *prices, None, None]


def yfinance(url: str, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Iterable[Row]:
    """`Ticker.history`, as Yahoo has it: without a second adjustment, without the first cookie."""
    import tempfile

    import yfinance as yf
    from yfinance import base, data
    from yfinance.scrapers import history

    base._BASE_URL_ = history._BASE_URL_ = url
    data.YfData._get_cookie_and_crumb = lambda *_, **__: (None, "basic")
    with tempfile.TemporaryDirectory() as folder:
        yf.set_tz_cache_location(folder)
        found = yf.Ticker(symbol).history(
            interval=_ccxt_frame(timeframe),
            start=_instant(start_ms),
            end=_instant(end_ms),
            auto_adjust=False,
            actions=False,
        )
    for at, *prices in found[["Open", "High", "Low", "Close", "Volume"]].itertuples():
        yield [round(at.timestamp() * 1000), *map(float, prices), None, None]


CLIENTS: Final[dict[str, Read]] = {
    "massive": massive,
    "alpaca-py": alpaca_py,
    "python-binance": python_binance,
    "binance-connector": binance_connector,
    "ccxt binance": ccxt_of("binance"),
    "ccxt coinbaseexchange": ccxt_of("coinbaseexchange"),
    "ccxt kraken": ccxt_of("kraken"),
    "ccxt bybit": ccxt_of("bybit"),
    "krakenex": krakenex,
    "finnhub-python": finnhub_python,
    "pybit": pybit,
    "tiingo": tiingo,
    "twelvedata": twelvedata,
    "yfinance": yfinance,
}


def _told_by(clock: ZoneInfo, text: str) -> int:
    """Return the instant, in epoch ms, of a time or a day without a zone."""
    return round(datetime.fromisoformat(text).replace(tzinfo=clock).timestamp() * 1000)


def _ccxt_frame(timeframe: str) -> str:
    """Return ``15m`` for ``m15``, as exchanges of coins and ccxt write it."""
    return timeframe[1:] + timeframe[0]


def _kline(one: list[Any]) -> Row:
    return [one[0], *map(float, one[1:6]), None, one[8]]


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


if __name__ == "__main__":
    name, url, symbol, timeframe, start, end = sys.argv[1:]
    json.dump(list(CLIENTS[name](url, symbol, timeframe, int(start), int(end))), sys.stdout)
