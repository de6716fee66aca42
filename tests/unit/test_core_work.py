"""A plan stands as long as nothing else is known of what it was made by."""

from dataclasses import fields, replace
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import pytest

from backfill.core.coverage import Span, Spans
from backfill.core.planning import plan_work
from backfill.core.series import Alias, ListingVerdict, Progress, Source, Symbol
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.work import Demand, Mode
from tests.property.test_names import CALENDAR, RULES

SYMBOL: Final = Symbol(1, "AAPL", "stock", "XNYS", listed_on=date(1980, 12, 12))
KEY: Final = (SYMBOL.id, Timeframe.d1)
KNOWN: Final = Progress(source=RULES.source_of(Timeframe.d1))
SINCE: Final = Demand(date(2024, 3, 1))
SAID: Final[dict[str, Any]] = {
    "id": UUID(int=1), "ticker": "MSFT", "asset_type": "crypto", "calendar": "24/7",
    "confirmed": True, "reference_at": datetime(2024, 3, 1, tzinfo=UTC), "names_manual": True,
    "aliases": (Alias("AP", date(1990, 1, 2), date(1991, 1, 2)),), "unknown_runs": 1,
    "listing": ListingVerdict.cut, "was_watched": True, "listing_of": 2, "spelled_at": ("kraken",),
    "source": Source("alpaca", "sip", "raw"), "denied": Span(0, DAY_MS),
    **dict.fromkeys(("figi", "successor_figi", "set_aside", "renamed_to"), "BBG000B9XRY4"),
}  # fmt: skip


def another(name: str) -> Any:
    """Return a value that a field of a symbol or of its progress has nowhere above."""
    if name in SAID:
        return SAID[name]
    return DAY_MS if name.endswith("_ms") else date(2024, 3, 4)


@pytest.mark.parametrize("name", [one.name for one in fields(Symbol)])
def test_a_plan_is_outdated_by_whatever_else_is_known_of_its_symbol(name: str) -> None:
    [work] = plan_work(SYMBOL, [Timeframe.d1], CALENDAR, RULES, SINCE, {KEY: KNOWN})
    assert work.stands(replace(SYMBOL), {KEY: replace(KNOWN)})
    assert not work.stands(replace(SYMBOL, **{name: another(name)}), {KEY: KNOWN})


@pytest.mark.parametrize("name", [one.name for one in fields(Progress)])
def test_a_plan_is_outdated_by_whatever_else_is_known_of_its_series(name: str) -> None:
    [work] = plan_work(SYMBOL, [Timeframe.d1], CALENDAR, RULES, SINCE, {KEY: KNOWN})
    value: Any = Spans.of((0, DAY_MS)) if isinstance(getattr(KNOWN, name), Spans) else another(name)
    assert not work.stands(SYMBOL, {KEY: replace(KNOWN, **{name: value})})
    assert not work.stands(SYMBOL, {})


def test_the_plan_of_a_reload_is_made_anew_in_any_case() -> None:
    reload = replace(SINCE, mode=Mode.reload)
    [work] = plan_work(SYMBOL, [Timeframe.d1], CALENDAR, RULES, reload, {KEY: KNOWN})
    assert not work.stands(SYMBOL, {KEY: KNOWN})
