"""What leaves the tables: ``python -m bench.serving [BARS]`` fills one, exports it, and serves it.

All figures are of one run, the compared ones taken in turn; a table goes into docs/performance.md.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from aiohttp import ClientSession, TCPConnector

from bench.filled import filling
from bench.measure import Ended, clean_environment, run_measured
from bench.page import fill_between
from bench.postgres import Database, Server
from bench.server import Provider
from bench.workload import NOW, settings_for, workload

_SERIES: Final = 20
_ROUNDS: Final = 5
_AT_ONCE: Final = 200
_QUOTA: Final = "5/1s"
_CALLS: Final = 60
_MEGABYTE: Final = 1_000_000
_BEGIN: Final = "<!-- serving: written by `python -m bench.serving` -->"
_END: Final = "<!-- end of serving -->"
_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    value: str


def measure(bars: int) -> list[Row]:
    """Measure all."""
    with Provider.start() as provider, Server.start() as server:
        database = server.named("serving")
        environment = settings_for(database.url, provider.url)
        run = [sys.executable, "-m", "backfill"]
        run_measured([*run, "migrate"], environment, server.postmaster)
        each = bars // _SERIES
        database.execute(filling(_SERIES, each), "VACUUM ANALYZE", "CHECKPOINT")
        _say(f"{bars:,} bars")
        found = list(_exports(environment, server, bars))
        with _served(environment) as (url, process):
            found += _beside_copy(database, url, each)
            found += _under_load(environment, provider, server, url)
            found.append(Row("memory of the server at its most", _peak(process)))
    return found


def _exports(environment: dict[str, str], server: Server, bars: int) -> Iterator[Row]:
    def export(folder: str, *symbols: str) -> Ended:
        command = [sys.executable, "-m", "backfill", "export", *symbols, "--out", folder, "--json"]
        return run_measured(command, environment, server.postmaster)

    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        for name, symbols in (("a twentieth", ("X:L10USD",)), ("all", ())):
            ended = export(f"{folder}/{len(symbols)}", *symbols)
            told = json.loads(ended.out)
            yield Row(
                f"export of {told['bars']:,} bars ({name}) as Parquet",
                f"{ended.seconds:.1f} s, {told['bars'] / ended.seconds / 1000:,.0f} k bars/s, "
                f"{ended.peak_bytes / _MEGABYTE:.0f} MB of memory",
            )
            _say(f"export of {told['bars']:,}: {ended.seconds:.1f} s")
        size = sum(path.stat().st_size for path in Path(f"{folder}/0").rglob("*.parquet"))
        again = export(f"{folder}/0")
        assert json.loads(again.out)["written"] == 0
        yield Row("the same again, nothing changed", f"{again.seconds:.1f} s")
        yield Row("size of the files", f"{size / bars:.1f} bytes a bar")


@contextmanager
def _served(environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "backfill", "serve", "--port", "0"],
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0].rstrip("/"), process
    finally:
        process.terminate()
        process.wait()


def _beside_copy(database: Database, url: str, bars: int) -> list[Row]:
    """Read a series as Arrow, and the same rows by a binary COPY, in turn."""

    async def copied() -> float:
        connection = await asyncpg.connect(database.url)
        began_s = time.monotonic()
        await connection.copy_from_query(
            "SELECT ts, open, high, low, close, volume, vwap, trade_count FROM ohlc_bars AS b"
            " JOIN symbols AS s ON s.id = b.symbol_id"
            " WHERE s.ticker = 'X:L10USD' AND timeframe = 'm1' ORDER BY ts",
            output=_drop,
            format="binary",
        )
        taken_s = time.monotonic() - began_s
        await connection.close()
        return taken_s

    async def streamed() -> float:
        async with ClientSession(headers={"Accept-Encoding": "identity"}) as client:
            began_s = time.monotonic()
            async with client.get(f"{url}/bars?symbol=X:L10USD&timeframe=m1") as answer:
                async for _ in answer.content.iter_any():
                    pass
            assert answer.status == 200
            return time.monotonic() - began_s

    async def both() -> list[tuple[float, float]]:
        await streamed()
        return [(await copied(), await streamed()) for _ in range(_ROUNDS)]

    taken = asyncio.run(both())
    copy_s, arrow_s = (statistics.median(one) for one in zip(*taken, strict=True))
    _say(f"copy {copy_s:.2f} s, arrow {arrow_s:.2f} s")
    return [
        Row(f"binary COPY of a series of {bars:,} bars", f"{copy_s:.2f} s"),
        Row("/bars?format=arrow of it", f"{arrow_s:.2f} s, {arrow_s / copy_s:.2f} of that"),
    ]


async def _drop(_data: bytes) -> None:
    """Take what was read, and forget it."""


def _under_load(
    environment: dict[str, str], provider: Provider, server: Server, url: str
) -> list[Row]:
    """Run under a quota, alone and while 200 requests are under way at any time."""
    loads = workload(_CALLS * 1_000, _CALLS)
    provider.prepare(loads)
    command = [
        sys.executable, "-m", "backfill", "run", "--symbols", ",".join(one.ticker for one in loads),
        "-t", "m1", "--from", loads[0].start.isoformat(), "--to", loads[0].end.isoformat(),
        "--as-of", NOW.isoformat(), "--reload", "--json",
    ]  # fmt: skip

    def run(quota: str) -> float:
        paced = environment | {"BACKFILL_QUOTA": quota}
        ended = run_measured(command, paced, server.postmaster, codes=(0,))
        return float(json.loads(ended.out)["duration_s"])

    rows = []
    run("unlimited")
    for name, quota in (
        (f"paced by a quota of {_QUOTA}", _QUOTA),
        ("without a quota", "unlimited"),
    ):
        alone_s = run(quota)
        busy_s, taken_s, errors = asyncio.run(_beside(url, quota, run))
        rows += [
            Row(
                f"a run of {_CALLS} calls {name}: alone, and beside {_AT_ONCE} requests at once",
                f"{alone_s:.1f} s, {busy_s:.1f} s: {alone_s / busy_s:.2f} of its pace",
            ),
            Row(
                f"{len(taken_s):,} answers of 500 bars meanwhile",
                f"{errors} errors; half within {statistics.median(taken_s):.2f} s, all within "
                f"{max(taken_s):.2f} s",
            ),
        ]
        _say(f"{name}: {alone_s:.1f} s alone, {busy_s:.1f} s, {len(taken_s)} answers")
    return rows


async def _beside(
    url: str, quota: str, run: Callable[[str], float]
) -> tuple[float, list[float], int]:
    """Run while somebody always asks; return how long it took, and each answer."""
    taken_s: list[float] = []
    errors = 0
    running = asyncio.create_task(asyncio.to_thread(run, quota))

    async def ask(client: ClientSession, number: int) -> None:
        nonlocal errors
        while not running.done():
            began_s = time.monotonic()
            ticker = f"X:L{10 + number % _SERIES}USD"
            async with client.get(f"{url}/chart?symbol={ticker}&timeframe=m1") as answer:
                found = await answer.json()
                errors += answer.status != 200 or len(found["bars"]) != 500
            taken_s.append(time.monotonic() - began_s)

    async with ClientSession(connector=TCPConnector(limit=0)) as client:
        await asyncio.gather(*(ask(client, number) for number in range(_AT_ONCE)))
    return await running, taken_s, errors


def _peak(process: "subprocess.Popen[str]") -> str:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return f"{int(found[1]) * 1024 / _MEGABYTE:.0f} MB"


def _table(rows: Sequence[Row]) -> str:
    lines = [("what", "figure"), ("---", "---"), *((one.what, one.value) for one in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    TABLE = _table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000))
    fill_between(_DOCUMENT, _BEGIN, _END, TABLE)
    print(TABLE)
