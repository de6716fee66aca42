"""What a page to look at costs beside one ``status`` of the same series: time, memory, its size.

``python -m bench.look`` fills a database with pairs of which each has a year of days, some of them
with days missing, and asks for both, turn by turn.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.filled import filling
from bench.measure import Ended, run_measured
from bench.page import fill_between
from bench.postgres import Server
from bench.results import Figure, Spread
from bench.workload import END, NOW, settings_for

SERIES: Final = 10_000
_DAYS: Final = 365
_AS_OF: Final = ("--as-of", NOW.isoformat())
_BEGIN: Final = "<!-- look: written by `python -m bench.look` -->"
_END: Final = "<!-- end of look -->"
_MEGABYTE: Final = 1_000_000

# All of them are watched, as deep as they go.
_WATCH: Final = """
    INSERT INTO watchlist (symbol_id, timeframes, since)
    SELECT id, '{{d1}}', '{since}'
    FROM symbols
"""
# Of every hundredth pair two days are lost.
_LOSE: Final = """
    DELETE FROM ohlc_bars
    WHERE symbol_id % 100 = 0 AND ts IN (
        '{end}'::timestamptz - interval '30 days', '{end}'::timestamptz - interval '90 days'
    )
"""


def measure(series: int, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure both commands turn by turn, once each has counted the bars."""
    taken: dict[str, list[Ended]] = {"status": [], "report": []}
    with tempfile.TemporaryDirectory(prefix="backfill-look-") as folder, Server.start() as server:
        page = Path(folder) / "report.html"
        asked = {"status": ("status", "--json"), "report": ("report", "--out", str(page))}
        database = server.named("look")
        environment = settings_for(database.url, "http://127.0.0.1:9")

        def run(*arguments: str) -> Ended:
            command = [sys.executable, "-m", "backfill", *arguments]
            return run_measured(command, environment, server.postmaster, codes=(0, 4))

        run("migrate")
        database.execute(*_statements(series), "VACUUM ANALYZE", "CHECKPOINT")
        say(f"{series:,} series of {_DAYS} bars")
        run("status", "--json", *_AS_OF)
        for _ in range(rounds):
            for name, arguments in asked.items():
                taken[name].append(run(*arguments, *_AS_OF))
                say(f"{name}: {taken[name][-1].seconds:.2f} s")
        size = page.stat().st_size / _MEGABYTE
    return [
        *(
            Figure(unit, name, unit, tuple(map(of, ended)))
            for unit, of in _UNITS.items()
            for name, ended in taken.items()
        ),
        Figure("page", "report", "MB", (size,)),
    ]


def _megabytes(ended: Ended) -> float:
    return ended.peak_bytes / _MEGABYTE


_UNITS: Final[dict[str, Callable[[Ended], float]]] = {
    "s": lambda ended: ended.seconds,
    "CPU s": lambda ended: sum(ended.cpu),
    "MB": _megabytes,
}


def _statements(series: int) -> tuple[str, ...]:
    since = (END - timedelta(days=_DAYS)).date().isoformat()
    return (
        filling(series, _DAYS, "d1"),
        _WATCH.format(since=since),
        _LOSE.format(end=END.isoformat()),
    )


def write(figures: Sequence[Figure], series: int, document: Path) -> str:
    """Write the table into a page between its marks, and return it."""
    told = {(one.scenario, one.what): Spread.of(one.values).median for one in figures}
    lines = [
        f"| {series:,} series of {_DAYS} bars | status | report | of a status |",
        "| --- | --- | --- | --- |",
    ]
    for unit in _UNITS:
        status, report = told[unit, "status"], told[unit, "report"]
        cells = f"{status:,.2f} {unit} | {report:,.2f} {unit} | {report / status:.0%}"
        lines.append(f"| {_TITLES[unit]} | {cells} |")
    lines.append(f"| size of the page | | {told['page', 'report']:,.2f} MB | |")
    table = "\n".join(lines)
    fill_between(document, _BEGIN, _END, table)
    return table


_TITLES: Final = {"s": "time", "CPU s": "CPU, with Postgres", "MB": "memory"}


def main() -> None:
    """Measure, and write the table into the page."""
    figures = measure(SERIES, 3, lambda line: print(line, file=sys.stderr, flush=True))
    print(write(figures, SERIES, Path(__file__).parents[1] / "docs" / "performance.md"))


if __name__ == "__main__":
    main()
