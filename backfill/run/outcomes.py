"""The result of a run: the summary, its status and its exit code."""

# Over 300 lines: what became of every series, and the one summary that is made of it.

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, field, replace
from typing import Any, Final
from uuid import UUID

from backfill.core.dataclass import dataclass
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Split
from backfill.errors import BackfillError, QuotaUsedUp, SharedFault, Stopped
from backfill.fetch.tally import Tally
from backfill.run.symbol_events import RunSymbols, SymbolEvent
from backfill.store.counts import Counts
from backfill.store.runs import RunEnd

_SHOWN: Final = 5

QUARANTINED: Final = "quarantined"
"""The outcome of a series of which bars failed a check."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A series that failed, and why."""

    symbol: str
    timeframe: str
    outcome: str
    message: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """What one provider was sent, and how many of its series failed."""

    calls: int
    lookups: int
    retries: int
    rate_limited: int
    failed: int


@dataclass(slots=True)
class SeriesCounts:
    """How many series there were, and what became of them."""

    total: int = 0
    complete: int = 0
    partial: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def not_reached(self) -> int:
        """How many nothing became of, since the run ended before."""
        return self.total - self.complete - self.partial - self.failed - self.skipped


@dataclass(frozen=True, slots=True)
class TimeframeCounts:
    """What became of the series of one timeframe, and of their bars."""

    timeframe: str
    series: SeriesCounts
    bars: Counts


@dataclass(frozen=True, slots=True)
class Rebased:
    """A series whose provider has put all prices on another share basis than it was stored on.

    The stored prices were ``factor`` times as high; all of it is asked for again, but for the
    ``expelled`` bars, which the plan can't read again: they left for quarantine.
    """

    series: Series
    factor: float
    expelled: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        symbol, timeframe = self.series
        return {
            "symbol": symbol.ticker,
            "timeframe": str(timeframe),
            "factor": self.factor,
            "expelled": self.expelled,
        }

    def __str__(self) -> str:
        symbol, timeframe = self.series
        left = f"; {self.expelled} that can't be read again left for quarantine"
        return (
            f"{symbol.ticker} {timeframe} was stored {self.factor:g} times as high as its provider "
            f"has it now, as after a split: all of it is asked for again"
            f"{left if self.expelled else ''}"
        )


@dataclass(frozen=True, slots=True)
class Looked:
    """Which series a run looked at, of which all that is due is in place, and which it left."""

    series: Collection[Series] = ()
    in_place: Collection[Series] = ()
    skipped: Collection[Series] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did: the last event of its log, the ``--json`` object and its ledger row.

    ``provider`` is ``mixed`` where there were several; ``providers`` tells them apart.
    ``error`` is the cause that ended the whole run, if one did, ``timeframes`` the same counts by
    timeframe: people are told of both. ``rate_limited_by_others`` of the 429s came although every
    run that uses the database kept the quota. ``symbol_events`` tell what became of its symbols,
    ``rebased`` which series were on an old share basis. ``wait_s`` is for how many seconds the
    quota has nothing left, where that is what stopped it; ``looked`` is for whoever tells others.
    """

    run_id: str
    status: str
    exit_code: int
    mode: str
    provider: str
    providers: dict[str, LaneCounts]
    calls: int
    lookups: int
    retries: int
    rate_limited: int
    duration_s: float
    series: SeriesCounts
    bars: Counts
    failures: list[Failure]
    timeframes: list[TimeframeCounts]
    error: str | None = None
    rate_limited_by_others: int = 0
    symbol_events: list[SymbolEvent] = field(default_factory=list)
    rebased: list[Rebased] = field(default_factory=list)
    wait_s: float | None = None
    looked: Looked = field(default=Looked(), repr=False, compare=False)

    @property
    def notice(self) -> str | None:
        """What else the user should know of the run."""
        told = [str(one) for one in self.rebased[:_SHOWN]]
        if len(self.rebased) > _SHOWN:
            told.append(f"and {len(self.rebased) - _SHOWN:,} more series likewise")
        if self.rate_limited_by_others:
            told.append(self._by_others)
        return "; ".join(told) or None

    @property
    def _by_others(self) -> str:
        return (
            f"{self.rate_limited_by_others} call(s) were answered 429 although every run that uses "
            "this database kept the quota: somebody else uses the key, or its plan allows less "
            "than BACKFILL_PLAN or BACKFILL_QUOTA say"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what the contract names, as JSON's own types; ``rebased`` where there is one."""
        values = asdict(replace(self, looked=Looked()))
        for name in ("error", "timeframes", "rebased", "wait_s", "looked"):
            del values[name]
        values["symbol_events"] = [one.as_dict() for one in self.symbol_events]
        rebased = [one.as_dict() for one in self.rebased]
        return values | ({"rebased": rebased} if rebased else {})

    def as_run_end(self, symbols: int) -> RunEnd:
        """Return what the run ledger keeps of it."""
        return RunEnd(
            status=self.status,
            symbols=symbols,
            calls=self.calls,
            lookups=self.lookups,
            retries=self.retries,
            rate_limited=self.rate_limited,
            bars=self.bars,
            failures=[asdict(failure) for failure in self.failures],
            error=self.error,
            exit_code=self.exit_code,
        )


@dataclass(slots=True)
class Outcomes:
    """What became of every series of a run, as it goes on.

    ``failed`` holds each series' first failure; ``stored`` the series that a bar was stored of;
    ``rejected`` counts the quarantined bars of a series; ``set_aside`` are the splits that the
    stored prices contradict, told of once, ``rebased`` series that were on an old share basis.
    ``provider_of`` names whom each series is asked of, and ``listed`` those whose lists were read,
    ``relisted`` those of whom some of them were asked for in this run.
    What is complete is in place where the run ``asks_all``, and no part of a series only.
    ``fault`` ended the run, one of ``faults`` its lane. ``symbols`` is what is known of the run's
    symbols, and becomes known.
    """

    series: Sequence[Series]
    provider_of: Mapping[Series, str] = field(default_factory=dict)
    asks_all: bool = True
    symbols: RunSymbols = field(default_factory=RunSymbols)
    complete: set[Series] = field(default_factory=set)
    skipped: set[Series] = field(default_factory=set)
    stored: set[Series] = field(default_factory=set)
    rejected: dict[Series, int] = field(default_factory=dict)
    failed: dict[Series, BackfillError] = field(default_factory=dict)
    set_aside: list[Split] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    relisted: set[str] = field(default_factory=set)
    bars: Counts = field(default_factory=Counts)
    bars_of: dict[Timeframe, Counts] = field(default_factory=dict)
    fault: SharedFault | None = None
    faults: dict[str, SharedFault] = field(default_factory=dict)
    stopped: Stopped | None = None
    rebased: list[Rebased] = field(default_factory=list)

    def unfinished(self, of: Iterable[Series]) -> list[Series]:
        """Return which of some series the run has left before their end."""
        done = self.complete | self.skipped | self.failed.keys()
        return [series for series in of if series not in done]

    def fail(self, series: Series, error: BackfillError) -> None:
        """Note why a series failed, unless it is noted already; to the end of the run."""
        error.let_go()
        self.failed.setdefault(series, error)

    def count(self, series: Series, counts: Counts) -> None:
        """Count what a page brought to a series."""
        self.bars.add(counts)
        self.bars_of.setdefault(series.timeframe, Counts()).add(counts)
        if counts.inserted or counts.updated or counts.unchanged:
            self.stored.add(series)
        if counts.rejected:
            self.rejected[series] = self.rejected.get(series, 0) + counts.rejected

    def rebase(self, one: Rebased) -> None:
        """Note a series that was on an old share basis, and count what of it left."""
        self.rebased.append(one)
        if one.expelled:
            self.count(one.series, Counts(withdrawn=one.expelled))

    def expel(self, series: Series, bars: int) -> None:
        """Count stored bars that were found to be another company's: they went to quarantine."""
        self.count(series, Counts(withdrawn=bars))
        self.rejected[series] = self.rejected.get(series, 0) + bars

    def summary(
        self,
        run_id: UUID,
        mode: str,
        tallies: Mapping[str, Tally],
        duration_s: float,
        *,
        told: Callable[[str], str],
    ) -> Summary:
        """Return the summary of the run as it ended; ``tallies`` are what each provider was sent.

        ``told`` makes a message fit to leave: whoever reads the summary prints, stores or sends it
        as it is.
        """
        counts = self._series_counts(self.series)
        exit_code = self._exit_code(tallies)
        tally = Tally.of(tallies.values())
        lanes = self.faults.values() if exit_code == 3 else ()
        error = self.fault or next(iter(lanes), None) or self.stopped
        return Summary(
            run_id=str(run_id),
            status=self._status(exit_code, counts),
            exit_code=exit_code,
            mode=mode,
            provider=next(iter(tallies)) if len(tallies) == 1 else "mixed",
            providers={name: self._lane(name, one) for name, one in tallies.items()},
            calls=tally.calls,
            lookups=tally.lookups,
            retries=tally.retries,
            rate_limited=tally.rate_limited,
            duration_s=round(duration_s, 3),
            series=counts,
            bars=self.bars,
            failures=self._failures(told),
            timeframes=self._timeframes(),
            error=told(str(error)) if error else None,
            rate_limited_by_others=tally.rate_limited_by_others,
            symbol_events=self.symbols.events(one.symbol for one in self.series),
            rebased=list(self.rebased),
            wait_s=self.stopped.wait_s if isinstance(self.stopped, QuotaUsedUp) else None,
            looked=Looked(self.series, self.complete if self.asks_all else (), self.skipped),
        )

    def _failures(self, told: Callable[[str], str]) -> list[Failure]:
        failures = [
            Failure(
                series.symbol.ticker,
                str(series.timeframe),
                error.outcome,
                told(str(error)),
                self.provider_of.get(series, ""),
            )
            for series, error in self.failed.items()
        ]
        failures += [
            Failure(
                series.symbol.ticker,
                str(series.timeframe),
                QUARANTINED,
                f"{bars} bar(s) failed a check and went to quarantined_bars",
                self.provider_of.get(series, ""),
            )
            for series, bars in self.rejected.items()
            if series not in self.failed
        ]
        failures += [
            Failure(
                split.ticker,
                str(Timeframe.d1),
                QUARANTINED,
                f"the split {split.split_to:g} for {split.split_from:g} of {split.execution_date} "
                "contradicts the raw prices around it and is set aside",
            )
            for split in self.set_aside
        ]
        return failures

    def _timeframes(self) -> list[TimeframeCounts]:
        kept = {series.timeframe for series in self.series}
        return [
            TimeframeCounts(
                str(timeframe),
                self._series_counts([one for one in self.series if one.timeframe is timeframe]),
                self.bars_of.get(timeframe, Counts()),
            )
            for timeframe in Timeframe
            if timeframe in kept
        ]

    def _series_counts(self, of: Sequence[Series]) -> SeriesCounts:
        counts = SeriesCounts(total=len(of))
        bad = self.failed.keys() | self.rejected.keys()
        for series in of:
            if series in self.skipped:
                counts.skipped += 1
            elif series in self.complete and series not in bad:
                counts.complete += 1
            elif series in self.stored:
                counts.partial += 1
            elif series in bad:
                counts.failed += 1
        return counts

    def _lane(self, name: str, tally: Tally) -> LaneCounts:
        failed = sum(self.provider_of.get(series) == name for series in self.failed)
        return LaneCounts(tally.calls, tally.lookups, tally.retries, tally.rate_limited, failed)

    def _is_down(self, name: str, tally: Tally) -> bool:
        """Whether a provider gave nothing: it refused the key, or not one call was answered."""
        unheard = tally.is_unheard and name in map(self.provider_of.get, self.failed)
        return self.faults[name].exit_code == 3 if name in self.faults else unheard

    def _exit_code(self, tallies: Mapping[str, Tally]) -> int:
        """130 goes before 3, 1 and 5; 3 is for what every provider that was asked shares."""
        if self.stopped is not None and self.stopped.exit_code == 130:
            return 130
        asked = {
            name: tally
            for name, tally in tallies.items()
            if name in self.faults or tally.calls + tally.lookups
        }
        all_down = bool(asked) and all(self._is_down(*one) for one in asked.items())
        if self.fault is not None or all_down:
            return 3
        if self.faults or self.failed or self.rejected or self.set_aside:
            return 1
        return self.stopped.exit_code if self.stopped else 0

    def _status(self, exit_code: int, counts: SeriesCounts) -> str:
        match exit_code:
            case 0:
                return "ok"
            case 130:
                return "interrupted"
            case 5:
                return "stopped"
        return "partial" if self.stored or counts.complete else "failed"
