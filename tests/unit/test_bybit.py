"""What Bybit's answers say beside what every provider shows (tests/providers)."""

import json
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from backfill.core.asked import Asked
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.series import unregistered
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.core.wire import Reference, Response
from backfill.errors import BadAnswer, UnreadableAnswer
from backfill.providers.bybit import Bybit
from tests.calendars import calendar

BYBIT: Final = Bybit()
ALWAYS: Final = calendar("24/7")
FIRST_MS: Final = ALWAYS.midnight(date(2024, 11, 4))
ASKED: Final = Asked(
    unregistered("BTC/USDT"), ALWAYS, Timeframe.m1, Span(FIRST_MS, FIRST_MS + 3 * MINUTE_MS), "raw"
)
DOCUMENTED: Final = Path(__file__).parents[1] / "fixtures" / "bybit" / "kline_h1_inverse_docs.json"


def kline(nth: int = 0, *values: Any) -> list[Any]:
    numbers = ["2.0", "4.0", "1.0", "3.0", "10.0", "25.0"]
    return [str(FIRST_MS + nth * MINUTE_MS), *values, *numbers[len(values) :]]


def answered(*rows: list[Any], symbol: str = "BTCUSDT") -> Response:
    result = {"category": "spot", "symbol": symbol, "list": rows}
    return Response(200, {}, json.dumps({"retCode": 0, "retMsg": "OK", "result": result}).encode())


def test_the_category_is_always_asked_for_and_another_is_refused() -> None:
    request = BYBIT.bars(ASKED)
    assert request.params["category"] == "spot"
    assert (request.params["start"], request.params["limit"]) == (str(FIRST_MS), "1000")
    with pytest.raises(BadAnswer, match="inverse"):
        BYBIT.read_bars(Response(200, {}, DOCUMENTED.read_bytes()), ASKED)


def test_one_bad_kline_costs_no_neighbour() -> None:
    page = BYBIT.read_bars(answered(kline(2), kline(1, "two"), kline(0)), ASKED)
    checked = check_page(ALWAYS, Timeframe.m1, page.bars, ASKED.span, ASKED.span.end_ms)
    assert checked.bars.ts_ms.tolist() == [FIRST_MS, FIRST_MS + 2 * MINUTE_MS]
    assert checked.bars.vwap.tolist() == [2.5, 2.5]
    assert checked.reasons == (Reason.not_finite,)
    [came] = page.oddities.values()
    assert came["open"] == "two"


@pytest.mark.parametrize("row", [[], ["1"], kline(0)[:6], ["soon", *kline(0)[1:]]], ids=str)
def test_a_row_that_is_none_is_unreadable(row: list[Any]) -> None:
    with pytest.raises(UnreadableAnswer):
        BYBIT.read_bars(answered(row), ASKED)


def test_a_pair_is_listed_on_its_first_day() -> None:
    listed = Reference("BTCUSDT", date(2024, 11, 4), None, None)
    assert BYBIT.read_reference(answered(kline(0)), ASKED.symbol) == listed
    assert BYBIT.read_reference(answered(), ASKED.symbol).listed_on is None
    for wrong in (answered(kline(1), kline(0)), answered(["7", *kline()[1:]])):
        with pytest.raises(BadAnswer):
            BYBIT.read_reference(wrong, ASKED.symbol)
