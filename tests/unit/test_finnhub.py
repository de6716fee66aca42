"""What Finnhub is asked, and what its answers mean: recorded bodies, columns, days' stamps."""

import csv
import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from backfill.core.asked import Asked
from backfill.core.checks import Checked, Reason, check_page
from backfill.core.coverage import Span
from backfill.core.instrument import read_instrument
from backfill.core.series import Symbol
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.finnhub import Finnhub
from tests.calendars import calendar

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "finnhub"
FINNHUB: Final = Finnhub()
XNYS: Final = calendar("XNYS")
APPLE: Final = Symbol(1, "AAPL", "stock", "XNYS")
NEW_YORK: Final = ZoneInfo("America/New_York")
AFTERWARDS_MS: Final = 1_800_000_000_000


def midnight_ms(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp() * 1000)


def asked(timeframe: Timeframe, first: date, until: date) -> Asked:
    span = Span(midnight_ms(first), midnight_ms(until))
    return Asked(APPLE, XNYS, timeframe, span, "split")


DAYS: Final = asked(Timeframe.d1, date(2019, 9, 24), date(2019, 9, 27))


def read(body: bytes | str, wanted: Asked = DAYS, status: int = 200) -> Page:
    data = body if isinstance(body, bytes) else body.encode()
    return FINNHUB.read_bars(Response(status, {}, data), wanted)


def checked(body: bytes | str, wanted: Asked) -> Checked:
    return check_page(XNYS, wanted.timeframe, read(body, wanted).bars, wanted.span, AFTERWARDS_MS)


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def of_csv(name: str) -> str:
    """A recorded table as the columns that it was told in."""
    with (FOLDER / name).open() as file:
        rows = list(csv.DictReader(file))
    return (
        json.dumps({letter: [json.loads(row[letter]) for row in rows] for letter in rows[0]})[:-1]
        + ',"s":"ok"}'
    )


def columns(**columns: list[object]) -> str:
    one: dict[str, list[object]] = {"t": [1_569_297_600], "v": [7]}
    one |= {letter: [100.5] for letter in "ohlc"}
    return json.dumps(one | columns | {"s": "ok"})


@pytest.mark.parametrize(
    ("body", "first", "until", "days"),
    [
        ("candle_d_aapl_2019_docs.json", date(2019, 9, 24), date(2019, 9, 27), 3),
        ("candle_d_spy_2020.json", date(2020, 6, 8), date(2020, 6, 13), 5),
        ("candle_d_aapl_2021.json", date(2021, 9, 7), date(2021, 9, 23), 12),
        ("candle_d_aapl_2012.csv", date(2012, 1, 3), date(2012, 1, 12), 7),
    ],
)
def test_whichever_of_its_three_stamps_a_day_has_it_is_that_session(
    body: str, first: date, until: date, days: int
) -> None:
    text = of_csv(body) if body.endswith("csv") else recorded(body)
    found = checked(text, asked(Timeframe.d1, first, until))
    grid = XNYS.grid(Timeframe.d1)
    assert (
        found.bars.ts_ms.tolist()
        == grid.slots(Span(midnight_ms(first), midnight_ms(until))).tolist()
    )
    assert (len(found.bars), len(found.rejected)) == (days, 0)


@pytest.mark.parametrize("day", [date(2024, 1, 16), date(2024, 7, 16)])
def test_a_request_for_days_holds_every_stamp_that_its_days_may_have_and_no_other(
    day: date,
) -> None:
    [session] = (
        XNYS.grid(Timeframe.d1).slots(Span(midnight_ms(day), midnight_ms(day) + DAY_MS)).tolist()
    )
    wanted = asked(Timeframe.d1, day, date.fromordinal(day.toordinal() + 1))
    params = FINNHUB.bars(wanted).params
    first, last = int(params["from"]), int(params["to"])
    opens = datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK).timestamp()
    utc = (day - date(1970, 1, 1)).days * 86_400
    for stamp in (session // 1000, round(opens), utc):
        assert first <= stamp <= last
        assert not first <= stamp - 86_400 <= last
        assert not first <= stamp + 86_400 <= last


def test_days_are_asked_for_thousands_at_once_and_minutes_by_the_month() -> None:
    years = Span(midnight_ms(date(2015, 1, 2)), midnight_ms(date(2024, 7, 2)))
    law = FINNHUB.can.pages
    assert len(law.pages(XNYS, Timeframe.d1).windows(years)) == 3
    pages = law.pages(XNYS, Timeframe.m1)
    months = pages.windows(years)
    assert len(months) == 9 * 12 + 7 == pages.expected(years)
    assert {pages.expected(span) for span in months} == {1}
    for span in months:
        params = FINNHUB.bars(Asked(APPLE, XNYS, Timeframe.m1, span, "raw")).params
        assert 1000 * (int(params["to"]) - int(params["from"])) < 31 * DAY_MS


def test_hours_of_a_clock_are_hours_and_those_counted_from_the_open_go_to_quarantine() -> None:
    early = checked(
        of_csv("candle_60_aapl_2012_excerpt.csv"),
        asked(Timeframe.h1, date(2012, 1, 3), date(2012, 1, 4)),
    )
    assert (len(early.bars), len(early.rejected)) == (4, 0)
    from_the_open = checked(
        recorded("candle_60_aapl_2020.json"),
        asked(Timeframe.h1, date(2020, 7, 2), date(2020, 7, 3)),
    )
    assert (len(from_the_open.bars), from_the_open.reasons) == (0, (Reason.off_grid,) * 2)


@pytest.mark.parametrize(
    "body", [recorded("candle_no_data.json"), '{"s":"ok"}', '{"s":"no_data","t":null,"c":null}']
)
def test_an_answer_without_candles_proves_nothing(body: bytes | str) -> None:
    page = read(body)
    assert (len(page.bars), page.unconfirmed) == (0, True)
    assert not read(columns()).unconfirmed


@pytest.mark.parametrize(
    "body",
    [
        columns(c=[]),
        columns(v=[7, 8]),
        columns(h=[100.5, None], l=[None]),
        columns(t=[1_569_297_600_000]),
        columns(t=[1_569_297]),
        columns()[:-5] + '"no"}',
        columns()[:-5] + '"no_data"}',
    ],
)
def test_a_column_short_of_a_value_or_another_unit_refuses_the_answer(body: str) -> None:
    with pytest.raises(BadAnswer):
        read(body)


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"t":[1569297600]}', columns(t=[1.5])])
def test_what_is_no_answer_is_unreadable(body: str) -> None:
    with pytest.raises(UnreadableAnswer):
        read(body)


def test_a_value_that_is_no_number_costs_its_own_bar_alone() -> None:
    two: dict[str, list[object]] = {letter: [100.5, 100.5] for letter in "ohl"}
    page = read(columns(t=[1_569_297_600, 1_569_384_000], c=[None, 100.5], v=[7, 7], **two))
    found = check_page(XNYS, Timeframe.d1, page.bars, DAYS.span, AFTERWARDS_MS)
    assert (len(found.bars), len(found.rejected), len(page.oddities)) == (1, 1, 1)


def test_who_asks_with_a_free_key_is_told_what_to_do() -> None:
    with pytest.raises(NotEntitled, match=r"Candles are paid: see https://finnhub\.io/pricing"):
        read(recorded("error_403_not_entitled.json"), status=403)


def test_a_limit_that_is_told_in_plain_text_is_one() -> None:
    with pytest.raises(RateLimited):
        read(recorded("error_429_2020.txt"), status=429)


def test_the_key_stands_in_a_header_and_in_no_request() -> None:
    assert FINNHUB.headers(["k3y"]) == {"X-Finnhub-Token": "k3y"}


def test_no_pair_is_asked_for() -> None:
    with pytest.raises(NotEntitled):
        FINNHUB.spelling(read_instrument("BTC/USD"))


@pytest.mark.parametrize(
    ("body", "listed_on"),
    [
        ('{"ticker":"AAPL","ipo":"1980-12-12"}', date(1980, 12, 12)),
        ('{"ticker":"AAPL","ipo":""}', None),
        ('{"ticker":"IBHJ","ipo":"2023-06-23"}', None),
    ],
)
def test_a_profile_tells_of_the_listing_if_it_is_that_of_the_ticker(
    body: str, listed_on: date | None
) -> None:
    told = FINNHUB.read_reference(Response(200, {}, body.encode()), APPLE)
    assert (told.ticker, told.listed_on, told.is_known) == ("AAPL", listed_on, True)


def test_without_a_profile_a_ticker_is_unknown_unless_it_has_had_bars() -> None:
    nothing = Response(200, {}, b"{}")
    with pytest.raises(UnknownSymbol):
        FINNHUB.read_reference(nothing, APPLE)
    fund = replace(APPLE, confirmed=True)
    assert FINNHUB.read_reference(nothing, fund).is_known
