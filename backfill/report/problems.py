"""What somebody should see to, the worst first, each with the command that mends it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from backfill.audit.overview import Overview, Standing
from backfill.core.empty import EmptyReason
from backfill.core.plain import argument
from backfill.core.series import IMPORT
from backfill.core.timeframe import Timeframe
from backfill.present.status import fresh_text
from backfill.present.tables import amount, percent_text, time_text
from backfill.report.commands import RUN_ALL, named
from backfill.report.facts import LISTED, Case, Problem
from backfill.report.failed import failed, held, last_run
from backfill.store.times import to_time


@dataclass(frozen=True, slots=True)
class Lack:
    """A series with what it lacks; ``missing`` of its slots nothing explains."""

    standing: Standing
    missing: int


def problems(seen: Overview, lacks: Sequence[Lack]) -> Iterator[Problem]:
    """Yield what is wrong, the worst first."""
    yield from last_run(seen)
    yield from failed(seen)
    yield from held(seen)
    yield from _left_out(seen)
    yield from _stale(seen)
    yield from _reloading(seen)
    yield from _missing(lacks)
    yield from _waiting(seen)
    yield from _quarantined(seen)
    yield from _uncovered(seen)
    yield from _events(seen)
    yield from _splits(seen)
    yield from _orphans(seen)


def _left_out(seen: Overview) -> Iterator[Problem]:
    if count := len(seen.left_out):
        yield Problem(
            f"{amount(count, 'symbol')} of the watchlist can't be kept",
            "Their rows can't be meant, so nothing else here counts them: see docs/runbook.md.",
            "backfill watch list",
            count,
            tuple(Case(one.symbol, one.why, None) for one in seen.left_out[:LISTED]),
        )


def _stale(seen: Overview) -> Iterator[Problem]:
    found = [one for one in seen.standings if one.status.is_stale]
    why = "Bars are due that are not there: nobody asked for them, or the provider had none."
    yield from _of_series(
        found,
        ("is stale", "are stale"),
        why,
        _run(seen, found),
        _fresh,
        lambda one: _run(seen, [one]),
    )


def _reloading(seen: Overview) -> Iterator[Problem]:
    found = [one for one in seen.standings if one.status.reloading]
    why = (
        "Until that is done, some of their bars may be on the share basis before a split: "
        "`backfill serve` and exports leave those out, the table has them."
    )
    yield from _of_series(
        found,
        ("is being loaded again", "are being loaded again"),
        why,
        _run(seen, found),
        lambda one: " to ".join(map(time_text, one.status.reloading or ())),
        lambda one: _run(seen, [one]),
    )


def _missing(lacks: Sequence[Lack]) -> Iterator[Problem]:
    found = [one.standing for one in lacks]
    numbers = {one.standing.tracked.series: one.missing for one in lacks}
    why = "Their slots were answered for, and no bar is there: lost, or deleted."
    yield from _of_series(
        found,
        ("lacks bars that were answered for", "lack bars that were answered for"),
        why,
        "backfill gaps --repair",
        lambda one: f"{amount(numbers[one.tracked.series], 'bar')} missing",
        _repair,
    )


def _waiting(seen: Overview) -> Iterator[Problem]:
    """Tell of slots that the provider had nothing for, where that alarms."""
    waits = {
        one.tracked.series: [gap for gap in one.gaps if gap.alarms and gap.reason in _WAITING]
        for one in seen.standings
    }
    found = [one for one in seen.standings if waits[one.tracked.series]]

    def told(one: Standing) -> str:
        gaps = waits[one.tracked.series]
        again = [gap.again_ms for gap in gaps if gap.again_ms is not None]
        when = f", asked again from {time_text(to_time(min(again)))}" if again else ""
        return f"{amount(sum(gap.slots for gap in gaps), 'slot')} unconfirmed{when}"

    why = (
        "The provider was asked and had none where bars are usual. It may be late, or have lost "
        "them: a second answer on another day settles that, and runs ask for it by themselves."
    )
    yield from _of_series(
        found,
        ("lacks bars that the provider didn't have", "lack bars that the provider didn't have"),
        why,
        "backfill gaps --repair",
        told,
        _repair,
    )


_WAITING: Final = {EmptyReason.unconfirmed, EmptyReason.absent}


def _quarantined(seen: Overview) -> Iterator[Problem]:
    found = [one for one in seen.standings if one.status.quarantined]
    bars = sum(one.status.quarantined for one in found)
    why = (
        f"{amount(bars, 'bar')} failed a check and never reached the table. Look at them, then "
        "have them asked for again (`backfill quarantine retry`) or mark them as seen (`… accept`)."
    )
    yield from _of_series(
        found,
        ("has bars in quarantine", "have bars in quarantine"),
        why,
        "backfill quarantine list",
        lambda one: amount(one.status.quarantined, "bar"),
        lambda one: f"backfill quarantine list {_one(one)}",
    )


def _uncovered(seen: Overview) -> Iterator[Problem]:
    found = [one for one in seen.standings if one.status.is_incomplete and not one.status.is_stale]
    why = "The rest of what is wanted was not asked for yet, or its plan doesn't read it."
    yield from _of_series(
        found,
        ("has only part of what is wanted", "have only part of what is wanted"),
        why,
        _run(seen, found),
        lambda one: f"{percent_text(one.status.share)}; {one.status.missing:,} not covered yet",
        lambda one: _run(seen, [one]),
    )


def _events(seen: Overview) -> Iterator[Problem]:
    for event in seen.events:
        command = event.commands[0] if event.commands else "backfill symbols list"
        more = [Case(event.symbol, "or", other) for other in event.commands[1:]]
        title = f"{event.symbol}: {str(event.event).replace('_', ' ')}"
        yield Problem(title, f"{event.message}.", command, len(more), tuple(more))


def _splits(seen: Overview) -> Iterator[Problem]:
    cases = [
        Case(
            one.status.symbol,
            f"on {day}, as with a split of {ratio}",
            f"backfill actions set {argument(one.status.symbol)} {day} {ratio}",
        )
        for one in seen.standings
        for day, ratio in one.status.unlisted_splits
    ]
    if cases:
        yield Problem(
            f"{amount(len(cases), 'jump')} of daily closes as with a split that nobody lists",
            "If there was one, set it; if not, nothing is to be done.",
            cases[0].command or "",
            len(cases),
            tuple(cases[:LISTED]),
        )


def _orphans(seen: Overview) -> Iterator[Problem]:
    if seen.orphans:
        yield Problem(
            f"ohlc_bars holds bars of {amount(len(seen.orphans), 'id')} that symbols lacks",
            "Nobody keeps them. Put their rows of symbols back, or delete the bars.",
            'backfill sql "SELECT DISTINCT symbol_id FROM ohlc_bars AS b WHERE NOT EXISTS '
            '(SELECT FROM symbols AS s WHERE s.id = b.symbol_id)"',
            1,
        )


def _of_series(
    found: Sequence[Standing],
    says: tuple[str, str],
    why: str,
    command: str,
    told: Callable[[Standing], str],
    mends: Callable[[Standing], str],
) -> Iterator[Problem]:
    """Yield the problem of some series, if there are any; ``says`` it of one, and of several."""
    if not found:
        return
    cases = (
        Case(f"{one.status.symbol} {one.status.timeframe}", told(one), mends(one))
        for one in found[:LISTED]
    )
    title = f"{len(found):,} series {says[len(found) > 1]}"
    yield Problem(title, why, command, len(found), tuple(cases))


def _fresh(one: Standing) -> str:
    return fresh_text(one.status).removeprefix("no, ")


def _run(seen: Overview, found: Sequence[Standing]) -> str:
    """Return the command that has series fetched: those that are watched all at once."""
    if len(found) > 1 and all(one.status.watched for one in found):
        return RUN_ALL
    symbols = list(dict.fromkeys(one.status.symbol for one in found))
    asked = {one.status.timeframe for one in found}
    asks = f"backfill run {named(symbols, [str(one) for one in Timeframe if one in asked])}"
    providers = {one.tracked.account.provider.name for one in found}
    if len(providers) == 1 and providers != {seen.provider}:
        asks += f" --provider {argument(providers.pop())}"
    return asks


def _repair(one: Standing) -> str:
    """Return the command that mends a series; nobody is asked for one that came by files."""
    source = one.tracked.known.source
    if source is not None and source.provider == IMPORT:
        return "backfill import FILE"
    return f"backfill gaps {_one(one)} --repair"


def _one(one: Standing) -> str:
    return named([one.status.symbol], [one.status.timeframe])
