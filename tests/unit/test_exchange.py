"""Exchanges of which the library can't build all that is asked for."""

from datetime import date

import pytest

from backfill.store.exchange import list_sessions

FIRST, LAST = date(2023, 12, 1), date(2027, 1, 28)


def test_an_exchange_is_listed_as_far_as_the_library_reaches_and_what_it_loses_is_told() -> None:
    bombay = list_sessions("XBOM", FIRST, LAST)
    assert bombay.reach == (FIRST, date(2026, 12, 31))
    days = [day for day, opens_at, closes_at in bombay.rows if opens_at < closes_at]
    assert (days[0], days[-1], len(days)) == (FIRST, date(2026, 12, 31), len(bombay.rows))
    assert bombay.problem is not None
    assert "from 2023-12-01 to 2026-12-31 only" in bombay.problem
    # Two Saturdays on which it traded, by the library's own list.
    saturdays = [date(2024, 1, 20), date(2025, 2, 1)]
    assert set(saturdays) <= {*days, *bombay.lost}
    assert all(str(day) in bombay.problem for day in bombay.lost)


@pytest.mark.parametrize("name", ["ASEX", "NO SUCH"])
def test_an_exchange_that_can_not_be_built_is_no_traceback(name: str) -> None:
    listing = list_sessions(name, FIRST, LAST)
    assert (listing.reach, listing.rows) == (None, [])
    assert listing.problem is not None
    assert listing.problem.startswith(f"exchange_calendars can't build {name}: ")
    assert "\n" not in listing.problem


def test_an_exchange_that_is_whole_has_no_problem() -> None:
    listing = list_sessions("XNYS", FIRST, LAST)
    assert (listing.reach, listing.lost, listing.problem) == ((FIRST, LAST), [], None)
