"""Stamps of files: one instant each, whatever they look like, or refused."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.cells import BadRow, counts, numbers
from backfill.core.stamps import PER_SECOND, StampReader, Told

FIRST: Final = datetime(1974, 1, 1)  # noqa: DTZ001 - by whatever clock a test says
LAST: Final = datetime(2200, 1, 1)  # noqa: DTZ001
SECONDS = st.datetimes(FIRST, LAST).map(lambda at: at.replace(microsecond=0))
MILLISECONDS = st.datetimes(FIRST, LAST).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def told(*cells: str, zone: ZoneInfo | None = None) -> list[tuple[int, int]]:
    stamps = StampReader(zone).of_text(cells)
    return list(zip(stamps.ts_ms.tolist(), stamps.told.tolist(), strict=True))


@given(st.lists(st.tuples(MILLISECONDS, OFFSETS), min_size=1, max_size=8), st.sampled_from("T "))
def test_a_time_with_an_offset_is_its_instant_beside_others_of_any_layout(
    times: list[tuple[datetime, timezone]], between: str
) -> None:
    aware = [at.replace(tzinfo=offset) for at, offset in times]
    cells = [at.isoformat(between) for at in aware]
    assert [at for at, _ in told(*cells)] == [ms(at) for at in aware]


@given(st.lists(SECONDS, min_size=1, max_size=8), st.sampled_from(list(PER_SECOND)))
def test_the_size_of_an_epoch_number_tells_its_unit(times: list[datetime], unit: str) -> None:
    instants = [at.replace(tzinfo=UTC) for at in times]
    cells = [str(ms(at) * PER_SECOND[unit] // 1000) for at in instants]
    assert told(*cells) == [(ms(at), Told.instant) for at in instants]


@given(SECONDS)
def test_a_number_of_another_unit_than_those_before_it_is_refused(at: datetime) -> None:
    seconds = ms(at.replace(tzinfo=UTC)) // 1000
    reader = StampReader(None)
    reader.of_text([str(seconds)])
    with pytest.raises(BadRow) as bad:
        reader.of_text([str(seconds), str(seconds * 1000)])
    assert bad.value.row == 1


ZONES = st.sampled_from(
    ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
)


@given(SECONDS, ZONES)
def test_a_time_without_an_offset_is_the_one_instant_of_the_named_zone_or_refused(
    at: datetime, name: str
) -> None:
    zone = ZoneInfo(name)
    meant = {
        instant
        for fold in (0, 1)
        if (instant := at.replace(tzinfo=zone, fold=fold).astimezone(UTC))
        .astimezone(zone)
        .replace(tzinfo=None)
        == at
    }
    if len(meant) == 1:
        assert [at for at, _ in told(str(at), zone=zone)] == [ms(meant.pop())]
    else:
        with pytest.raises(BadRow, match="twice or not at all"):
            told(str(at), zone=zone)


@given(
    st.dates(FIRST.date(), LAST.date()),
    st.sampled_from(["UTC", "Asia/Dubai", "America/New_York", "+03:00", "-10:00"]),
    st.sampled_from([0, 1, 60, 12 * 60]),
)
def test_a_midnight_by_another_clock_is_told_from_other_instants(
    day: date, clock: str, minutes: int
) -> None:
    zone = None if clock[0] in "+-" else ZoneInfo(clock)
    aware = datetime.combine(day, time(), zone or datetime.strptime(clock, "%z").tzinfo)
    aware += timedelta(minutes=minutes)
    is_elsewhere = not minutes and aware.utcoffset() != timedelta()
    expected = [(ms(aware), Told.midnight_elsewhere if is_elsewhere else Told.instant)]
    assert told(aware.isoformat()) == expected
    if zone:
        assert told(f"{aware:%Y-%m-%d %H:%M:%S}", zone=zone) == expected
    stamps = StampReader(None).of_instants(np.array([ms(aware)]), "ms", clock)
    assert list(zip(stamps.ts_ms.tolist(), stamps.told.tolist(), strict=True)) == expected


@pytest.mark.parametrize("cell", ["2024-11-03 01:30", "2024-03-10 02:30:00"])
def test_an_hour_that_is_there_twice_or_not_at_all_is_refused(cell: str) -> None:
    with pytest.raises(BadRow, match="twice or not at all"):
        told("2024-07-03 12:00", cell, zone=ZoneInfo("America/New_York"))


@given(st.dates(FIRST.date(), LAST.date()), st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d"]))
def test_a_day_and_a_midnight_without_a_zone_name_a_day(day: datetime, layout: str) -> None:
    midnight = ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
    assert told(day.strftime(layout)) == [(midnight, Told.day)]
    assert told(f"{day:%Y-%m-%d} 00:00:00") == [(midnight, Told.midnight)]


@pytest.mark.parametrize(
    "cell",
    [
        *("2024-07-03 09:30", "07/03/2024", "2024-02-30", "2023-02-29", "2024-13-01", "2024-7-3"),
        *("2024-07-03T24:00:00Z", "2024-07-03T09:30:00.0001Z", "2024-07-03T09:30:00+15:00"),
        *(
            "1969-07-20",
            "12345",
            "17200134000000",
            "",
            "\u0662\u0660\u0662\u0664-07-03",
            "2024-07-03" * 9,
        ),
    ],
)
def test_what_is_no_certain_instant_is_refused_by_its_row(cell: str) -> None:
    with pytest.raises(BadRow) as bad:
        told("2024-07-03T13:30:00Z", "2024-07-05", cell)
    assert bad.value.row == 2


FLOATS = st.floats(allow_nan=False)


@given(st.lists(FLOATS, min_size=1))
def test_numbers_come_back_to_the_last_bit(values: list[float]) -> None:
    assert numbers("close", list(map(repr, values))).tolist() == values


@pytest.mark.parametrize("cell", ["1,234.5", "1_000", "1.234,5", "12abc", "0x10", "$5"])
def test_what_is_no_plain_number_is_refused_by_its_row(cell: str) -> None:
    with pytest.raises(BadRow, match="no number") as bad:
        numbers("close", ["1.5", cell])
    assert bad.value.row == 1


def test_a_missing_number_is_none_however_it_is_spelled() -> None:
    cells = ["", "NaN", "null", "NULL", "\\N", "None", "N/A"]
    assert np.isnan(numbers("vwap", cells)).all()
    assert counts("trade_count", cells).tolist() == [-1] * len(cells)
    with pytest.raises(BadRow, match="whole"):
        counts("trade_count", ["1.5"])
