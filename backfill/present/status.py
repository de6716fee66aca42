"""How it stands with what is kept, as people see it: on a terminal, or as a page of Markdown."""

from typing import TYPE_CHECKING, Final

from backfill.core.freshness import State
from backfill.core.plain import argument
from backfill.present import markdown as md
from backfill.present.columns import print_table
from backfill.present.tables import console, on_screen, percent_text, time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backfill.audit.status import SeriesStatus
    from backfill.core.series import SymbolId

_SHOWN: Final = 20
_COLUMNS: Final = (
    "symbol", "timeframe", "bars", "oldest", "newest", "wanted since", "share", "covered", "ranges",
    "fresh", "rejected",
)  # fmt: skip
_GIVING_WAY: Final = ("covered", "oldest", "wanted since", "newest")
_SPARSE: Final = {"ranges", "rejected"}
"""Columns that are not there while no series has anything to tell in them."""


def status(
    series: "Sequence[SeriesStatus]",
    shown: "Sequence[SeriesStatus] | None" = None,
    *,
    markdown: bool = False,
) -> None:
    """Print how series stand: those that are judged, then those that nobody keeps up to date.

    The sentences beneath count all of them, the tables are of those ``shown``. As a page if
    ``markdown``; on a terminal that is for eyes: there a name is spelled as it is.
    """
    out = console()
    if not series:
        out.print(
            "No series yet: add one with `backfill watch add AAPL`, then `backfill run --all`."
        )
        return
    some = series if shown is None else shown
    parts = [
        (
            [one for one in some if one.judged is judged],
            remarks([one for one in series if one.judged is judged]),
        )
        for judged, remarks in ((True, _judgement), (False, _left))
    ]
    if markdown:
        text = md.readable if on_screen() else md.text
        pages = ["\n".join([*_page(table, text), *told]) for table, told in parts if told]
        out.print("\n".join(["\n\n".join(pages), *map(text, [*_reloading(some), *_jumps(some)])]))
        return
    for table, told in parts:
        _print(table)
        for line in told:
            out.print_wrapped(line)
    for line in [*_reloading(some), *_jumps(some)]:
        out.print(line)


def orphans(ids: "Sequence[SymbolId]") -> None:
    """Say that there are bars of symbols that aren't there, and what can be done."""
    named = ", ".join(map(str, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "")
    console().print_wrapped(
        f"ohlc_bars holds bars of {len(ids)} ids that symbols lacks ({named}): nobody keeps them. "
        "Put their rows of symbols back, or delete the bars"
    )


def _print(series: "Sequence[SeriesStatus]") -> None:
    if not series:
        return
    columns = _columns(series)
    print_table(columns, (_cells(one, columns) for one in series), _GIVING_WAY)


def _page(series: "Sequence[SeriesStatus]", text: "Callable[[str], str]") -> list[str]:
    if not series:
        return []
    columns = _columns(series)
    rows = (md.row(*map(text, _cells(one, columns))) for one in series)
    return [*md.head(*columns), *rows, ""]


def _judgement(series: "Sequence[SeriesStatus]") -> list[str]:
    """Say how many are stale, and how much is there of what is wanted."""
    if not series:
        return []
    stale = sum(one.is_stale for one in series)
    told = f"{len(series)} series, {f'{stale} stale' if stale else 'all fresh'}"
    parts = [one.share for one in series if one.is_incomplete and one.share is not None]
    if parts:
        mean = percent_text(sum(parts) / len(parts)).replace("<", "under ")
        told += (
            f"; {len(parts)} {'has' if len(parts) == 1 else 'have'} only part of what is wanted, "
            f"{mean}{' in the mean' if len(parts) > 1 else ''}"
        )
    silent = sum(one.state is State.silent for one in series)
    if not silent:
        return [told]
    why = (
        f"{silent} silent: the provider was asked, and after the newest bar none came for longer "
        "than is usual there; no second answer has confirmed that"
    )
    return [told, why]


def _left(series: "Sequence[SeriesStatus]") -> list[str]:
    """Say what becomes of series that nobody keeps up to date."""
    if not series:
        return []
    why = (
        f"{len(series)} series that nobody watches, so not judged: run --all leaves them out, "
        "and watch add keeps them up to date"
    )
    return [why]


def _reloading(series: "Iterable[SeriesStatus]") -> list[str]:
    """Say which bars may be on another share basis than the others, and what mends it."""
    return [
        f"{one.symbol} {one.timeframe} is being loaded again: bars from {time_text(first)} to "
        f"{time_text(last)} may be on the share basis before a split, the others are not; to go "
        f"on: backfill run {argument(one.symbol)} -t {one.timeframe}"
        for one in series
        if one.reloading
        for first, last in [one.reloading]
    ]


def _jumps(series: "Iterable[SeriesStatus]") -> list[str]:
    """Say where closes jump as with a split that nobody lists, and what to do if there was one."""
    return [
        f"{one.symbol}: the closes jump on {day} as with a split of {ratio} that nobody lists; if "
        f"it was one: backfill actions set {argument(one.symbol)} {day} {ratio}"
        for one in series
        for day, ratio in one.unlisted_splits
    ]


def _columns(series: "Iterable[SeriesStatus]") -> list[str]:
    """Return the columns in which any of the series has something to tell."""
    told = [_named(one) for one in series]
    return [name for name in _COLUMNS if name not in _SPARSE or any(one[name] for one in told)]


def _cells(one: "SeriesStatus", columns: "Iterable[str]") -> list[str]:
    named = _named(one)
    return [named[name] for name in columns]


def _named(one: "SeriesStatus") -> dict[str, str]:
    covered, ranges = "", len(one.coverage)
    if one.coverage:
        covered = f"{one.coverage[0][0]:%Y-%m-%d} – {one.coverage[-1][1]:%Y-%m-%d}"
    return {
        "symbol": one.symbol,
        "timeframe": one.timeframe,
        "bars": f"{one.bars:,}",
        "oldest": f"{one.oldest:%Y-%m-%d}" if one.oldest else "",
        "newest": time_text(one.newest),
        "wanted since": f"{one.wanted_since:%Y-%m-%d}" if one.wanted_since else "",
        "share": percent_text(one.share),
        "covered": covered,
        "ranges": f"{ranges:,}" if ranges > 1 else "",
        "fresh": fresh_text(one),
        "rejected": f"{one.quarantined:,}" if one.quarantined else "",
    }


def fresh_text(one: "SeriesStatus") -> str:
    """Say whether a series is fresh, and if not, what it lacks."""
    match one.state:
        case State.fresh:
            return "yes"
        case State.silent:
            return f"no, {one.silent:,} silent"
        case _:
            return f"no, {one.behind:,} due" if one.behind else "no, no bars"
