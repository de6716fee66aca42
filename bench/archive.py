"""Minutes of pairs out of an archive's files, beside the limit, and one pair's also by calls.

``python -m bench archive`` measures all in one run, turn by turn, and sees that all ended with the
same rows. Files are read with pyarrow and, in a process that can't import it, without.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.archive_server import UNTIL, Exchange, months_before, pairs_named
from bench.contestants import LIMIT, finished_at
from bench.measure import Ended, run_measured
from bench.page import publish
from bench.peers.job import Done, Job
from bench.postgres import Database, Digest, Server
from bench.results import Spread
from bench.workload import NOW

_MEGABYTE: Final = 1_000_000
_PLAIN: Final = "import sys, runpy; sys.modules['pyarrow'] = None; runpy.run_module('backfill', "
_WAYS: Final = {
    "files, with pyarrow": ("always", ["-m", "backfill"]),
    "files": ("always", ["-c", f"{_PLAIN}run_name='__main__')"]),
    "calls": ("never", ["-m", "backfill"]),
}


@dataclass(frozen=True, slots=True)
class Archive:
    """What is measured: some pairs side by side, and one pair alone, of as many bars in all."""

    pairs: int = 4
    months: int = 36
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Load:
    """One load: who, of how many pairs, and what it took from the first request to the end."""

    who: str
    pairs: int
    bars: int
    calls: int
    sent_bytes: int
    seconds: float
    cpu_s: float
    postgres_cpu_s: float
    peak_bytes: int


def measure(given: Archive, say: Callable[[str], None]) -> list[Load]:
    """Run every load."""
    return [
        load
        for pairs, months in ((1, given.months), (given.pairs, given.months // given.pairs))
        for load in _measured(pairs, months, given.rounds, say)
    ]


def _measured(pairs: int, months: int, rounds: int, say: Callable[[str], None]) -> Iterator[Load]:
    ways = [*list(_WAYS)[: 3 if pairs == 1 else 2], LIMIT.title]
    with (
        tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder,
        Exchange.start(pairs, months) as exchange,
        Server.start() as server,
    ):
        server.prepare(pairs_named(pairs))
        rows = Path(folder) / "rows.copy"
        with server.fresh() as database:
            _load(exchange, server, database, ways[0], pairs, months)
            expected = database.digest(None)
            database.export(rows)
        for number in range(rounds):
            for who in ways[number % len(ways) :] + ways[: number % len(ways)]:
                with server.fresh() as database:
                    if who == LIMIT.title:
                        load = _limit(server, database, rows, pairs, expected)
                    else:
                        load = _load(exchange, server, database, who, pairs, months)
                    if database.digest(None) != expected:
                        raise RuntimeError(f"{who} ended with other rows")
                say(f"{pairs} pairs, {who}: {load.bars / load.seconds:,.0f} bars/s")
                yield load


def _load(
    exchange: Exchange, server: Server, database: Database, who: str, pairs: int, months: int
) -> Load:
    use, program = _WAYS[who]
    environment = {
        "DATABASE_URL": database.url,
        "BACKFILL_PROVIDER": "binance",
        "BINANCE_URL": exchange.url,
        "BINANCE_ARCHIVE_URL": exchange.url,
        "BINANCE_PLAN": "unlimited",
        "BACKFILL_LOG": "json",
    }
    first = months_before(UNTIL, months)[0]
    command = [
        *(sys.executable, *program, "run", "--symbols", ",".join(pairs_named(pairs))),
        *("--timeframe", "m1", "--from", first.isoformat(), "--to", UNTIL.isoformat()),
        *("--as-of", NOW.isoformat(), "--archive", use, "--json"),
    ]
    exchange.sent()
    ended = run_measured(command, environment, server.postmaster)
    sent, summary = exchange.sent(), json.loads(ended.out)
    times = sent.first_at or 0.0, finished_at(ended)
    return _told(who, pairs, summary["bars"]["inserted"], (sent.calls, sent.bytes), ended, times)


def _limit(server: Server, database: Database, rows: Path, pairs: int, expected: Digest) -> Load:
    command = [sys.executable, "-m", LIMIT.module, str(rows)]
    environment = Job(database.url, "", ()).as_environment()
    ended = run_measured(command, environment, server.postmaster)
    done = Done(**json.loads(ended.out))
    times = done.began_at or 0.0, done.finished_at
    return _told(LIMIT.title, pairs, expected.rows, (0, 0), ended, times)


def _told(
    who: str,
    pairs: int,
    bars: int,
    sent: tuple[int, int],
    ended: Ended,
    times: tuple[float, float],
) -> Load:
    cpu_s, postgres_s = ended.cpu_between(*times)
    seconds = times[1] - times[0]
    return Load(who, pairs, bars, *sent, seconds, cpu_s, postgres_s, ended.peak_bytes)


def write(loads: Sequence[Load], document: Path) -> str:
    """Keep every measurement, write the table into a page between its marks, and return it."""
    return publish("archive", loads, _table(loads), document)


def _table(loads: Sequence[Load]) -> str:
    head = [
        "pairs",
        "bars",
        "who",
        "bars/s",
        "of the limit",
        "calls",
        "MB sent",
        "CPU s/M",
        "Postgres",
        "MB",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for pairs, who in dict.fromkeys((one.pairs, one.who) for one in loads):
        mine = [one for one in loads if (one.pairs, one.who) == (pairs, who)]
        limit = [one for one in loads if (one.pairs, one.who) == (pairs, LIMIT.title)]
        speed = Spread.of(one.bars / one.seconds for one in mine)
        share = speed.median / Spread.of(one.bars / one.seconds for one in limit).median
        cpu = Spread.of(one.cpu_s / one.bars * 1e6 for one in mine)
        postgres = Spread.of(one.postgres_cpu_s / one.bars * 1e6 for one in mine)
        peak = max(one.peak_bytes for one in mine) / _MEGABYTE
        lines.append(
            f"| {pairs} | {mine[0].bars:,} | {who} "
            f"| {speed.median:,.0f} ({speed.least:,.0f}–{speed.most:,.0f}) "
            f"| {share:.0%} | {mine[0].calls:,} | {mine[0].sent_bytes / _MEGABYTE:,.1f} "
            f"| {cpu.median:.2f} | {postgres.median:.2f} | {peak:.0f} |"
        )
    return "\n".join(lines)
