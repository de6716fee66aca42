"""The benchmark: ``python -m bench quick``, ``full``, or ``report`` on what was measured before.

``large`` is another: what is asked of large tables, by this build and one ``--beside`` it; so are
``archive``, loads out of files, beside the limit and calls, ``far``, loads into databases at other
distances, and ``fresh``, a first load beside the limit and that other build.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import archive, distance, fresh, large, report, scenarios
from bench.postgres import Server
from bench.results import FOLDER, About, Results, Scale
from bench.server import Provider

QUICK: Final = Scale(
    "quick",
    bars=200_000,
    series=4,
    rounds=3,
    shallow=50_000,
    deep=200_000,
    probe=50_000,
    kept=20,
    planned=200,
)
FULL: Final = Scale(
    "full",
    bars=5_000_000,
    series=4,
    rounds=3,
    shallow=1_000_000,
    deep=10_000_000,
    probe=500_000,
    kept=1_000,
    planned=10_000,
)
_WHAT: Final = ("quick", "full", "report", "large", "archive", "far", "fresh")
_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "performance.md"


def measure(scale: Scale) -> Results:
    """Run every scenario."""
    taken_at = datetime.now(UTC).replace(microsecond=0)
    with (
        tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder,
        Provider.start() as provider,
        Server.start() as server,
    ):
        bench = scenarios.Bench(scale, provider, server, Path(folder), _say)
        return Results(
            about=About.this(taken_at, server.version),
            scale=scale,
            loads=list(scenarios.loads(bench)),
            figures=[
                figure
                for scenario in (
                    scenarios.deep_tables,
                    scenarios.far_database,
                    scenarios.event_loop,
                    scenarios.no_op_increment,
                    scenarios.plan_from_nothing,
                    scenarios.help_text,
                )
                for figure in scenario(bench)
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("--rounds", type=int, help="how often each contestant runs")
    parser.add_argument(
        "--months", type=int, default=archive.Archive().months, help="archive: how many months"
    )
    parser.add_argument("--beside", type=Path, help="the checkout of another build")
    for name, default in asdict(large.Large()).items():
        if name != "rounds":
            parser.add_argument(
                f"--{name}", type=int, default=default, help=f"large: how many {name}"
            )
    given = parser.parse_args()
    if given.what == "archive":
        some = archive.Archive(months=given.months, rounds=given.rounds or archive.Archive().rounds)
        print(archive.write(archive.measure(some, _say), _DOCUMENT))
        return
    if given.what == "far":
        some_far = distance.Far(rounds=given.rounds or 1)
        print(distance.write(distance.measure(given.beside, some_far, _say), _DOCUMENT))
        return
    if given.what == "fresh":
        loads = fresh.measure(given.beside, FULL.bars, given.rounds or FULL.rounds, _say)
        print(fresh.write(loads, _DOCUMENT))
        return
    if given.what == "large":
        size = large.Large(given.bars, given.gaps, given.quarantined, given.runs, given.rounds or 1)
        print(large.write(large.measure(given.beside, size, _say), _DOCUMENT))
        return
    if given.what == "report":
        file = FOLDER / f"{FULL.name}.json"
        if not file.exists():
            parser.error(f"there is no {file} yet: run make bench-full first")
        results = Results.read(file)
        report.fill(_DOCUMENT, results, report.plot(results, file.with_suffix(".svg")))
        return
    scale = QUICK if given.what == "quick" else FULL
    if given.rounds:
        scale = replace(scale, rounds=given.rounds)
    results = measure(scale)
    file = results.write()
    plot = report.plot(results, file.with_suffix(".svg"))
    print(report.markdown(results))
    print(f"Every measurement: {file}; the plot: {plot}")


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
