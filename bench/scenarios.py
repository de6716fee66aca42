"""The measurements: loads side by side, and what the command costs where it loads little."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contestants import LIMIT, OURS, PEERS, Arena, Contestant, Timed
from bench.link import far
from bench.measure import Ended
from bench.postgres import Database, Digest, Server
from bench.results import Figure, LoadRun, Phase, Scale
from bench.server import Provider
from bench.workload import NOW, Load, bars_in, probe, workload

_KEPT_TIMEFRAMES: Final = ("m1", "m15", "h1", "d1", "w1")
_PLANNED_TIMEFRAMES: Final = ("m1", "m5", "m15", "h1", "d1", "w1")
_FAR_MS: Final = (20, 60)
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Bench:
    """A run of the benchmark: its size, its provider, its server; ``say`` reports progress."""

    scale: Scale
    provider: Provider
    server: Server
    folder: Path
    say: Callable[[str], None]

    def arena(self, database: Database) -> Arena:
        """Return where a run on a database takes place."""
        return Arena(self.provider, database, self.server.postmaster)


def loads(bench: Bench) -> Iterator[LoadRun]:
    """Load the same bars with each contestant in turn, round by round, and see that they agree.

    A first load, that isn't counted, says what rows must come out, and gives the limit its own.
    """
    scale = bench.scale
    contestants = (OURS, LIMIT, *PEERS)
    work = {one.part: workload(scale.bars // one.part, scale.series) for one in contestants}
    bench.provider.prepare({load for part in work.values() for load in part})
    bench.server.prepare([load.ticker for load in work[1]])
    rows = bench.folder / "rows.copy"
    with bench.server.fresh() as database:
        bench.arena(database).load(work[1])
        expected = {part: database.digest(some) for part, some in work.items()}
        database.export(rows)
        _agree_on_count(database, bars_in(work[1]))
    for number in range(scale.rounds):
        turn = number % len(contestants)
        for contestant in contestants[turn:] + contestants[:turn]:
            some = work[contestant.part]
            phases: list[Phase] = ["fresh"]
            if contestant is OURS or (contestant is not LIMIT and not number):
                phases.append("again")
            with bench.server.fresh() as database:
                for phase in phases:
                    run = _load(bench, contestant, some, phase, number, database, rows)
                    _agree(expected[contestant.part], run.digest, contestant.title)
                    yield run


def deep_tables(bench: Bench) -> list[Figure]:
    """Load a small and a large history in one run, then more bars into the table of each."""
    scale = bench.scale
    extra = probe(scale.probe)
    tables = {bars: workload(bars, scale.series) for bars in (scale.shallow, scale.deep)}
    bench.provider.prepare({*extra, *(load for some in tables.values() for load in some)})
    bench.server.prepare([load.ticker for load in (*tables[scale.deep], *extra)])
    first: dict[int, list[Timed]] = {bars: [] for bars in tables}
    more: dict[int, list[Timed]] = {bars: [] for bars in tables}
    for number in range(scale.rounds):
        for bars, some in tables.items():
            with bench.server.fresh() as database:
                arena = bench.arena(database)
                first[bars].append(arena.load(some))
                database.settle()
                more[bars].append(arena.load(extra))
                _agree_on_count(database, bars + scale.probe)
            bench.say(f"round {number + 1}: {scale.probe:,} bars into a table of {bars:,}")
    return [
        figure
        for bars in tables
        for figure in (
            _figure(
                f"{bars:,} bars into an empty table",
                "peak memory",
                "MB",
                [timed.peak_bytes / _MEGABYTE for timed in first[bars]],
            ),
            _figure(
                f"{scale.probe:,} bars more into a table of {bars:,}",
                "first request to last commit",
                "µs/bar",
                [timed.seconds / timed.bars * 1e6 for timed in more[bars]],
            ),
            _figure(
                f"{scale.probe:,} bars more into a table of {bars:,}",
                "CPU of the run and of Postgres",
                "µs/bar",
                [(timed.cpu_s + timed.postgres_cpu_s) / timed.bars * 1e6 for timed in more[bars]],
            ),
        )
    ]


def far_database(bench: Bench) -> list[Figure]:
    """Load the small history into a database here and into one far away, turn by turn."""
    some = workload(bench.scale.shallow, bench.scale.series)
    bench.provider.prepare(set(some))
    bench.server.prepare([load.ticker for load in some])
    measured: dict[int, list[tuple[float, int]]] = {delay_ms: [] for delay_ms in (0, *_FAR_MS)}
    for number in range(bench.scale.rounds):
        for delay_ms, found in measured.items():
            with bench.server.fresh() as database, far(database.url, delay_ms / 1000) as link:
                timed = bench.arena(Database(link.url)).load(some)
                _agree_on_count(database, bars_in(some))
            found.append((timed.seconds, link.round_trips))
            bench.say(f"round {number + 1}: {delay_ms} ms away, {timed.seconds:.2f} s")
    figures = []
    for delay_ms, found in measured.items():
        scenario = f"{bars_in(some):,} bars into a database {delay_ms} ms away"
        seconds, trips = zip(*found, strict=True)
        figures += [
            _figure(scenario, "first request to last commit", "s", seconds),
            _figure(scenario, "round trips of the whole command", "", trips),
        ]
    return figures


def event_loop(bench: Bench) -> list[Figure]:
    """Load the small history with a look at how late the event loop is for what is due."""
    some = workload(bench.scale.shallow, bench.scale.series)
    bench.provider.prepare(set(some))
    bench.server.prepare([load.ticker for load in some])
    lags = []
    for _ in range(bench.scale.rounds):
        with bench.server.fresh() as database:
            lags.append(bench.arena(database).lags(some))
    scenario = f"{bench.scale.shallow:,} bars into an empty table"

    def late(what: str, share: float) -> Figure:
        found = [1000 * one[int((len(one) - 1) * share)] for one in lags]
        return _figure(scenario, f"event loop late, {what}", "ms", found)

    return [
        late("99 of 100 times less than", 0.99),
        late("999 of 1,000 times less than", 0.999),
        late("at most", 1),
    ]


def no_op_increment(bench: Bench) -> list[Figure]:
    """Keep many series, then run them again with nothing newly final."""
    symbols = [f"SIM{number:03}" for number in range(bench.scale.kept)]
    bench.server.prepare([])
    with bench.server.fresh() as database:
        arena = bench.arena(database)
        _watch(arena, symbols, _KEPT_TIMEFRAMES, since="10d")
        run = ("run", "--all", "--incremental", "--as-of", NOW.isoformat(), "--json")
        arena.command(*run)
        bench.say(f"first load of {len(symbols):,} symbols")
        ended = [arena.command(*run) for _ in range(bench.scale.rounds)]
    for one in ended:
        summary = json.loads(one.out)
        if summary["calls"] or summary["series"]["complete"] != len(symbols) * len(
            _KEPT_TIMEFRAMES
        ):
            raise RuntimeError(f"the increment was no no-op: {summary}")
    series = f"{len(symbols):,} symbols × {len(_KEPT_TIMEFRAMES)} timeframes"
    return _process_figures(f"increment of {series}, nothing new", ended)


def plan_from_nothing(bench: Bench) -> list[Figure]:
    """Plan twenty years of many symbols of which nothing is stored."""
    symbols = [f"PLAN{number}" for number in range(bench.scale.planned)]
    bench.server.prepare([])
    with bench.server.fresh() as database:
        arena = bench.arena(database)
        _watch(arena, symbols, _PLANNED_TIMEFRAMES, since="20y")
        run = ("run", "--all", "--dry-run", "--as-of", NOW.isoformat(), "--json")
        arena.command(*run)  # fills the calendar
        ended = [arena.command(*run) for _ in range(bench.scale.rounds)]
        alone = [arena.python("bench.planning") for _ in range(bench.scale.rounds)]
    for one in ended:
        if len(json.loads(one.out)["series"]) != len(symbols) * len(_PLANNED_TIMEFRAMES):
            raise RuntimeError("the plan lacks series")
    series = f"{len(symbols):,} symbols × {len(_PLANNED_TIMEFRAMES)} timeframes × 20 years"
    scenario = f"--dry-run of {series}"
    return [
        *_process_figures(scenario, ended),
        _figure(scenario, "planning alone", "s", [float(one.out) for one in alone]),
    ]


def help_text(bench: Bench) -> list[Figure]:
    """Ask the command what it can do."""
    with bench.server.fresh() as database:
        arena = bench.arena(database)
        ended = [arena.command("--help") for _ in range(2 * bench.scale.rounds + 1)]
    return [_figure("backfill --help", "whole process", "s", [one.seconds for one in ended])]


def _load(
    bench: Bench,
    contestant: Contestant,
    some: Sequence[Load],
    phase: Phase,
    number: int,
    database: Database,
    rows: Path,
) -> LoadRun:
    arena = bench.arena(database)
    before = database.settle(contestant.schema)
    if contestant is OURS:
        timed = arena.load(some, *(["--reload"] if phase == "again" else []))
    else:
        timed = arena.let(contestant, some, *([str(rows)] if contestant is LIMIT else []))
    bench.say(
        f"round {number + 1}: {contestant.title}, {phase}: {timed.bars / timed.seconds:,.0f} bars/s"
    )
    return LoadRun(
        contestant.name,
        phase,
        number,
        timed,
        database.writes_since(before),
        database.digest(None, contestant.bars),
    )


def _watch(arena: Arena, symbols: Sequence[str], timeframes: Sequence[str], since: str) -> None:
    options = [option for timeframe in timeframes for option in ("--timeframe", timeframe)]
    arena.command("watch", "add", "--offline", *symbols, *options, "--since", since)


def _process_figures(scenario: str, ended: Sequence[Ended]) -> list[Figure]:
    """Return what whole processes took, start-up included."""
    return [
        _figure(scenario, "whole process", "s", [one.seconds for one in ended]),
        _figure(scenario, "CPU of it", "s", [one.cpu[0] for one in ended]),
        _figure(scenario, "peak memory", "MB", [one.peak_bytes / _MEGABYTE for one in ended]),
    ]


def _figure(scenario: str, what: str, unit: str, values: Sequence[float]) -> Figure:
    return Figure(scenario, what, unit, tuple(values))


def _agree(expected: Digest, found: Digest, who: str) -> None:
    if found != expected:
        raise RuntimeError(f"{who} ended with other rows: {found}, not {expected}")


def _agree_on_count(database: Database, bars: int) -> None:
    found = database.digest(None).rows
    if found != bars:
        raise RuntimeError(f"the table holds {found:,} bars, not {bars:,}")
