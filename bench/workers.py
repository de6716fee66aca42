"""Workers beside each other: ``python -m bench.workers [JOBS]``, in some minutes.

Each job is a page of 50,000 minutes, answered 50 ms late, under no quota. One run loads them all,
then one worker, two and four do; then a worker is given jobs of an hour each, and jobs that do
nothing, to tell what a job and what the queue costs. Prints a table.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

import structlog

from backfill.core.timeframe import Timeframe
from backfill.fetch.stop import StopSignal
from backfill.run.outcomes import Outcomes, Summary
from backfill.settings import Secret, Settings
from backfill.workers import worker
from backfill.workers.duties import Duties
from bench.measure import Tree, clean_environment, run_measured, tree_of
from bench.postgres import Database, Digest, Server
from bench.server import Provider
from bench.workload import NOW, PAGE_LIMIT, Load, settings_for, workload

_JOBS: Final = 64
_SMALL_JOBS: Final = 300
_SMALL: Final = 60
_LATE_S: Final = 0.05
_WORKERS: Final = (1, 2, 4)
_COMMAND: Final = (sys.executable, "-m", "backfill")
_WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Took:
    """What some jobs took: seconds, and those of processors, of Postgres and of who worked."""

    jobs: int
    seconds: float
    postgres_s: float
    workers_s: float
    digest: Digest

    @property
    def each_s(self) -> float:
        """The processor's seconds of a job, Postgres' included."""
        return (self.postgres_s + self.workers_s) / self.jobs


class Bench:
    """A provider and a server, and what is measured with them."""

    def __init__(self, provider: Provider, server: Server) -> None:
        self._provider = provider
        self._server = server
        self._postgres = tree_of(server.postmaster)

    def one_run(self, loads: Sequence[Load]) -> Took:
        """Load all by one run of the command."""
        with self._server.fresh() as database:
            command = [*_COMMAND, "run", *_asked(loads), "--json"]
            ended = run_measured(command, self._environment(database), self._server.postmaster)
            seconds = float(json.loads(ended.out)["duration_s"])
            process_s, postgres_s = ended.cpu_between(ended.ended_at - seconds, ended.ended_at)
            return Took(len(loads), seconds, postgres_s, process_s, database.digest(None))

    def worked(self, loads: Sequence[Load], workers: int) -> Took:
        """Have all loaded by so many workers, which wait for the jobs."""
        with (
            self._server.fresh() as database,
            tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder,
        ):
            logs = [Path(folder) / f"{number}.log" for number in range(workers)]
            going = [self._start(log, database) for log in logs]
            try:
                _until(lambda: all(_said(log, "worker.started") for log in logs))
                trees = [tree_of(process.pid) for process in going]
                before_s = self._used(trees)
                self._enqueue(database, loads)
                _until(lambda: sum(len(_said(log, "job.done")) for log in logs) == len(loads))
                postgres_s, workers_s = (
                    now - then for now, then in zip(self._used(trees), before_s, strict=True)
                )
            finally:
                for process in going:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
            began = min(at for log in logs for at in _said(log, "job.started"))
            ended = max(at for log in logs for at in _said(log, "job.done"))
            digest = database.digest(None)
            return Took(len(loads), (ended - began).total_seconds(), postgres_s, workers_s, digest)

    def queue_alone(self, loads: Sequence[Load]) -> Took:
        """Have as many jobs worked off by a worker to whom each is done already."""
        with self._server.fresh() as database:
            self._enqueue(database, loads)
            settings = Settings(database_url=Secret(database.url))
            duties = Duties(("massive",), drain=True)
            before_s = self._used([]), time.process_time(), time.perf_counter()
            with patch.object(worker, "run_fetch", _nothing):
                done = asyncio.run(worker.work(settings, duties, stop=StopSignal())).done
            if done != len(loads):
                raise RuntimeError(f"{done} of {len(loads)} jobs were done")
            return Took(
                done,
                time.perf_counter() - before_s[2],
                self._used([])[0] - before_s[0][0],
                time.process_time() - before_s[1],
                database.digest(None),
            )

    def _start(self, log: Path, database: Database) -> subprocess.Popen[bytes]:
        with log.open("wb") as told:
            return subprocess.Popen(
                [*_COMMAND, "worker", "--provider", "massive"],
                env=clean_environment() | self._environment(database),
                stdout=subprocess.DEVNULL,
                stderr=told,
            )

    def _enqueue(self, database: Database, loads: Sequence[Load]) -> None:
        command = [*_COMMAND, "enqueue", *_asked(loads)]
        run_measured(command, self._environment(database), self._server.postmaster)

    def _environment(self, database: Database) -> dict[str, str]:
        return settings_for(database.url, self._provider.url)

    def _used(self, trees: Sequence[Tree]) -> tuple[float, float]:
        return self._postgres.cpu_s(), sum(tree.cpu_s() for tree in trees)


async def _nothing(*_: object) -> Summary:
    """Say what a run says that found nothing due."""
    return Outcomes(()).summary(uuid4(), "default", {}, 0.0, told=str)


def _asked(loads: Sequence[Load]) -> list[str]:
    first = loads[0]
    return [
        *("--symbols", ",".join(load.ticker for load in loads), "-t", str(Timeframe.m1)),
        *("--from", first.start.isoformat(), "--to", first.end.isoformat()),
        *("--as-of", NOW.isoformat()),
    ]


def _said(log: Path, event: str) -> list[datetime]:
    """Return when a worker said something."""
    lines = log.read_text().splitlines()
    events: Iterator[dict[str, Any]] = (json.loads(line) for line in lines if line[-1:] == "}")
    return [datetime.fromisoformat(one["timestamp"]) for one in events if one["event"] == event]


def _until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until_s = time.monotonic() + _WAIT_S
    while not holds():
        if time.monotonic() > until_s:
            raise RuntimeError(f"it never came to hold within {_WAIT_S:.0f} s")
        time.sleep(0.1)


def _row(name: str, took: Took, one_s: float, bars: int) -> str:
    cores = f"{took.postgres_s / took.seconds:.2f} | {took.workers_s / took.seconds:.2f}"
    pace = f"{bars / took.seconds / 1000:,.0f}"
    return f"| {name} | {took.seconds:.1f} | {pace} | {one_s / took.seconds:.2f} | {cores} |"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(jobs: int) -> Iterator[str]:
    """Yield the lines of the table, and what else there is to say."""
    loads = workload(jobs * PAGE_LIMIT, jobs)
    small = workload(_SMALL_JOBS * _SMALL, _SMALL_JOBS)
    with Provider.start(late_s=_LATE_S) as provider, Server.start() as server:
        server.prepare([])
        bench = Bench(provider, server)
        provider.prepare(loads)
        _say(f"{jobs} jobs of {PAGE_LIMIT:,} bars; {os.cpu_count()} cores")
        alone = bench.one_run(loads)
        took = {}
        for number in _WORKERS:
            took[number] = bench.worked(loads, number)
            _say(f"{number} workers: {took[number].seconds:.1f} s")
        if {one.digest for one in took.values()} != {alone.digest}:
            raise RuntimeError("workers made another table than one run")
        provider.prepare(small)
        little = bench.worked(small, 1)
        idle = bench.queue_alone(small)
    one = took[1]
    yield "| who | seconds | k bars/s | times one worker | cores: Postgres | cores: workers |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield _row("one run", alone, one.seconds, jobs * PAGE_LIMIT)
    for number, each in took.items():
        name = f"{number} worker{'s' if number > 1 else ''}"
        yield _row(name, each, one.seconds, jobs * PAGE_LIMIT)
    yield ""
    page_s = one.each_s
    yield f"A job of one page: {page_s * 1000:.0f} ms of processor, Postgres' included."
    yield (
        f"A job of {_SMALL} bars: {little.each_s * 1000:.1f} ms of processor "
        f"({little.workers_s / little.jobs * 1000:.1f} of the worker), "
        f"{little.jobs / little.seconds:.0f} jobs a second."
    )
    yield (
        f"The queue's part of a job: {idle.each_s * 1000:.1f} ms of processor "
        f"({idle.workers_s / idle.jobs * 1000:.1f} of the worker), {idle.each_s / page_s:.1%} of a "
        f"job of one page."
    )


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for LINE in measure(int(sys.argv[1]) if len(sys.argv) > 1 else _JOBS):
        print(LINE)
