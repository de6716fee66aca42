"""Binance of the benchmark, in a process of its own: whole months of minutes as files, and by call.

``python -m bench.archive_server PAIRS MONTHS`` makes the files, prints its address, and serves them
from memory until it is terminated. Answers to calls are cut from the same rows when they are asked
for. `Exchange` starts it and speaks to it.
"""

import asyncio
import gzip
import hashlib
import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Final, Self
from urllib.request import Request, urlopen

import msgspec
from aiohttp import web

from backfill.simulator import Market
from backfill.simulator.wire.base import Ask, epoch_ms
from backfill.simulator.wire.binance.files import Archived, archived
from bench.workload import NOW

UNTIL: Final = datetime(2026, 3, 1, tzinfo=UTC)
"""Where every pair ends: all of it is in files by the benchmark's clock."""
_DRAWN: Final = "BTCUSDT"


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent since it was last asked; ``first_at`` is in seconds of the epoch."""

    calls: int = 0
    bytes: int = 0
    first_at: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The running provider."""

    url: str

    def sent(self) -> Sent:
        """Return what was sent since the last look, and count anew."""
        with urlopen(Request(f"{self.url}/_bench/sent", b"", method="POST")) as answer:
            return Sent(**json.load(answer))

    @classmethod
    @contextmanager
    def start(cls, pairs: int, months: int) -> Iterator[Self]:
        """Run it in a process of its own."""
        command = [sys.executable, "-m", "bench.archive_server", str(pairs), str(months)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield cls(process.stdout.readline().strip())
        finally:
            process.terminate()
            process.communicate()


def pairs_named(pairs: int) -> list[str]:
    """Return the pairs that are served."""
    return [f"B{number:02}/USDT" for number in range(pairs)]


def months_before(end: datetime, months: int) -> list[datetime]:
    """Return the beginnings of so many months before an instant, the first of them first."""
    begins = []
    for back in range(months, 0, -1):
        nth = end.year * 12 + end.month - 1 - back
        begins.append(datetime(nth // 12, nth % 12 + 1, 1, tzinfo=UTC))
    return begins


class _Server:
    def __init__(self, pairs: int, months: int) -> None:
        self._sent = Sent()
        self._files: dict[str, bytes] = {}
        self._rows: list[bytes] = []
        self._stamps: list[int] = []
        market = Market()
        for begins in months_before(UNTIL, months):
            file = _drawn(market, begins)
            self._rows += map(msgspec.json.encode, file.rows)
            self._stamps += (row[0] for row in file.rows)
            for pair in pairs_named(pairs):
                symbol = pair.replace("/", "")
                named = replace(file, name=file.name.replace(_DRAWN, symbol))
                path = f"/data/spot/monthly/klines/{symbol}/1m/{named.name}.zip"
                digest = hashlib.sha256(named.data).hexdigest()
                self._files[path] = named.data
                self._files[f"{path}.CHECKSUM"] = f"{digest}  {named.name}.zip\n".encode()

    async def run(self) -> None:
        app = web.Application()
        app.router.add_post("/_bench/sent", self._tell)
        app.router.add_get("/api/v3/klines", self._klines)
        app.router.add_get("/{path:.*}", self._file)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    async def _tell(self, _: web.Request) -> web.Response:
        sent, self._sent = self._sent, Sent()
        return web.json_response(asdict(sent))

    async def _file(self, request: web.Request) -> web.Response:
        body = self._files.get(request.path)
        if body is None:
            return self._answer(b"", status=404)
        return self._answer(body, {"ETag": f'"{len(body)}"'})

    async def _klines(self, request: web.Request) -> web.Response:
        first, last = (int(request.query[name]) for name in ("startTime", "endTime"))
        start, end = bisect_left(self._stamps, first), bisect_left(self._stamps, last + 1)
        rows = self._rows[start : min(end, start + int(request.query["limit"]))]
        body = gzip.compress(b"[%s]" % b",".join(rows), 1)
        return self._answer(body, {"Content-Encoding": "gzip"})

    def _answer(
        self, body: bytes, headers: dict[str, str] | None = None, status: int = 200
    ) -> web.Response:
        seen = self._sent
        self._sent = Sent(seen.calls + 1, seen.bytes + len(body), seen.first_at or time.time())
        return web.Response(status=status, body=body, headers=headers)


def _drawn(market: Market, begins: datetime) -> Archived:
    path = f"/data/spot/monthly/klines/{_DRAWN}/1m/{_DRAWN}-1m-{begins:%Y-%m}.zip"
    file = archived(Ask(path, {}, market, epoch_ms(NOW), "unlimited", "", ""))
    assert isinstance(file, Archived)
    return file


if __name__ == "__main__":
    asyncio.run(_Server(*map(int, sys.argv[1:])).run())
