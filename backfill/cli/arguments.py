"""From the flags of the command line to what they mean; every fault in them is a usage error."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from backfill.core.archive import Use
from backfill.core.series import ticker_traits
from backfill.core.ticker import Ticker, spelling
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound, parse_bound, parse_clock
from backfill.core.work import Mode
from backfill.errors import UsageError
from backfill.run.job import Job, Scope

if TYPE_CHECKING:
    from backfill.store.quarantine import Choice

STATUS_FORMATS: Final = ("table", "markdown", "json", "prometheus")


def job(
    *,
    symbol: list[str] | None,
    symbols: str | None,
    everything: bool,
    timeframe: list[str] | None,
    all_timeframes: bool,
    as_watched: bool,
    incremental: bool,
    reload: bool,
    first: str | None,
    last: str | None,
    as_of: str | None,
    max_calls: int | None,
    deadline_s: float | None,
    archive: str | None = None,
) -> Job:
    """Return the job that the flags of ``run`` describe.

    Raises
    ------
    UsageError
        If they contradict each other, or one can't be read.
    """
    named = tickers([*(symbol or []), *(symbols.split(",") if symbols is not None else [])])
    if everything and named:
        raise UsageError("--all goes without symbols")
    if not everything and not named:
        raise UsageError(
            "name what to run: backfill run AAPL MSFT, as --symbol AAPL does; or --all that is "
            "watched"
        )
    wanted = timeframes(timeframe, all_timeframes=all_timeframes)
    if as_watched and not (everything and wanted):
        raise UsageError("--as-watched goes with --all and --timeframe")
    if incremental and reload:
        raise UsageError("--incremental and --reload exclude each other")
    if max_calls is not None and max_calls < 0:
        raise UsageError("--max-calls is a number of calls, 0 or more")
    if deadline_s is not None and not deadline_s >= 0:
        raise UsageError("--deadline is a number of seconds, 0 or more")
    if archive is not None and archive not in set(Use):
        raise UsageError(f"--archive {archive!r} is not one of: {' '.join(Use)}")
    clock = parse_clock(as_of) if as_of is not None else None
    modes = {(True, False): Mode.incremental, (False, True): Mode.reload}
    return Job(
        symbols=None if everything else tuple(named),
        timeframes=wanted,
        as_watched=as_watched,
        mode=modes.get((incremental, reload), Mode.default),
        first=_bound(first, clock),
        last=_bound(last, clock),
        as_of=clock,
        max_calls=max_calls,
        deadline_s=deadline_s,
        archive=Use(archive) if archive is not None else Use.auto,
    )


def check_watch(job: Job, *, dry_run: bool) -> None:
    """See that a job can be run round after round.

    Raises
    ------
    UsageError
        If a flag makes no sense with ``--watch``.
    """
    if job.symbols is not None:
        raise UsageError("--watch goes with --all")
    if job.mode is Mode.reload:
        raise UsageError("--watch goes without --reload: every round would fetch all again")
    if job.as_of is not None:
        raise UsageError("--watch goes without --as-of: that clock stands still")
    if dry_run:
        raise UsageError("--watch goes without --dry-run")


def scope(
    symbol: list[str] | None,
    timeframe: list[str] | None,
    first: str | None,
    last: str | None,
    as_of: datetime | None = None,
) -> Scope:
    """Return which series, and which part of them, the flags name; all of it without any.

    A length back counts from ``as_of``, or from now.

    Raises
    ------
    UsageError
        If one can't be read, or the range ends before it begins.
    """
    found = Scope(
        tickers=tickers(symbol) if symbol else None,
        timeframes=timeframes(timeframe, all_timeframes=False),
        first=_bound(first, as_of),
        last=_bound(last, as_of),
    )
    if found.first is not None and found.last is not None and found.first.is_after(found.last):
        raise UsageError(f"--from {found.first.at} is after --to {found.last.at}")
    return found


def today(as_of: datetime | None = None) -> date:
    """Return the day that lengths back are counted from, by UTC."""
    return (as_of or datetime.now(UTC)).date()


def _bound(text: str | None, as_of: datetime | None) -> Bound | None:
    return parse_bound(text, today(as_of)) if text is not None else None


def symbols_named(symbols: list[str] | None, flagged: list[str] | None) -> list[str]:
    """Return the symbols that stand behind a command, with commas between or without, and flags."""
    return [*(one for text in symbols or () for one in text.split(",")), *(flagged or ())]


def tickers(names: list[str], *, retired: bool = False) -> list[str]:
    """Return tickers, stripped, each once, in their order; with ``retired`` dated names too.

    Of two spellings of one symbol the first counts.

    Raises
    ------
    UsageError
        If one has no valid form.
    """
    found: dict[str, str] = {}
    for name in map(str.strip, names):
        ticker_traits(Ticker.read(name).body if retired else name)
        found.setdefault(spelling(name), name)
    return list(found.values())


def timeframes(names: list[str] | None, *, all_timeframes: bool) -> tuple[Timeframe, ...] | None:
    """Return the timeframes that are named, finest first; None if none are.

    Raises
    ------
    UsageError
        If there is no such timeframe, or both all and some are named.
    """
    if all_timeframes:
        if names:
            raise UsageError("--all-timeframes goes without --timeframe")
        return tuple(Timeframe)
    wanted = {part.strip() for name in names or [] for part in name.split(",")}
    unknown = wanted - set(Timeframe)
    if unknown:
        known = " ".join(Timeframe)
        raise UsageError(f"timeframe {sorted(unknown)[0]!r} is not one of: {known}")
    return tuple(one for one in Timeframe if one in wanted) or None


def one_timeframe(name: str) -> Timeframe:
    """Return the timeframe that is named.

    Raises
    ------
    UsageError
        If there is no such timeframe, or several are named.
    """
    found = timeframes([name], all_timeframes=False) or ()
    if len(found) != 1:
        raise UsageError(f"name one timeframe, such as d1, and not {name!r}")
    return found[0]


def status_format(name: str | None, *, as_json: bool) -> str:
    """Return how a status is to be written: ``table`` unless one is named.

    Raises
    ------
    UsageError
        If there is no such format, or ``--json`` is given beside another.
    """
    return one_format(name, STATUS_FORMATS, as_json=as_json)


def one_format(name: str | None, formats: Sequence[str], *, as_json: bool) -> str:
    """Return how a result is to be written: as the first of the formats unless one is named.

    Raises
    ------
    UsageError
        If there is no such format, or ``--json`` is given beside another.
    """
    if as_json and name not in {None, "json"}:
        raise UsageError("--json goes without another --format")
    if name is not None and name not in formats:
        raise UsageError(f"format {name!r} is not one of: {' '.join(formats)}")
    return "json" if as_json else name or formats[0]


def choice(
    symbol: list[str] | None,
    timeframe: list[str] | None,
    reason: list[str] | None,
    *,
    everything: bool,
) -> "Choice":
    """Return which bars in quarantine the flags name; all of them only if ``everything`` is set.

    Raises
    ------
    UsageError
        If one can't be read, or they name nothing, or both some and all.
    """
    named = bool(symbol or timeframe or reason)
    if everything and named:
        raise UsageError("--all goes without --symbol, --timeframe and --reason")
    if not everything and not named:
        raise UsageError("name which: --symbol S, --timeframe T, --reason R or --all")
    return filters(symbol, timeframe, reason)


def filters(
    symbol: list[str] | None, timeframe: list[str] | None, reason: list[str] | None
) -> "Choice":
    """Return which bars in quarantine the flags name; all of them without any.

    Raises
    ------
    UsageError
        If one can't be read.
    """
    from backfill.core.checks import Reason
    from backfill.store.quarantine import Choice

    unknown = set(reason or ()) - set(Reason)
    if unknown:
        raise UsageError(f"reason {sorted(unknown)[0]!r} is not one of: {' '.join(Reason)}")
    return Choice(
        tickers=tickers(symbol, retired=True) if symbol else None,
        timeframes=timeframes(timeframe, all_timeframes=False),
        reasons=[Reason(name) for name in reason] if reason else None,
    )
