"""What became of a symbol is one sentence, and the commands go by how it is kept."""

from dataclasses import replace
from datetime import date

import pytest

from backfill.core.series import Symbol
from backfill.core.timeframe import Timeframe
from backfill.present.symbol_events import event_lines
from backfill.run.symbol_events import Event, event_of, events_of
from backfill.store.universe import WatchEntry

OLD = Symbol(1, "OLDNM", "stock", "XNYS", confirmed=True)
RENAMED = replace(OLD, renamed_to="NEWNM", renamed_on=date(2024, 5, 18))


def kept(symbol: Symbol) -> WatchEntry:
    return WatchEntry(symbol, (Timeframe.h1, Timeframe.d1), "2y", paused=False, priority=-5)


@pytest.mark.parametrize(
    ("symbol", "event", "line"),
    [
        (
            replace(OLD, delisted_on=date(2024, 8, 30)),
            Event.delisted,
            "OLDNM was delisted on 2024-08-30; its bars stay: backfill watch remove OLDNM",
        ),
        (
            replace(OLD, successor_figi="BBG1", successor_listed_on=date(2025, 1, 15)),
            Event.new_owner,
            (
                "OLDNM belongs to another company since 2025-01-15, FIGI BBG1: "
                "backfill symbols retire OLDNM"
            ),
        ),
        (
            replace(RENAMED, successor_figi="BBG1"),
            Event.new_owner,
            (
                "OLDNM belongs to another company, FIGI BBG1; its own is NEWNM now: backfill watch "
                "add NEWNM -t h1,d1 --since 2y --priority -5 && backfill symbols retire OLDNM"
            ),
        ),
        (
            replace(OLD, gone_on=date(2024, 8, 30)),
            Event.gone,
            (
                "OLDNM is not in the provider's reference any more, as of 2024-08-30, which "
                "doesn't say why: delisted, or renamed; its bars stay: backfill watch remove OLDNM"
            ),
        ),
    ],
)
def test_each_event_is_told_with_its_day_and_the_command(
    symbol: Symbol, event: Event, line: str
) -> None:
    [told] = events_of([kept(symbol)])

    assert (told.event, str(told)) == (event, line)


def test_a_new_name_that_is_watched_already_is_not_added_again() -> None:
    both = [kept(RENAMED), kept(replace(OLD, id=2, ticker="NEWNM"))]

    [told] = events_of(both)

    assert told.commands == ("backfill watch remove OLDNM",)
    assert events_of([replace(both[0], paused=True)]) == []


def test_who_keeps_a_symbol_nowhere_is_told_to_run_the_new_name() -> None:
    told = event_of(RENAMED)

    assert told is not None
    assert told.commands == ("backfill run --symbol NEWNM",)
    assert event_of(replace(RENAMED, retired_on=date(2024, 6, 1))) is None


@pytest.mark.parametrize(("runs", "confirmed"), [(2, False), (3, True)])
def test_neither_two_runs_nor_a_known_symbol_set_it_aside(runs: int, confirmed: bool) -> None:
    assert event_of(replace(OLD, unknown_runs=runs, confirmed=confirmed)) is None


def test_more_than_twenty_events_are_counted() -> None:
    every = [kept(replace(RENAMED, id=at, ticker=f"OLD{at}")) for at in range(23)]

    lines = event_lines(events_of(every))

    assert (len(lines), lines[-1]) == (21, "… and 3 more symbols; backfill status lists them")
