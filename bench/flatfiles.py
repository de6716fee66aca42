"""Sessions of 500 symbols out of 10,000, by Massive's flat files and by calls.

``python -m bench.flatfiles`` makes a market of that size, serves it both ways from a process of its
own, loads it twice, each time into a fresh database, and prints what each took. A file's size, and
how many minutes a symbol trades in, are the market's own: the busy symbols are those loaded.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import msgspec
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS
from backfill.simulator.market.sessions import Sessions, sessions_of
from bench.measure import run_measured
from bench.postgres import Server

_HEADER: Final = "ticker,volume,open,close,high,low,window_start,transactions"
_LAST: Final = date(2025, 11, 28)
_BUSY, _QUIET = 520, 105
"""In how many minutes of a session a symbol trades in the mean: one that is loaded, another."""
_MINUTES: Final = 960
_PAGE: Final = 50_000
_STAMP: Final = 5
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Market:
    """So many symbols, every so many-th of which is busy, over so many sessions up to a day."""

    symbols: int
    every: int
    sessions: int

    @property
    def tickers(self) -> list[str]:
        """All symbols, in order."""
        letters = [chr(ord("A") + at) for at in range(26)]
        return [f"{one}{two}{three}" for one in letters for two in letters for three in letters][
            : self.symbols
        ]

    @property
    def busy(self) -> list[str]:
        """The symbols that are loaded."""
        return self.tickers[:: self.every]

    def days(self, sessions: Sessions) -> list[tuple[date, int]]:
        """Return the sessions and the midnights that they begin after, oldest first."""
        ordinals = sessions.ordinals
        last = int(np.searchsorted(ordinals, _LAST.toordinal(), side="right"))
        rows = range(last - self.sessions, last)
        return [(date.fromordinal(int(ordinals[at])), int(sessions.midnight_ms[at])) for at in rows]


def _bars(ticker: int, midnight_ms: int, minutes: int) -> list[NDArray[Any]]:
    """Return the minutes of a symbol in a session, so many in the mean.

    The columns are a file's: volume, open, close, high, low, stamp, count.
    """
    random = np.random.default_rng([7, ticker, midnight_ms // MINUTE_MS])
    traded = int(np.clip(random.exponential(minutes), 1, _MINUTES))
    at = np.sort(random.choice(_MINUTES, traded, replace=False))
    stamps = midnight_ms + 4 * HOUR_MS + at * MINUTE_MS
    close = np.round(20 + ticker % 400 + random.normal(0, 0.02, traded).cumsum(), 4)
    opened = np.round(close + random.normal(0, 0.02, traded), 4)
    high = np.round(np.maximum(opened, close) + 0.01, 4)
    low = np.round(np.minimum(opened, close) - 0.01, 4)
    volume = random.integers(1, 60_000, traded)
    return [volume, opened, close, high, low, stamps, random.integers(1, 400, traded)]


def _write_file(market: Market, folder: Path, day: date, midnight_ms: int) -> None:
    """Write the file of a session."""
    lines = [_HEADER]
    for number, ticker in enumerate(market.tickers):
        is_quiet = number % market.every
        columns = (
            one.tolist() for one in _bars(number, midnight_ms, _QUIET if is_quiet else _BUSY)
        )
        lines += [
            f"{ticker},{v},{o},{c},{h},{low},{t}000000,{n}"
            for v, o, c, h, low, t, n in zip(*columns, strict=True)
        ]
    packed = gzip.compress("\n".join([*lines, ""]).encode(), 6)
    (folder / f"{day}.csv.gz").write_bytes(packed)


class _Files:
    """What a market is served from: a file a session, and the pages of the busy symbols."""

    def __init__(self, market: Market, folder: Path) -> None:
        self.folder = folder
        self.sent = self.calls = 0
        self._numbers = {ticker: at * market.every for at, ticker in enumerate(market.busy)}
        self._days = market.days(sessions_of("stocks"))
        with ProcessPoolExecutor() as pool:
            written = [pool.submit(_write_file, market, folder, *day) for day in self._days]
            for one in written:
                one.result()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a file, a page, or for what was sent so far."""
        path = request.path
        if path == "/sent":
            said = web.json_response({"bytes": self.sent, "calls": self.calls})
            self.sent = self.calls = 0
            return said
        self.calls += 1
        if path.startswith("/flatfiles/"):
            data = (self.folder / path.rpartition("/")[2]).read_bytes()
            self.sent += len(data)
            return web.Response(body=data, headers={"ETag": f'"{path[-17:-7]}"'})
        if "/reference/tickers/" in path:  # what is known of a symbol, and what became of it
            ticker = path.split("/")[4]
            return web.json_response({"status": "OK", "results": {"ticker": ticker, "events": []}})
        if not path.startswith("/v2/aggs/ticker/"):
            return web.json_response({"status": "OK", "results": []})
        data = self._page(path, str(request.url.origin()))
        self.sent += len(data)
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=data, headers=headers)

    def _page(self, path: str, url: str) -> bytes:
        """Return the newest bars of a range, newest first: they are made again as in the files."""
        *_, ticker, _, _, _, first, last = path.split("/")
        first_ms, last_ms = int(first), int(last)
        found, held = list[list[NDArray[Any]]](), 0
        for _, midnight_ms in reversed(self._days):
            if first_ms - DAY_MS < midnight_ms <= last_ms and held < _PAGE:
                columns = _bars(self._numbers[ticker], midnight_ms, _BUSY)
                asked = (columns[_STAMP] >= first_ms) & (columns[_STAMP] <= last_ms)
                found.append([one[asked][::-1] for one in columns])
                held += int(asked.sum())
        columns = [np.concatenate(one)[:_PAGE].tolist() for one in zip(*found, strict=True)]
        results = [
            {"v": v, "vw": (o + c) / 2, "o": o, "c": c, "h": h, "l": low, "t": t, "n": n}
            for v, o, c, h, low, t, n in zip(*columns, strict=True)
        ]
        body = {
            "ticker": ticker, "queryCount": len(results), "resultsCount": len(results),
            "adjusted": False, "status": "OK", "results": results, "request_id": ticker,
        }  # fmt: skip
        if held > _PAGE:
            body["next_url"] = f"{url}{path.removesuffix(last)}{results[-1]['t'] - 1}"
        return gzip.compress(msgspec.json.encode(body), 1)


def _serve(market: Market) -> None:
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        files = _Files(market, Path(folder))
        app = web.Application()
        app.router.add_get("/{path:.*}", files.handle)
        web.run_app(app, host="127.0.0.1", port=0, print=lambda text: print(text, flush=True))


@contextmanager
def _served(market: Market) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.flatfiles", "--serve", *_options(market)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(line for line in process.stdout if "http://" in line).split()[-2]
    finally:
        process.terminate()
        process.communicate()


def _options(market: Market) -> list[str]:
    named = {
        "symbols": market.symbols, "every": market.every, "sessions": market.sessions
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in named.items()]


def _measure(market: Market) -> None:
    days = market.days(sessions_of("stocks"))
    now = datetime.combine(_LAST + timedelta(days=4), datetime.min.time(), UTC)
    with _served(market) as url, Server.start() as server:
        server.prepare([])
        rows = set()
        for use in ("always", "never"):
            with server.fresh() as database:
                environment = {
                    "DATABASE_URL": database.url, "MASSIVE_API_KEY": "bench-key",
                    "MASSIVE_S3_ACCESS_KEY_ID": "bench-id", "MASSIVE_S3_SECRET_ACCESS_KEY": "none",
                    "MASSIVE_FLATFILES_URL": url, "MASSIVE_URL": url, "MASSIVE_PLAN": "unlimited",
                }  # fmt: skip
                json.load(urlopen(f"{url}/sent"))
                ended = run_measured(
                    [
                        *(sys.executable, "-m", "backfill", "run"),
                        *("--symbols", ",".join(market.busy), "--timeframe", "m1"),
                        *("--from", str(days[0][0]), "--to", str(days[-1][0])),
                        *("--as-of", now.isoformat(), "--archive", use, "--json"),
                    ],
                    environment,
                    server.postmaster,
                )
                sent = json.load(urlopen(f"{url}/sent"))
                summary = json.loads(ended.out)
                own_s, postgres_s = ended.cpu
                rows.add(
                    database.value(
                        "SELECT sum(hashtextextended(ROW(s.ticker, b.timeframe, b.ts, b.open, "
                        "b.high, b.low, b.close, b.volume, b.trade_count)::text, 0)) "
                        "FROM ohlc_bars AS b JOIN symbols AS s ON s.id = b.symbol_id"
                    )
                )
                print(
                    f"--archive {use}: {summary['bars']['inserted']:,} bars by "
                    f"{summary['calls']} requests and {sent['bytes'] / _MEGABYTE:.1f} MB in "
                    f"{ended.seconds:.1f} s, {own_s:.1f} s of CPU and {postgres_s:.1f} s of "
                    f"Postgres', {ended.peak_bytes / _MEGABYTE:.0f} MB of memory",
                    flush=True,
                )
        print("the rows are identical but for the vwap" if len(rows) == 1 else "THE ROWS DIFFER")


def main() -> None:
    """Measure, or serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=252, help="252 are a year")
    parser.add_argument("--serve", action="store_true")
    asked = parser.parse_args()
    market = Market(asked.symbols, asked.every, asked.sessions)
    (_serve if asked.serve else _measure)(market)


if __name__ == "__main__":
    main()
