"""What a run tells GitHub Actions: a page of Markdown for people, annotations for the list of jobs.

Both hold text of the provider, made harmless by `backfill.core.plain`.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backfill.core.plain import annotation
from backfill.present.failures import Block, blocks, remedy
from backfill.present.markdown import code, head, row, text
from backfill.present.tables import sent_text

if TYPE_CHECKING:
    from backfill.run.outcomes import Summary, TimeframeCounts
    from backfill.run.symbol_events import SymbolEvent

_LISTED: Final = 200
_NAMED: Final = 50
_ANNOTATED: Final = 9  # GitHub shows ten of each kind for a step; the last says how many more
_HEAD: Final = (
    "timeframe", "series", "complete", "partial", "failed", "held elsewhere",
    "inserted", "updated", "unchanged", "rejected", "withdrawn",
)  # fmt: skip


def report(summary: "Summary") -> None:
    """Tell how a run ended, if this is a job of GitHub Actions; nothing of it can fail the run."""
    _write(markdown(summary))
    # What ended the whole run is told in one line by the command, for all the series it ended.
    causes = blocks(summary.failures) if summary.exit_code != 3 else []
    for block in causes[:_ANNOTATED]:
        named = f"{block.named()}: " if len(block.symbols) > 1 else ""
        annotate("error", named + block.why, title=f"{block.counted}: {block.outcome}")
    if more := sum(block.series for block in causes[_ANNOTATED:]):
        annotate("error", f"… and {more:,} more series failed")
    for event in [one for one in summary.symbol_events if one.is_new][:_ANNOTATED]:
        annotate("warning", str(event), title=f"{event.symbol}: {event.event}")
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
        f"{sent_text(summary)}, in {summary.duration_s:.1f} s. "
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
    lines += _failed(summary)
    if summary.symbol_events:
        lines += ["### What became of symbols", "", *head("symbol", "what", "to do")]
        lines += map(_event, summary.symbol_events[:_LISTED])
        lines.append("")
    lines += [*head(*_HEAD), *map(_counts, summary.timeframes), ""]
    if summary.exit_code in {5, 130}:
        lines += ["What was stored stays; the next run goes on from there.", ""]
    return "\n".join(lines) + "\n"


def _failed(summary: "Summary") -> list[str]:
    """Return what failed, a row for each cause; what ended the whole run stands above already."""
    causes = blocks(summary.failures)
    if not causes:
        return []
    lines = ["### What failed", "", *head("symbols", "series", "outcome", "why", "to do")]
    for block in causes[:_LISTED]:
        why = "" if block.message == summary.error else block.why
        cells = (block.named(_NAMED), block.counted, block.outcome, why)
        lines.append(row(*map(text, cells), _remedy(block)))
    if more := sum(block.series for block in causes[_LISTED:]):
        lines += ["", f"… and {more:,} more: the row of the run in backfill_runs has them all."]
    return [*lines, ""]


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


def _event(one: "SymbolEvent") -> str:
    commands = " && ".join(one.commands)
    return row(text(one.symbol), text(one.message), code(commands) if commands else "")


def _remedy(block: Block) -> str:
    """Return what mends failures, as a cell of a table."""
    found = remedy(block, _NAMED)
    return f"{found.before}{code(found.what)}{found.after}" if found is not None else ""
