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

from backfill.api import Repair, Running
from backfill.core.series import Symbol
from backfill.gaps import SeriesGaps
from backfill.quarantine import Reopened
from backfill.status import SeriesStatus
from backfill.store.quarantine import QuarantinedBar
from backfill.store.times import to_time
from backfill.store.universe import WatchEntry
from backfill.summary import Plan, Summary

_UNBOUNDED: Final = 1000


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
            one.refusal or "",
        )
    out.print(table)
    out.print(
        f"{result.calls} calls expected, {result.calls_max} at most; up to {result.bars:,} bars; "
        f"about {_duration(result.seconds)} at the quota. Nothing was called."
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


def gaps_as_dict(found: list[SeriesGaps]) -> dict[str, Any]:
    """Return gaps as JSON's own types."""
    return {"series": [one.as_dict() for one in found]}


def repair(done: Repair) -> None:
    """Print what a repair did, and what is left."""
    if done.summary is not None:
        summary(done.summary)
    gaps(done.left)


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
    table = _table("symbol", "timeframes", "since", "paused")
    for entry in entries:
        table.add_row(
            entry.symbol.ticker,
            " ".join(entry.timeframes),
            entry.since or "as the plan allows",
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

    def watch(self, running: Running) -> None:
        """Show a run from now on."""
        self._running = running
        self._began = time.monotonic()

    def _line(self) -> Text:
        if self._running is None:
            return Text("planning…")
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
