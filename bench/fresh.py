"""A first load and a reload by this build, by another, and by one connection that only copies.

``python -m bench fresh --beside ../older`` has them load the same bars, turn by turn.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.build import Build, builds_with
from bench.contestants import LIMIT, Arena, Timed
from bench.page import publish
from bench.postgres import Server
from bench.results import Phase, Spread
from bench.server import Provider
from bench.workload import bars_in, workload

_SERIES: Final = 4
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load: who, into an empty table or once more, and what it took."""

    who: str
    phase: Phase
    timed: Timed


def measure(
    beside: Path | None, bars: int, rounds: int, say: Callable[[str], None]
) -> list[Loaded]:
    """Run every load."""
    return list(_measured(builds_with(beside), bars, rounds, say))


def _measured(
    builds: Sequence[Build], bars: int, rounds: int, say: Callable[[str], None]
) -> Iterator[Loaded]:
    some = workload(bars, _SERIES)
    with (
        tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder,
        Provider.start() as provider,
        Server.start() as server,
    ):
        provider.prepare(some)
        for each in builds:
            server.prepare([load.ticker for load in some], each)
        rows = Path(folder) / "rows.copy"
        with server.fresh() as database:
            Arena(provider, database, server.postmaster).load(some)
            expected = database.digest(None)
            database.export(rows)
        if expected.rows != bars_in(some):
            raise RuntimeError(f"the table holds {expected.rows:,} bars")
        turn: list[Build | None] = [*builds, None]
        for number in range(rounds):
            for who in turn[number % len(turn) :] + turn[: number % len(turn)]:
                with server.fresh(who or builds[-1]) as database:
                    arena = Arena(provider, database, server.postmaster, who or builds[-1])
                    phases: list[Phase] = ["fresh", "again"] if who else ["fresh"]
                    for phase in phases:
                        database.settle()
                        if who is None:
                            timed = arena.let(LIMIT, some, str(rows))
                        else:
                            timed = arena.load(some, *(["--reload"] if phase == "again" else []))
                        name = who.name if who else LIMIT.title
                        if database.digest(None) != expected:
                            raise RuntimeError(f"{name} ended with other rows")
                        say(f"{name}, {phase}: {timed.bars / timed.seconds:,.0f} bars/s")
                        yield Loaded(name, phase, timed)


def write(loads: Sequence[Loaded], document: Path) -> str:
    """Keep every measurement, write the table into a page between its marks, and return it."""
    return publish("fresh", loads, "\n".join(_lines(loads)), document)


def _lines(loads: Sequence[Loaded]) -> Iterator[str]:
    """Yield a row for each who and phase: medians, speed as a share of the limit's too."""
    limit = _median(loads, LIMIT.title, "fresh", lambda one: one.bars / one.seconds)
    yield "| who | load | bars/s | of the limit | CPU µs a bar | Postgres | peak MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for who, phase in dict.fromkeys((one.who, one.phase) for one in loads):
        speed = _median(loads, who, phase, lambda one: one.bars / one.seconds)
        run = _median(loads, who, phase, lambda one: 1e6 * one.cpu_s / one.bars)
        postgres = _median(loads, who, phase, lambda one: 1e6 * one.postgres_cpu_s / one.bars)
        peak = _median(loads, who, phase, lambda one: one.peak_bytes / _MEGABYTE)
        yield (
            f"| {who} | {phase} | {speed:,.0f} | {speed / limit:.2f} "
            f"| {run:.2f} | {postgres:.2f} | {peak:,.0f} |"
        )


def _median(
    loads: Sequence[Loaded], who: str, phase: Phase, value: Callable[[Timed], float]
) -> float:
    mine = (one.timed for one in loads if (one.who, one.phase) == (who, phase))
    return Spread.of(value(one) for one in mine).median
