"""Results as tables in Markdown, for the terminal and for ``docs/performance.md``."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.contestants import LIMIT, OURS, PEERS, Contestant
from bench.page import fill_between
from bench.plot import Bar, draw
from bench.results import LoadRun, Phase, Results, Spread

_MILLION: Final = 1_000_000
_BEGIN: Final = "<!-- figures: written by `python -m bench report` -->"
_END: Final = "<!-- end of figures -->"


def markdown(results: Results) -> str:
    """Return every table, with medians and, in brackets, the least and the most."""
    return "\n\n".join(
        [
            _about(results),
            "### A first load",
            _fresh(results),
            "### The same history once more",
            _again(results),
            "### Around the loads",
            _figures(results),
        ]
    )


def fill(document: Path, results: Results, picture: Path) -> None:
    """Write the plot and the tables between the marks of a document, in place of what stood there.

    Raises
    ------
    ValueError
        If the document has no such marks.
    """
    where = os.path.relpath(picture, document.parent)
    figures = f"![Bars per second of a first load]({where})\n\n{markdown(results)}"
    fill_between(document, _BEGIN, _END, figures)


def plot(results: Results, file: Path) -> Path:
    """Draw how fast each contestant loads, and return the file."""
    bars = [
        Bar(one.title, _speed(_runs(results, one, "fresh")), ours=one is OURS)
        for one in _ranked(results)
    ]
    file.write_text(draw(f"A first load, bars per second, {_rounds(results)}", bars))
    return file


def _about(results: Results) -> str:
    about, scale = results.about, results.scale
    libraries = ", ".join(f"{name} {version}" for name, version in about.libraries.items())
    return (
        f"Taken {about.taken_at:%Y-%m-%d %H:%M} UTC on {about.cores} cores "
        f"({about.processor}), {about.memory_bytes / 1e9:.0f} GB, {about.system}; "
        f"Python {about.python}, PostgreSQL {about.postgres}; {libraries}. "
        f"{scale.bars:,} bars in {scale.series} series, {_rounds(results)}: medians, and the least "
        "and the most in brackets. In each round all contestants that got the same bars ended "
        "with the same rows, by their count and a checksum over every column."
    )


def _fresh(results: Results) -> str:
    limit = _speed(_runs(results, LIMIT, "fresh")).median
    return _table(
        [
            "who",
            "bars",
            "bars/s",
            "of the limit",
            "CPU s per million bars",
            "of Postgres",
            "peak MB",
            "calls",
            "start-up s",
            "whole process s",
        ],
        [
            [
                one.title,
                f"{runs[0].timed.bars:,}",
                _written(_speed(runs), ",.0f"),
                f"{_speed(runs).median / limit:.0%}",
                _spread(runs, lambda run: run.timed.cpu_s / run.timed.bars * _MILLION, ".2f"),
                _spread(
                    runs, lambda run: run.timed.postgres_cpu_s / run.timed.bars * _MILLION, ".2f"
                ),
                _spread(runs, lambda run: run.timed.peak_bytes / _MILLION, ".0f"),
                f"{Spread.of(run.timed.calls for run in runs).median:.0f}",
                _spread(runs, lambda run: run.timed.startup_s, ".2f"),
                _spread(runs, lambda run: run.timed.process_s, ".2f"),
            ]
            for one in _ranked(results)
            if (runs := _runs(results, one, "fresh"))
        ],
    )


def _again(results: Results) -> str:
    return _table(
        ["who", "bars/s", "WAL MB per million bars", "rows rewritten", "dead rows left"],
        [
            [
                one.title,
                _written(_speed(runs), ",.0f"),
                _spread(
                    runs, lambda run: run.writes.wal_bytes / run.timed.bars, ".1f"
                ),  # bytes a bar are megabytes a million
                f"{Spread.of(run.writes.rewritten_rows for run in runs).most:,.0f}",
                f"{Spread.of(run.writes.dead_rows for run in runs).most:,.0f}",
            ]
            for one in _ranked(results)
            if (runs := _runs(results, one, "again"))
        ],
    )


def _figures(results: Results) -> str:
    return _table(
        ["scenario", "what", "median", "least – most"],
        [
            [
                figure.scenario,
                figure.what,
                f"{spread.median:,.2f} {figure.unit}",
                f"{spread.least:,.2f} – {spread.most:,.2f}",
            ]
            for figure in results.figures
            if (spread := Spread.of(figure.values))
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ranked(results: Results) -> list[Contestant]:
    """Return the limit and the others behind it, the fastest first load first."""
    others = sorted((OURS, *PEERS), key=lambda one: -_speed(_runs(results, one, "fresh")).median)
    return [LIMIT, *others]


def _runs(results: Results, contestant: Contestant, phase: Phase) -> list[LoadRun]:
    return [
        run for run in results.loads if run.contestant == contestant.name and run.phase == phase
    ]


def _speed(runs: Iterable[LoadRun]) -> Spread:
    return Spread.of(run.timed.bars / run.timed.seconds for run in runs)


def _spread(runs: Iterable[LoadRun], value: Callable[[LoadRun], float], form: str) -> str:
    return _written(Spread.of(map(value, runs)), form)


def _written(spread: Spread, form: str) -> str:
    if spread.least == spread.most:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.least:{form}}–{spread.most:{form}})"


def _rounds(results: Results) -> str:
    rounds = results.scale.rounds
    return f"{rounds} interleaved rounds" if rounds > 1 else "one round"
