"""What runs and looks found, as people see it: tables and sentences on stdout."""

from typing import TYPE_CHECKING, Any, Final

from backfill.core.plain import one_line
from backfill.present.columns import print_table
from backfill.present.failures import blocks
from backfill.present.symbol_events import event_lines
from backfill.present.tables import (
    amount,
    bytes_text,
    console,
    duration_text,
    sent_text,
    table_of,
    time_text,
)
from backfill.store.times import to_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backfill.api import Findings, Repair
    from backfill.audit.gaps import SeriesGaps
    from backfill.audit.verify import Verification
    from backfill.core.compare import Difference
    from backfill.core.gaps import Gap
    from backfill.run.outcomes import Summary
    from backfill.run.planned import Plan, PlannedSeries

_SHOWN: Final = 20


def summary(result: "Summary") -> None:
    """Print how a run ended: what failed first, by its cause, then the counts."""
    out = console()
    counts, bars = result.series, result.bars
    colour = {"ok": "green", "partial": "yellow", "stopped": "yellow"}.get(result.status, "red")
    out.print_head(result.status, f"bold {colour}", f"  run {result.run_id}")
    if result.error:
        out.print_wrapped(result.error)
    for block in blocks(result.failures):
        out.print_wrapped(f"{block.outcome}  {block.counted}")
        if len(block.symbols) > 1:
            out.print_wrapped(block.named(), indent=4)
        if block.message != result.error:
            out.print_wrapped(block.why, indent=4)
    out.print_wrapped(
        f"{counts.total} series: {counts.complete} complete, {counts.partial} partial, "
        f"{counts.failed} failed, {counts.skipped} held by another run"
        + (f", {counts.not_reached} not reached" if counts.not_reached else "")
    )
    out.print_wrapped(
        f"bars: {bars.inserted:,} inserted, {bars.updated:,} updated, "
        f"{bars.unchanged:,} unchanged, {bars.rejected:,} rejected, {bars.withdrawn:,} withdrawn"
        + (f", {bars.ignored:,} of the night ignored" if bars.ignored else "")
    )
    out.print_wrapped(f"{sent_text(result)}, in {result.duration_s:.1f} s")
    if result.notice:
        out.print_wrapped(result.notice)
    for line in event_lines(result.symbol_events):
        out.print_wrapped(line)
    if result.exit_code in {5, 130}:
        out.print("What was stored stays; the next run goes on from there.")


def plan(result: "Plan") -> None:
    """Print what a run would fetch."""
    out = console()
    table = table_of(
        "symbol", "timeframe", "from", "to", "calls", "at most", "bars at most", "",
        giving_way=("to", "from"),
    )  # fmt: skip
    for one in result.series:
        table.add_row(
            one.symbol,
            one.timeframe,
            _day(one.first),
            _day(one.last),
            str(one.calls),
            str(one.calls_max),
            f"{one.bars:,}",
            one.refusal or "; ".join(_notes(one)),
        )
    out.print(table)
    saved = f", {result.calls_saved} saved by rolling up" if result.calls_saved else ""
    grouped = f", {result.calls_grouped} for many symbols each" if result.calls_grouped else ""
    out.print_wrapped(
        f"{amount(result.calls, 'call')} expected{grouped}, {result.calls_max:,} at most{saved}; "
        f"up to {amount(result.bars, 'bar')}; about {duration_text(result.seconds)} at the quota. "
        "Nothing was called."
    )
    if (archive := result.archive).requests:
        out.print_wrapped(
            f"{amount(archive.requests, 'request')} of them for files of an archive, which take "
            f"nothing from the quota: about {bytes_text(archive.bytes)}. By calls alone "
            f"(--archive never) it would be {amount(archive.calls_instead, 'call')} and about "
            f"{bytes_text(archive.bytes_instead)}."
        )
    if (expected := result.expected) is not None and result.calls:
        runs = f"the last {expected.runs} runs" if expected.runs > 1 else "the last run"
        by_runs = f"by {runs}" if expected.runs else "for all that is known before the first run"
        bar = f"{expected.bytes_per_bar:.0f} bytes a bar"
        bar += " as this table has it" if expected.measured else ", since this table holds few yet"
        out.print_wrapped(
            f"About {duration_text(max(expected.seconds, 1.0))} in all, {by_runs}; up to "
            f"{bytes_text(expected.bytes)} of disk, {bar}."
        )


def _notes(one: "PlannedSeries") -> "Iterator[str]":
    if one.derived_from:
        yield f"rolled up from {one.derived_from}"
    if one.newest is not None:
        of = f" {one.derived_from}" if one.derived_from else ""
        yield f"the provider has only the newest {one.newest}{of}"
    if one.begins is not None:
        yield f"the provider has {one.derived_from or one.timeframe} from {one.begins} on only"


def gaps(found: "list[SeriesGaps]") -> None:
    """Print gaps."""
    out = console()
    if not found:
        out.print("no gaps")
        return
    print_table(
        ("symbol", "timeframe", "from", "to", "slots", "why"),
        (
            (
                one.series.symbol.ticker,
                str(one.series.timeframe),
                time_text(to_time(gap.span.start_ms)),
                time_text(to_time(gap.span.end_ms)),
                f"{gap.slots:,}",
                _why(gap),
            )
            for one in found
            for gap in one.gaps
        ),
        giving_way=("to",),
    )
    slots = sum(gap.slots for one in found for gap in one.gaps if gap.alarms)
    late = sum(gap.slots for one in found for gap in one.gaps if not gap.alarms)
    out.print(
        f"{slots:,} bars missing in {sum(one.alarms for one in found)} series"
        + (f"; {late:,} slots may be late and are asked for again" if late else "")
    )


def _why(gap: "Gap") -> str:
    """Say why a gap is not asked for now, and when it is."""
    if gap.again_ms is not None:
        return f"{gap.reason}: asked for again from {time_text(to_time(gap.again_ms))} on"
    return str(gap.reason) if gap.reason else ""


def findings(found: "Findings") -> None:
    """Print gaps, and how a sample of stored bars compares with the provider's."""
    gaps(found.gaps)
    if found.verification is not None:
        _verification(found.verification)
        if found.verification.differences:
            console().print("`--repair` fetches what differs; so does `backfill run --reload`")


def repair(done: "Repair") -> None:
    """Print what a repair found and did, and what is left."""
    if done.found.verification is not None:
        _verification(done.found.verification)
    if done.summary is not None:
        summary(done.summary)
    gaps(done.left)


def _verification(result: "Verification") -> None:
    out = console()
    found = [(series, one) for series, many in result.differences.items() for one in many]
    told = f"{len(found):,} differ" if found else "none differs"
    out.print(
        f"verified {result.bars:,} bars of {len(result.compared)} series in "
        f"{result.tally.calls} calls: {result.nothing or told}"
    )
    if found:
        table = table_of("symbol", "timeframe", "ts", "", "stored", "provider")
        for series, one in found[:_SHOWN]:
            table.add_row(
                series.symbol.ticker,
                str(series.timeframe),
                time_text(to_time(one.ts_ms)),
                str(one.kind),
                *_unlike(one),
            )
        out.print(table)
        if len(found) > _SHOWN:
            out.print(f"… and {len(found) - _SHOWN:,} more; --json lists them all")
    for file in result.files.replaced:
        out.print_wrapped(
            f"replaced since it was read: {one_line(file.path)}; what it covers of "
            f"{file.series} series is asked for again by the next run"
        )
    for failure in result.failures:
        out.print(
            f"not verified: {failure.symbol} {failure.timeframe}: {one_line(failure.message)}"
        )


def _unlike(one: "Difference") -> tuple[str, str]:
    """Return the values that differ, on either side."""
    stored, provided = one.stored or {}, one.provided or {}
    names = [name for name in stored | provided if stored.get(name) != provided.get(name)]
    return _listed(stored, names), _listed(provided, names)


def _listed(values: dict[str, Any], names: list[str]) -> str:
    return " ".join(f"{name} {values[name]}" for name in names if name in values)


def _day(iso: str | None) -> str:
    return iso[:10] if iso else ""
