"""What Tiingo is asked, and what its answers mean beside what every provider shows."""

import json
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.series import Symbol, unregistered
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
    UsageError,
)
from backfill.providers.base import spelled
from backfill.providers.tiingo import Tiingo
from tests.calendars import ZONES, sessions

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "tiingo"
TIINGO: Final = Tiingo()
REGULAR: Final = Calendar.of("XNYS", ZONES["XNYS"], sessions("XNYS"))
APPLE: Final = Symbol(1, "AAPL", "stock", "XNYS")
LATER_MS: Final = 1_800_000_000_000


def asked(timeframe: Timeframe, first: date, until: date) -> Asked:
    span = Span(REGULAR.midnight(first), REGULAR.midnight(until))
    grid = REGULAR.grid(timeframe)
    whole = grid.narrow(span) or span
    start_ms = grid.start_of(grid.index_from(whole.start_ms))
    return Asked(APPLE, REGULAR, timeframe, Span(start_ms, whole.end_ms), "raw")


DAYS: Final = asked(Timeframe.d1, date(2018, 1, 2), date(2018, 1, 20))
HALF_HOURS: Final = asked(Timeframe.m30, date(2018, 1, 2), date(2018, 1, 3))


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def read(body: bytes | str | Any, wanted: Asked = DAYS, status: int = 200, **headers: str) -> Page:
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    data = text.encode() if isinstance(text, str) else text
    return TIINGO.read_bars(Response(status, headers, data), wanted)


def row(day: str, **values: object) -> dict[str, object]:
    prices = {"open": 2.0, "high": 4.0, "low": 1.0, "close": 3.0, "volume": 10}
    return {"date": f"{day}T00:00:00.000Z"} | prices | values


def test_weeks_and_months_are_no_days_although_each_is_stamped_with_one() -> None:
    with pytest.raises(BadAnswer, match="weeks"):
        read(recorded("daily_w1.json"))
    months = [row("2018-01-31"), row("2018-02-28"), row("2018-03-30"), row("2018-04-20")]
    with pytest.raises(BadAnswer, match="months"):
        read(months)
    assert len(read(months[:2]).bars) == 2
    week = [row(f"2018-01-{day:02}") for day in (2, 3, 4, 5)]
    assert len(read(week).bars) == 4


def test_half_hours_of_the_recorded_session_are_on_the_grid_once_their_volume_is_asked_for() -> (
    None
):
    assert TIINGO.bars(HALF_HOURS).params == {
        "startDate": "2018-01-02",
        "endDate": "2018-01-02",
        "resampleFreq": "30min",
        "columns": "open,high,low,close,volume",
    }
    with pytest.raises(BadAnswer, match="volume"):
        read(recorded("iex_m30.json"), HALF_HOURS)
    rows = [one | {"volume": 38607.0} for one in json.loads(recorded("iex_m30.json"))]
    page = read(rows, HALF_HOURS)
    checked = check_page(REGULAR, Timeframe.m30, page.bars, HALF_HOURS.span, LATER_MS)
    assert (
        checked.bars.ts_ms.tolist() == REGULAR.grid(Timeframe.m30).slots(HALF_HOURS.span).tolist()
    )
    assert len(checked.rejected) == 0


def test_the_rest_of_the_days_that_were_asked_for_is_left_out_and_another_day_is_not() -> None:
    start_ms, end_ms = HALF_HOURS.span
    morning = Asked(APPLE, REGULAR, Timeframe.m30, Span(start_ms, start_ms + 60 * MINUTE_MS), "raw")
    rows = [one | {"volume": 1.0} for one in json.loads(recorded("iex_m30.json"))]
    tomorrow = rows[0] | {"date": "2018-01-03T14:30:00.000Z"}
    bars = read([*rows, tomorrow], morning).bars
    assert bars.ts_ms.tolist() == [start_ms, start_ms + 30 * MINUTE_MS, end_ms + 17.5 * 3_600_000]
    checked = check_page(REGULAR, Timeframe.m30, bars, morning.span, LATER_MS)
    assert checked.reasons == (Reason.outside_range,)


def test_one_bad_row_costs_no_neighbour_and_both_ways_to_write_a_stamp_are_read() -> None:
    page = read([row("2018-01-03", close="three"), row("2018-01-04"), row("2018-01-05")])
    checked = check_page(REGULAR, Timeframe.d1, page.bars, DAYS.span, LATER_MS)
    assert (len(checked.bars), checked.reasons) == (2, (Reason.not_finite,))
    [came] = page.oddities.values()
    assert came["close"] == "three"
    other = read(recorded("daily_columns_2024.json"))
    assert other.bars.ts_ms.tolist() == [1_729_555_200_000]
    assert other.bars.volume.tolist() == [16_568_121.0]


@pytest.mark.parametrize("name", ["crypto_d1.json", "daily_d1.csv"])
def test_what_is_no_answer_of_days_is_unreadable(name: str) -> None:
    with pytest.raises(UnreadableAnswer):
        read(recorded(name))


@pytest.mark.parametrize(
    "stamp", ["2018-01-03", "2018-01-03T00:00:00+01:00", "2018-01-03T00:00:00.0005Z", ""]
)
def test_a_stamp_that_is_finer_or_of_another_zone_is_unreadable(stamp: str) -> None:
    with pytest.raises(UnreadableAnswer):
        read([row("2018-01-03", date=stamp)])


def test_an_empty_answer_is_of_a_ticker_that_has_nothing_there() -> None:
    page = read(recorded("empty.json"))
    assert (len(page.bars), page.next, page.unconfirmed) == (0, None, False)


@pytest.mark.parametrize(
    ("said", "dated", "wait_s"),
    [
        ("hourly request", "Thu, 28 Nov 2024 17:00:00 GMT", 3600),
        ("daily request", "Thu, 28 Nov 2024 17:00:00 GMT", 12 * 3600),
        ("daily request", "", 3600),
    ],
)
def test_who_has_used_up_the_hour_or_the_day_waits_for_the_next(
    said: str, dated: str, wait_s: float
) -> None:
    body = {"detail": f"Error: You have run over your {said} allocation."}
    with pytest.raises(RateLimited) as raised:
        read(body, status=429, date=dated)
    assert raised.value.retry_after_s == wait_s


def test_the_metadata_tell_since_when_there_are_prices_and_whose_they_are() -> None:
    gamble = unregistered("PG")
    assert TIINGO.reference(gamble).target == "/tiingo/daily/PG"
    answer = Response(200, {}, recorded("metadata_pg.json"))
    reference = TIINGO.read_reference(answer, gamble)
    assert (reference.ticker, reference.listed_on) == ("PG", date(1970, 1, 2))
    assert (reference.delisted_on, reference.figi) == (None, None)
    with pytest.raises(BadAnswer, match="PG"):
        TIINGO.read_reference(answer, APPLE)
    for body in (recorded("error_404_ticker.json"), b'{"ticker":"PG","startDate":null}'):
        with pytest.raises(UnknownSymbol):
            TIINGO.read_reference(Response(200, {}, body), gamble)


def test_days_are_of_all_exchanges_and_minutes_of_iex_alone_which_is_no_older_than_2016() -> None:
    can = TIINGO.can
    assert (can.feed_of(Timeframe.m5), can.feed_of(Timeframe.w1)) == ("iex", "eod")
    begins = REGULAR.day_of(can.begins_ms(REGULAR, Timeframe.m1, LATER_MS))
    assert begins == date(2016, 8, 18)  # its evening
    assert can.begins_ms(REGULAR, Timeframe.d1, LATER_MS) < REGULAR.midnight(date(1900, 1, 1))
    assert can.derives_for_less


def test_a_class_whose_spelling_is_not_proven_is_refused_and_not_guessed() -> None:
    proven = {"BRK.B": "BRK-B", "BF-A": "BF-A", "SPG-P-J": "SPG-P-J", "AAPL": "AAPL"}
    for written, spelling in proven.items():
        assert spelled(TIINGO, unregistered(written).instrument) == spelling
    for written in ("BAC.PRE", "BAC-PE", "BACpE", "BAC.PR.E", "SPG-P-JJ", "X.WS"):
        with pytest.raises(NotEntitled, match="not proven"):
            spelled(TIINGO, unregistered(written).instrument)
    with pytest.raises(UsageError, match="preferred"):
        unregistered("BAC/PRE")
