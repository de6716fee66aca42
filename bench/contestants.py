"""Who loads the bars, and one timed run of each."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bench.build import HERE, Build
from bench.measure import Ended, run_measured
from bench.peers import dlt_merge
from bench.peers.job import Done, Job
from bench.postgres import BARS, Database
from bench.server import Calls, Provider
from bench.workload import NOW, Load, bars_in, settings_for


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who loads bars from the provider into the table.

    ``part`` is the share of the bars that it gets: one in so many. ``schema`` holds its table of
    bars, and ``bars`` is the query that reads them.
    """

    name: str
    title: str
    module: str
    part: int = 1
    schema: str = "public"
    bars: str = BARS


OURS: Final = Contestant("backfill", "backfill run", "backfill")
LIMIT: Final = Contestant("limit", "binary COPY from memory, one connection", "bench.limit")
PEERS: Final = (
    Contestant(
        "massive_executemany",
        "massive client + asyncpg executemany upsert",
        "bench.peers.massive_executemany",
        part=5,
    ),
    Contestant(
        "massive_copy", "massive client + asyncpg COPY and merge", "bench.peers.massive_copy"
    ),
    Contestant(
        "dlt_merge",
        "dlt REST source, merge into Postgres",
        "bench.peers.dlt_merge",
        part=20,
        schema=dlt_merge.DATASET,
        bars=dlt_merge.BARS,
    ),
    Contestant("polars_adbc", "polars + ADBC ingest and merge", "bench.peers.polars_adbc"),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of a contestant.

    ``seconds``, ``cpu_s`` and ``postgres_cpu_s`` are from the first request to the last commit;
    ``startup_s`` is what came before, ``process_s`` the whole process.
    """

    bars: int
    calls: int
    seconds: float
    startup_s: float
    process_s: float
    cpu_s: float
    postgres_cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Where a run takes place: the provider, the database, and the process of its server."""

    provider: Provider
    database: Database
    postmaster: int
    build: Build = HERE

    def load(self, loads: Sequence[Load], *options: str) -> Timed:
        """Let the real command load bars; ``options`` are added to its line."""
        self.provider.reset()
        ended = self.command(
            "run",
            "--symbols",
            ",".join(load.ticker for load in loads),
            "--timeframe",
            "m1",
            "--from",
            min(load.start for load in loads).isoformat(),
            "--to",
            max(load.end for load in loads).isoformat(),
            "--as-of",
            NOW.isoformat(),
            "--json",
            *options,
        )
        return self._timed(loads, ended, Done(finished_at(ended)))

    def let(self, peer: Contestant, loads: Sequence[Load], *arguments: str) -> Timed:
        """Let another contestant load bars."""
        self.provider.reset()
        job = Job(self.database.url, self.provider.url, tuple(loads))
        command = [sys.executable, "-m", peer.module, *arguments]
        ended = run_measured(command, job.as_environment(), self.postmaster)
        return self._timed(loads, ended, Done(**json.loads(ended.out.splitlines()[-1])))

    def command(self, *arguments: str) -> Ended:
        """Run the real command on this provider and database."""
        return self.python(OURS.module, *arguments)

    def lags(self, loads: Sequence[Load]) -> list[float]:
        """Let the library load bars, and return how late its event loop was at each tick.

        In seconds, the least first, from the first request on.
        """
        self.provider.reset()
        ended = self.python(
            "bench.lag",
            ",".join(load.ticker for load in loads),
            min(load.start for load in loads).isoformat(),
            max(load.end for load in loads).isoformat(),
        )
        ticks = json.loads(ended.out.splitlines()[-1])
        first_at = self.provider.calls().first_at or 0.0
        return sorted(lag for at, lag in ticks if at >= first_at)

    def python(self, module: str, *arguments: str) -> Ended:
        """Run a module that reads the command's settings."""
        return run_measured(
            [str(self.build.python), "-m", module, *arguments],
            settings_for(self.database.url, self.provider.url),
            self.postmaster,
            folder=self.build.folder,
        )

    def _timed(self, loads: Sequence[Load], ended: Ended, done: Done) -> Timed:
        calls = self.provider.calls()
        began_at = _began_at(calls, done)
        cpu_s, postgres_cpu_s = ended.cpu_between(began_at, done.finished_at)
        return Timed(
            bars=bars_in(tuple(loads)),
            calls=calls.calls,
            seconds=done.finished_at - began_at,
            startup_s=began_at - ended.began_at,
            process_s=ended.seconds,
            cpu_s=cpu_s,
            postgres_cpu_s=postgres_cpu_s,
            peak_bytes=ended.peak_bytes,
        )


def _began_at(calls: Calls, done: Done) -> float:
    """Return when the clock starts, having seen that every answer was ready before."""
    if calls.late:
        raise RuntimeError(f"{calls.late} answers were not prepared: their time would count")
    began_at = done.began_at or calls.first_at
    if began_at is None:
        raise RuntimeError("the provider was not asked for anything")
    return began_at


def finished_at(ended: Ended) -> float:
    """Return when the command closed its run, which it does after the last commit of bars."""
    for line in reversed(ended.err.splitlines()):
        if line.startswith("{"):
            event = json.loads(line)
            if event.get("event") == "run.finished":
                return datetime.fromisoformat(event["timestamp"]).timestamp()
    raise RuntimeError(f"the run told no end:\n{ended.err[-3000:]}")
