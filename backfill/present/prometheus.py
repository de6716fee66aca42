"""What `backfill status` says, in the text format of Prometheus and in OpenMetrics.

It fits a textfile collector: no time stamps of its own, and a value that isn't known is left out.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from backfill.audit.health import Health
from backfill.audit.status import SeriesStatus
from backfill.core.freshness import State
from backfill.core.plain import label

TEXT: Final = "text/plain; version=0.0.4"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
"""The content types of the two formats."""

_UNITS: Final = ("seconds", "ratio")
_STATUSES: Final = ("ok", "partial", "failed", "stopped", "interrupted")

_LATE: Final = (
    "To the end of the last due bar: from the end of what is covered, or from the newest bar "
    "where none came for longer than usual; 0 is fresh."
)
_FRESH: Final = (
    "1 if the series has bars, all due ones were asked for, and the last came, or are lacking for "
    "no longer than usual, or rightly."
)

Sample = tuple[dict[str, str], float | None]
"""What a value is labelled with, and the value."""
Metric = tuple[str, str, list[Sample]]
"""A name, what it means, and its samples."""


def exposition(health: Health, form: str = TEXT) -> str:
    """Return everything as metrics, each with its help and its type; ``form`` is a content type."""
    return text_of(metrics_of(health), form)


def text_of(metrics: Iterable[Metric], form: str = TEXT) -> str:
    """Return metrics as a whole text; OpenMetrics tells units besides, and where it ends."""
    text = "".join(line for metric in metrics for line in _family(metric, form))
    return f"{text}# EOF\n" if form == OPENMETRICS else text


def metrics_of(health: Health) -> Iterator[Metric]:
    """Yield what is told of the series and of the last run."""
    series = [({"symbol": one.symbol, "timeframe": one.timeframe}, one) for one in health.series]
    # Nobody is to be woken for what nobody keeps up to date.
    judged = [(labels, one) for labels, one in series if one.judged]
    yield (
        "freshness_seconds",
        _LATE,
        [(labels, _late_s(one)) for labels, one in judged],
    )
    yield (
        "fresh",
        _FRESH,
        [(labels, int(one.fresh)) for labels, one in judged],
    )
    yield (
        "behind_bars",
        "Due bars after what is covered.",
        [(labels, one.behind) for labels, one in judged],
    )
    yield (
        "silent_bars",
        "Due bars of the regular session after the newest one stored.",
        [(labels, one.silent) for labels, one in judged],
    )
    yield (
        "covered_ratio",
        "Part of what is wanted that the provider has answered for, from 0 to 1.",
        [(labels, one.share) for labels, one in judged],
    )
    yield (
        "gap_bars",
        "Due bars of the regular session that are missing, as `backfill gaps` counts them.",
        [(labels, health.gaps.get((one.symbol, one.timeframe), 0)) for labels, one in series],
    )
    yield "bars", "Bars stored.", [(labels, one.bars) for labels, one in series]
    yield (
        "quarantined_bars",
        "Bars in quarantine that nobody has accepted.",
        [(labels, one.quarantined) for labels, one in series],
    )
    yield (
        "newest_bar_timestamp_seconds",
        "Start of the newest bar stored.",
        [(labels, _epoch_s(one.newest)) for labels, one in series],
    )
    run = health.run
    if run is None:
        return
    yield (
        "last_run_status",
        "1 for how the last run that has ended did.",
        [({"status": one}, int(one == run.status)) for one in _STATUSES],
    )
    for name, means, value in (
        ("last_run_exit_code", "Its exit code; missing if it died.", run.exit_code),
        ("last_run_start_timestamp_seconds", "When it began.", _epoch_s(run.started_at)),
        ("last_run_end_timestamp_seconds", "When it ended.", _epoch_s(run.finished_at)),
        ("last_run_calls", "Requests for bars that it sent.", run.calls),
        ("last_run_lookups", "Requests for reference data that it sent.", run.lookups),
        (
            "last_success_timestamp_seconds",
            "When the last run ended that did all it was asked to.",
            _epoch_s(run.succeeded_at),
        ),
    ):
        yield name, means, [({}, value)]


def _late_s(one: SeriesStatus) -> float | None:
    match one.state:
        case State.fresh:
            return 0
        case State.behind if one.due_until and one.coverage:
            return (one.due_until - one.coverage[-1][1]).total_seconds()
        case State.silent if one.due_until and one.newest:
            return (one.due_until - one.newest).total_seconds()
    return None


def _epoch_s(at: datetime | None) -> float | None:
    return at.timestamp() if at else None


def _family(metric: Metric, form: str) -> Iterator[str]:
    """Return the lines of a metric; a sample that isn't known is left out."""
    short, means, samples = metric
    name, unit = f"backfill_{short}", short.rpartition("_")[2]
    known = [(labels, value) for labels, value in samples if value is not None]
    if known:
        yield f"# HELP {name} {means}\n# TYPE {name} gauge\n"
        if form == OPENMETRICS and unit in _UNITS:
            yield f"# UNIT {name} {unit}\n"
    for labels, value in known:
        named = ",".join(f'{one}="{label(text)}"' for one, text in labels.items())
        yield f"{name}{f'{{{named}}}' if named else ''} {_number(value)}\n"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
