"""What a run tells GitHub Actions: a page of Markdown for people, annotations for the list of jobs.

Both hold text of the provider, made harmless by `backfill.core.plain`.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backfill.core.plain import annotation, argument
from backfill.present.markdown import code, head, row, text

if TYPE_CHECKING:
    from backfill.run.outcomes import Failure, Summary, TimeframeCounts

_LISTED: Final = 200
_ANNOTATED: Final = 9  # GitHub shows ten of each kind for a step; the last says how many more
_HEAD: Final = (
    "timeframe", "series", "complete", "partial", "failed", "held elsewhere",
    "inserted", "updated", "unchanged", "rejected", "withdrawn",
)  # fmt: skip


def report(summary: "Summary") -> None:
    """Tell how a run ended, if this is a job of GitHub Actions; nothing of it can fail the run."""
    _write(markdown(summary))
    # What ended the whole run is told in one line by the command, for all the series it ended.
    failures = summary.failures if summary.exit_code != 3 else []
    for failure in failures[:_ANNOTATED]:
        title = f"{failure.symbol} {failure.timeframe}: {failure.outcome}"
        annotate("error", failure.message, title=title)
    if len(failures) > _ANNOTATED:
        annotate("error", f"… and {len(failures) - _ANNOTATED} more series failed")
    if summary.exit_code in {5, 130}:
        annotate("warning", f"{summary.error or summary.status}; the next run goes on")


def fault(message: str, exit_code: int, *, secret: bool) -> None:
    """Tell why a command ended before it had anything to show; ``secret``: for want of one.

    Another usage or environment fault (2) is one line on stderr wherever it happens: it gets no
    annotation, the page has it.
    """
    _write(f"## backfill: exit {exit_code}\n\n{text(message)}\n\n")
    if exit_code != 2 or secret:
        annotate("warning" if exit_code in {5, 130} else "error", message)


def annotate(level: str, message: str, *, title: str = "backfill") -> None:
    """Put an ``error`` or a ``warning`` beside the job, if this is one of GitHub Actions."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stderr.write(f"{annotation(level, title, message)}\n")
        sys.stderr.flush()


def markdown(summary: "Summary") -> str:
    """Return what a run did, as a page."""
    calls = (
        f"{summary.calls} calls, {summary.lookups} look-ups, {summary.retries} retries, "
        f"{summary.rate_limited} times rate-limited, in {summary.duration_s:.1f} s. "
        "One call may bring bars of several timeframes."
    )
    lines = [
        f"## backfill: {summary.status} (exit {summary.exit_code})",
        "",
        f"{text(summary.mode)} run {code(summary.run_id)} of {text(summary.provider)}: {calls}",
        "",
    ]
    if summary.error:
        lines += [f"**{text(summary.error)}**", ""]
    if summary.notice:
        lines += [text(summary.notice), ""]
    lines += [*head(*_HEAD), *map(_counts, summary.timeframes), ""]
    if summary.failures:
        lines += ["### What failed", "", *head("symbol", "timeframe", "outcome", "why", "to do")]
        lines += map(_failure, summary.failures[:_LISTED])
        lines.append("")
    if len(summary.failures) > _LISTED:
        more = len(summary.failures) - _LISTED
        lines += [f"… and {more:,} more: the row of the run in backfill_runs has them all.", ""]
    if summary.exit_code in {5, 130}:
        lines += ["What was stored stays; the next run goes on from there.", ""]
    return "\n".join(lines) + "\n"


def _write(page: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        import structlog

        log = structlog.stdlib.get_logger()
        log.warning("summary.unwritten", error=error.strerror)
        annotate("warning", f"the summary of the run can't be written: {error.strerror}")


def _counts(one: "TimeframeCounts") -> str:
    series, bars = one.series, one.bars
    numbers = (
        series.total, series.complete, series.partial, series.failed, series.skipped,
        bars.inserted, bars.updated, bars.unchanged, bars.rejected, bars.withdrawn,
    )  # fmt: skip
    return row(one.timeframe, *(f"{number:,}" for number in numbers))


def _failure(one: "Failure") -> str:
    cells = (one.symbol, one.timeframe, one.outcome, one.message)
    return row(*map(text, cells), _remedy(one))


def _remedy(one: "Failure") -> str:
    """Return what mends a failure; a mismatch of sources names it in its own message."""
    symbol = argument(one.symbol)
    match one.outcome:
        case "source_mismatch":
            return ""
        case "not_entitled":
            return f"set {code('BACKFILL_PLAN')} to the plan that you have"
        case "unknown_symbol":
            command = f"backfill watch remove {symbol}"
        case "quarantined":
            command = f"backfill quarantine list --symbol {symbol} --timeframe {one.timeframe}"
        case _:
            command = f"backfill run --symbol {symbol} --timeframe {one.timeframe}"
    return code(command)
