"""What is asked of large tables, by this build and by one that is kept beside it.

``python -m bench large --beside ../older`` measures both in one run, turn by turn; the other build
is a checkout with a virtual environment of its own. Its database is made and filled; this build
has a copy of that, brought up to date by its own migrations, as whoever changes builds has. What
this one does, the other may do with six times its CPU time, and is ended then.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.build import Build, builds_with
from bench.filled import filling
from bench.measure import Ended, run_measured
from bench.page import publish
from bench.postgres import Database, Server
from bench.results import Figure, Spread
from bench.server import Provider
from bench.workload import END, MARKET_TICKER, NOW, Load, settings_for

_SYMBOLS: Final = 20
_MEGABYTE: Final = 1_000_000
_FILLED: Final = "filled"
_TIMES: Final = 6
_LEAST_CPU_S: Final = 10.0
_AS_OF: Final = ("--as-of", NOW.isoformat())

_QUARANTINE: Final = """
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT p.symbol_id, 'm1', p.newest_bar - n * interval '2 minutes', 'high_low',
        jsonb_build_object('open', 10, 'high', 0.01, 'low', 9, 'close', 10.5, 'volume', n),
        gen_random_uuid()
    FROM backfill_progress AS p
    JOIN symbols AS s ON s.id = p.symbol_id AND s.ticker LIKE 'X:L%'
    CROSS JOIN generate_series(1, {each}) AS n
"""
# Every second of them is lacking, so that it can be asked for again.
_LOSE_QUARANTINED: Final = """
    DELETE FROM ohlc_bars AS b
    USING quarantined_bars AS q
    WHERE (b.symbol_id, b.timeframe, b.ts) = (q.symbol_id, q.timeframe, q.ts) AND q.id % 2 = 0
"""
_LOSE_EVERY: Final = """
    DELETE FROM ohlc_bars AS b
    USING symbols AS s
    WHERE s.id = b.symbol_id AND s.ticker = '{ticker}'
        AND extract(epoch FROM ts)::bigint / 60 % {every} = 0
"""
_LEDGER: Final = """
    WITH past AS (
        INSERT INTO backfill_runs (run_id, started_at, finished_at, mode, status, provider)
        SELECT gen_random_uuid(), at, at, 'incremental', 'ok', 'massive'
        FROM generate_series(
            now() - interval '1 year', now() - interval '100 days',
            interval '265 days' / {runs}
        ) AS at
        RETURNING run_id
    )
    INSERT INTO backfill_changes (run_id, symbol_id, timeframe, range, inserted, updated, withdrawn)
    SELECT run_id, n, 'm1', 'empty', 1, 0, 0
    FROM past, generate_series(1, 3) AS n
"""
# What goes on for a command that was ended.
_END_OTHERS: Final = """
    SELECT pg_terminate_backend(pid)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_LEDGER_ROWS: Final = """
    SELECT (SELECT count(*) FROM backfill_runs) + (SELECT count(*) FROM backfill_changes)
"""


@dataclass(frozen=True, slots=True)
class Large:
    """How large: bars in the table, gaps in one series, bars in quarantine, runs in the ledger."""

    bars: int = 3_000_000
    gaps: int = 44_000
    quarantined: int = 200_000
    runs: int = 20_000
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class _Place:
    """A build with its database, and the provider and server of both."""

    build: Build
    database: Database
    provider: Provider
    postmaster: int

    def command(
        self, *arguments: str, codes: Sequence[int] = (0,), most_cpu_s: float = math.inf
    ) -> Ended:
        """Run the build's command."""
        return run_measured(
            [str(self.build.python), "-m", "backfill", *arguments],
            settings_for(self.database.url, self.provider.url),
            self.postmaster,
            folder=self.build.folder,
            codes=codes,
            most_cpu_s=most_cpu_s,
        )


def measure(beside: Path | None, large: Large, say: Callable[[str], None]) -> list[Figure]:
    """Measure this build, and the one ``beside`` it, if there is one."""
    figures: list[Figure] = []
    with Provider.start() as provider, Server.start() as server:
        places: list[_Place] = []
        for build in builds_with(beside):
            database = server.copied("copy", _FILLED) if places else server.named(_FILLED)
            places.append(_Place(build, database, provider, server.postmaster))
            places[-1].command("migrate")
            if len(places) == 1:
                _fill(places[0], large)
            say(f"{build.name}: {large.bars:,} bars")
        for title, arguments, codes in _asked(large):
            taken: dict[str, list[Ended]] = {place.build.name: [] for place in places}
            for _ in range(large.rounds):
                most_cpu_s = math.inf
                for place in reversed(places):
                    ended = place.command(*arguments, codes=codes, most_cpu_s=most_cpu_s)
                    taken[place.build.name].append(ended)
                    used_s = sum(ended.cpu)
                    say(f"{place.build.name}: {title}: {used_s:.2f} CPU s")
                    if ended.cut:
                        place.database.execute(_END_OTHERS)
                    most_cpu_s = max(_TIMES * used_s, _LEAST_CPU_S)
            figures += _figures(title, taken)
        figures += [
            Figure("rows of the ledger after one run", place.build.name, "rows", (
                float(place.database.value(_LEDGER_ROWS)),
            ))
            for place in places
        ]  # fmt: skip
    return figures


def write(figures: Sequence[Figure], document: Path) -> str:
    """Keep every measurement, write the table into a page between its marks, and return it."""
    return publish("large", figures, _table(figures), document)


def _fill(place: _Place, large: Large) -> None:
    """Fill a database: minutes of many pairs, one pair with gaps, quarantine and the ledger."""
    each = large.bars // _SYMBOLS
    end_ms = round(END.timestamp() * 1000)
    load = Load(MARKET_TICKER, end_ms - each * 4 * 60_000, end_ms)
    place.provider.prepare([load])
    place.command(
        "run", "--symbol", MARKET_TICKER, "-t", "m1", "--from", load.start.isoformat(),
        "--to", load.end.isoformat(), *_AS_OF,
    )  # fmt: skip
    place.database.execute(
        filling(_SYMBOLS, each),
        _LOSE_EVERY.format(ticker=MARKET_TICKER, every=max(2, each * 4 // large.gaps)),
        _QUARANTINE.format(each=large.quarantined // _SYMBOLS),
        _LOSE_QUARANTINED,
        _LEDGER.format(runs=large.runs),
        "VACUUM ANALYZE",
        "CHECKPOINT",
    )


def _asked(large: Large) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Return what is asked of each build, in this order, and which exit codes are right."""
    market = ("--symbol", MARKET_TICKER, *_AS_OF)
    few, many = large.quarantined // _SYMBOLS, f"{large.quarantined:,}"
    return [
        ("status, the first time", ("status", "--json", *_AS_OF), (0, 4)),
        ("status", ("status", "--json", *_AS_OF), (0, 4)),
        (f"gaps, about {large.gaps:,}", ("gaps", *market), (4,)),
        (f"gaps --json, about {large.gaps:,}", ("gaps", "--json", *market), (4,)),
        ("gaps --verify of two calls", ("gaps", "--verify", "--max-calls", "2", *market), (4,)),
        (f"quarantine list of {few:,}", ("quarantine", "list", "--symbol", "X:L10USD"), (0,)),
        (f"quarantine list --json of {many}", ("quarantine", "list", "--json"), (0,)),
        (f"quarantine retry --all of {many}", ("quarantine", "retry", "--all"), (0,)),
        (
            f"a run with nothing due, {4 * large.runs:,} old rows in the ledger",
            ("run", "--symbol", MARKET_TICKER, "-t", "m1", "--incremental", "--as-of",
             END.isoformat()),
            (0, 5),
        ),
    ]  # fmt: skip


def _figures(title: str, taken: dict[str, list[Ended]]) -> list[Figure]:
    found = []
    for name, ended in taken.items():
        cut = any(one.cut for one in ended)
        for unit, values in (
            ("s", [one.seconds for one in ended]),
            ("CPU s", [sum(one.cpu) for one in ended]),
            ("MB", [one.peak_bytes / _MEGABYTE for one in ended]),
        ):
            found.append(Figure(title, name, unit, tuple(values), cut))
    return found


def _table(figures: Sequence[Figure]) -> str:
    """Return one row a scenario and unit: each build, and what this one takes of the other."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    cut = {(one.scenario, one.unit, one.what) for one in figures if one.at_least}
    for one in figures:
        rows.setdefault((one.scenario, one.unit), {})[one.what] = Spread.of(one.values).median
    names = list(dict.fromkeys(one.what for one in figures))
    head = ["asked", *names, "of the other"][: 2 + len(names) - (len(names) == 1)]
    lines = [head, ["---"] * len(head)]
    for (scenario, unit), values in rows.items():
        more = ["more than " if (scenario, unit, name) in cut else "" for name in names]
        cells = [
            f"{word}{values[name]:,.{0 if unit == 'rows' else 2}f} {unit}"
            for word, name in zip(more, names, strict=True)
        ]
        less = "under " if more[0] else ""
        share = [f"{less}{values[names[-1]] / values[names[0]]:.0%}"] if len(names) > 1 else []
        lines.append([scenario, *cells, *share])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
