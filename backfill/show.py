"""What people see: tables and sentences on stdout, live progress on a terminal."""

import sys
import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from backfill.api import Findings, Repair, Running
from backfill.core.compare import Difference
from backfill.core.series import Symbol
from backfill.gaps import SeriesGaps
from backfill.quarantine import Reopened
from backfill.status import SeriesStatus
from backfill.store.quarantine import QuarantinedBar
from backfill.store.times import to_time
from backfill.store.universe import WatchEntry
from backfill.summary import Plan, Summary
from backfill.verify import Verification

_UNBOUNDED: Final = 1000
_SHOWN: Final = 20


def summary(result: Summary) -> None:
    """Print how a run ended."""
    out = _console()
    counts, bars = result.series, result.bars
    colour = {"ok": "green", "partial": "yellow", "stopped": "yellow"}.get(result.status, "red")
    head = Text.assemble((result.status, f"bold {colour}"), f"  run {result.run_id}")
    if result.error:
        head.append(f"  {result.error}")
    out.print(head)
    out.print(
        f"{counts.total} series: {counts.complete} complete, {counts.partial} partial, "
        f"{counts.failed} failed, {counts.skipped} held by another run"
    )
    out.print(
        f"bars: {bars.inserted:,} inserted, {bars.updated:,} updated, "
        f"{bars.unchanged:,} unchanged, {bars.rejected:,} rejected, {bars.withdrawn:,} withdrawn"
    )
    out.print(
        f"{result.calls} calls, {result.lookups} look-ups, {result.retries} retries, "
        f"{result.rate_limited} times rate-limited, in {result.duration_s:.1f} s"
    )
    if result.failures:
        table = _table("symbol", "timeframe", "outcome", "why")
        for failure in result.failures:
            table.add_row(failure.symbol, failure.timeframe, failure.outcome, failure.message)
        out.print(table)
    if result.exit_code in {5, 130}:
        out.print("What was stored stays; the next run goes on from there.")


def plan(result: Plan) -> None:
    """Print what a run would fetch."""
    out = _console()
    table = _table("symbol", "timeframe", "from", "to", "calls", "at most", "bars at most", "")
    for one in result.series:
        table.add_row(
            one.symbol,
            one.timeframe,
            _day(one.first),
            _day(one.last),
            str(one.calls),
            str(one.calls_max),
            f"{one.bars:,}",
            one.refusal or (f"rolled up from {one.derived_from}" if one.derived_from else ""),
        )
    out.print(table)
    saved = f", {result.calls_saved} saved by rolling up" if result.calls_saved else ""
    grouped = f", {result.calls_grouped} for a whole day each" if result.calls_grouped else ""
    out.print(
        f"{result.calls} calls expected{grouped}, {result.calls_max} at most{saved}; up to "
        f"{result.bars:,} bars; about {_duration(result.seconds)} at the quota. "
        "Nothing was called."
    )


def status(series: list[SeriesStatus]) -> None:
    """Print every series, and how many are stale."""
    out = _console()
    if not series:
        out.print(
            "No series yet: add one with `backfill watch add AAPL`, then `backfill run --all`."
        )
        return
    table = _table(
        "symbol", "timeframe", "bars", "oldest", "newest", "covered", "ranges", "fresh", "rejected"
    )
    for one in series:
        table.add_row(
            one.symbol,
            one.timeframe,
            f"{one.bars:,}",
            _time(one.oldest),
            _time(one.newest),
            _covered(one),
            str(len(one.coverage)),
            "yes" if one.fresh else f"no, {one.behind} due",
            str(one.quarantined or ""),
        )
    out.print(table)
    stale = sum(not one.fresh for one in series)
    out.print(
        f"{len(series)} series, {stale} stale" if stale else f"{len(series)} series, all fresh"
    )


def gaps(found: list[SeriesGaps]) -> None:
    """Print gaps."""
    out = _console()
    if not found:
        out.print("no gaps")
        return
    table = _table("symbol", "timeframe", "from", "to", "slots", "")
    for one in found:
        for gap in one.gaps:
            table.add_row(
                one.series.symbol.ticker,
                str(one.series.timeframe),
                _time(to_time(gap.span.start_ms)),
                _time(to_time(gap.span.end_ms)),
                f"{gap.slots:,}",
                f"asked for lately: {gap.reason}" if gap.reason else "",
            )
    out.print(table)
    slots = sum(gap.slots for one in found for gap in one.gaps)
    out.print(f"{slots:,} bars missing in {len(found)} series")


def findings(found: Findings) -> None:
    """Print gaps, and how a sample of stored bars compares with the provider's."""
    gaps(found.gaps)
    if found.verification is not None:
        _verification(found.verification)
        if found.verification.differences:
            _console().print("`--repair` fetches what differs; so does `backfill run --reload`")


def findings_as_dict(found: Findings) -> dict[str, Any]:
    """Return findings as JSON's own types; ``verified`` only where that was asked for."""
    values: dict[str, Any] = {"series": [one.as_dict() for one in found.gaps]}
    if found.verification is not None:
        values["verified"] = found.verification.as_dict()
    return values


def repair(done: Repair) -> None:
    """Print what a repair found and did, and what is left."""
    if done.found.verification is not None:
        _verification(done.found.verification)
    if done.summary is not None:
        summary(done.summary)
    gaps(done.left)


def repair_as_dict(done: Repair) -> dict[str, Any]:
    """Return a repair as JSON's own types: the gaps left, what was found before, and the run."""
    return {
        **findings_as_dict(Findings(done.left, done.found.verification)),
        "run": done.summary and done.summary.as_dict(),
    }


def _verification(result: Verification) -> None:
    out = _console()
    found = [(series, one) for series, many in result.differences.items() for one in many]
    out.print(
        f"verified {result.bars:,} bars of {len(result.compared)} series in "
        f"{result.tally.calls} calls: {f'{len(found):,} differ' if found else 'none differs'}"
    )
    if found:
        table = _table("symbol", "timeframe", "ts", "", "stored", "provider")
        for series, one in found[:_SHOWN]:
            table.add_row(
                series.symbol.ticker,
                str(series.timeframe),
                _time(to_time(one.ts_ms)),
                str(one.kind),
                *_unlike(one),
            )
        out.print(table)
        if len(found) > _SHOWN:
            out.print(f"… and {len(found) - _SHOWN:,} more; --json lists them all")
    for failure in result.failures:
        out.print(f"not verified: {failure.symbol} {failure.timeframe}: {failure.message}")


def _unlike(one: Difference) -> tuple[str, str]:
    """Return the values that differ, on either side."""
    stored, provided = one.stored or {}, one.provided or {}
    names = [name for name in stored | provided if stored.get(name) != provided.get(name)]
    return _listed(stored, names), _listed(provided, names)


def _listed(values: dict[str, Any], names: list[str]) -> str:
    return " ".join(f"{name} {values[name]}" for name in names if name in values)


def symbols(found: Iterable[Symbol]) -> None:
    """Print symbols."""
    table = _table(
        "symbol", "type", "calendar", "listed", "delisted", "confirmed", "retired", "was"
    )
    for one in found:
        table.add_row(
            one.ticker,
            one.asset_type,
            one.calendar,
            str(one.listed_on or ""),
            str(one.delisted_on or ""),
            "yes" if one.confirmed else "not yet",
            str(one.retired_on or ""),
            ", ".join(f"{alias.ticker} until {alias.valid_until}" for alias in one.aliases),
        )
    _console().print(table)


def symbols_as_dict(found: Iterable[Symbol]) -> dict[str, Any]:
    """Return symbols as JSON's own types."""
    return {
        "symbols": [
            {
                "ticker": one.ticker,
                "asset_type": one.asset_type,
                "calendar": one.calendar,
                "listed_on": one.listed_on.isoformat() if one.listed_on else None,
                "delisted_on": one.delisted_on.isoformat() if one.delisted_on else None,
                "confirmed": one.confirmed,
                "retired_on": one.retired_on.isoformat() if one.retired_on else None,
                "aliases": [
                    {
                        "ticker": alias.ticker,
                        "from": alias.valid_from.isoformat(),
                        "until": alias.valid_until.isoformat(),
                    }
                    for alias in one.aliases
                ],
            }
            for one in found
        ]
    }


def watchlist(entries: Iterable[WatchEntry]) -> None:
    """Print the watchlist."""
    table = _table("symbol", "timeframes", "since", "priority", "paused")
    for entry in entries:
        table.add_row(
            entry.symbol.ticker,
            " ".join(entry.timeframes),
            entry.since or "as the plan allows",
            str(entry.priority or ""),
            "yes" if entry.paused else "",
        )
    _console().print(table)


def watchlist_as_dict(entries: Iterable[WatchEntry]) -> dict[str, Any]:
    """Return the watchlist as JSON's own types."""
    return {
        "watchlist": [
            {
                "symbol": entry.symbol.ticker,
                "timeframes": [str(one) for one in entry.timeframes],
                "since": entry.since,
                "paused": entry.paused,
                "priority": entry.priority,
            }
            for entry in entries
        ]
    }


def quarantine(bars: list[QuarantinedBar]) -> None:
    """Print bars in quarantine with their raw values, and why they are there."""
    out = _console()
    if not bars:
        out.print("no bar is in quarantine")
        return
    table = _table(
        "symbol", "timeframe", "ts", "reason", "open", "high", "low", "close", "volume",
        "in the table", "accepted", "since", "run",
    )  # fmt: skip
    for bar in bars:
        values = (bar.raw.get(name) for name in ("open", "high", "low", "close", "volume"))
        table.add_row(
            bar.symbol,
            str(bar.timeframe),
            f"{bar.ts:%Y-%m-%d %H:%M:%S}",
            bar.reason,
            *("" if value is None else str(value) for value in values),
            "a bar by now" if bar.stored else "",
            _time(bar.accepted_at),
            _time(bar.quarantined_at),
            str(bar.run_id),
        )
    out.print(table)
    out.print(f"{len(bars):,} bars; `backfill quarantine retry` asks again, `accept` leaves it")


def retried(series: list[Reopened]) -> None:
    """Print the series that the next run asks again, and what to do for that."""
    out = _console()
    if not series:
        out.print(
            "nothing to ask again for: none of these bars lies in a covered slot that lacks one"
        )
        return
    for one in series:
        out.print(f"{one.symbol} {one.timeframe}: {one.slots:,} slots are to be asked for again")
    tickers = ",".join(dict.fromkeys(one.symbol for one in series))
    flags = "".join(f" -t {name}" for name in sorted({str(one.timeframe) for one in series}))
    out.print(f"The next run does it: backfill run --symbols {tickers}{flags} --incremental")


_NUMBERS: Final = {
    "open",
    "high",
    "low",
    "close",
    "volume",
    "bars",
    "priority",
    "calls",
    "at most",
    "bars at most",
    "ranges",
    "rejected",
    "slots",
}


class Live:
    """One line on the terminal that tells how far a run is, renewed four times a second."""

    def __init__(self) -> None:
        self._running: Running | None = None
        self._idle = False
        self._began = time.monotonic()
        self._live = RichLive(
            console=Console(stderr=True),
            get_renderable=self._line,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def watch(self, running: Running | None) -> None:
        """Show a run from now on, or that there is none to show."""
        self._running = running
        self._idle = running is None
        self._began = time.monotonic()

    def _line(self) -> Text:
        if self._running is None:
            return Text("waiting for the next bar, or a change…" if self._idle else "planning…")
        plan, tally, bars = self._running.plan, self._running.tally, self._running.outcomes.bars
        stored = bars.inserted + bars.updated + bars.unchanged
        passed_s = max(time.monotonic() - self._began, 0.001)
        left_s = max(plan.calls - tally.calls, 0) * plan.seconds / max(plan.calls, 1)
        return Text(
            f"{tally.calls} of about {plan.calls} calls · {stored:,} bars · "
            f"{stored / passed_s:,.0f} bars/s · about {_duration(left_s)} left at the quota"
        )


def _console() -> Console:
    # A file or a pipe has no width to cut a table to.
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return Console(highlight=False, soft_wrap=True, width=width)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        numeric = column in _NUMBERS
        table.add_column(column, justify="right" if numeric else "left", no_wrap=column != "why")
    return table


def _covered(one: SeriesStatus) -> str:
    if not one.coverage:
        return ""
    return f"{one.coverage[0][0]:%Y-%m-%d} – {one.coverage[-1][1]:%Y-%m-%d}"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _day(iso: str | None) -> str:
    return iso[:10] if iso else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
