"""Binance's files: paths there and back, checksums, zips that are no more than they should be."""

import hashlib
import sys
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.asked import Asked
from backfill.core.coverage import Span
from backfill.core.series import unregistered
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import BackfillError, BadAnswer, FileMissing, GeoBlocked, ProviderUnavailable
from backfill.providers.base import SymbolFiles
from backfill.providers.binance import Binance
from backfill.providers.binance_csv import klines_in_file
from backfill.providers.zipped import member_of
from backfill.run.archived import ArchiveDesk
from backfill.settings import AccountSettings
from backfill.settings.account import account_of, variables_of
from tests.calendars import calendar

BINANCE: Final = Binance()
NAME: Final = "BTCUSDT-1m-2024-07-02.csv"
PATH: Final = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-07-02.zip"
ROW: Final = "{start},62889.9,62890.0,62811.04,62811.05,24.34,{end},1529822.7,1520,9.4,593108.2,0\n"


@pytest.fixture(params=["pyarrow", "without"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is read with pyarrow, and without."""
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "pyarrow", None)


def at_ms(*when: int) -> int:
    return round(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


START: Final = at_ms(2024, 7, 2)


def asked(first: int = START, minutes: int = 1440) -> Asked:
    span = Span(first, first + minutes * MINUTE_MS)
    return Asked(unregistered("BTC/USDT"), calendar("24/7"), Timeframe.m1, span, "raw")


def csv(first: int = START, rows: int = 3, per_ms: int = 1, length: int = MINUTE_MS) -> str:
    return "".join(
        ROW.format(start=at * per_ms, end=(at + length) * per_ms - 1)
        for at in range(first, first + rows * MINUTE_MS, MINUTE_MS)
    )


def packed(text: str, name: str = NAME, *more: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for one in (name, *more):
            file.writestr(one, text)
    return made.getvalue()


def read(body: bytes, of: Asked | None = None) -> Page:
    digest = hashlib.sha256(body).hexdigest()
    return BINANCE.read_file(Response(200, {}, body), of or asked(), Timeframe.d1, digest)


def test_it_is_a_provider_of_files_whose_paths_say_what_they_hold() -> None:
    assert isinstance(BINANCE, SymbolFiles)
    month = BINANCE.file(asked(), Timeframe.mn1)
    assert month.target == "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-07.zip"
    assert month.cost == 0
    day = BINANCE.checksum(asked(), Timeframe.d1)
    assert (day.target, day.cost) == (f"/{PATH}.CHECKSUM", 0)
    held = BINANCE.held_in(month.target.lstrip("/"))
    assert held is not None
    assert (held.spelling, held.timeframe) == ("BTCUSDT", Timeframe.m1)
    assert held.span == Span(at_ms(2024, 7, 1), at_ms(2024, 8, 1))
    held = BINANCE.held_in(PATH)
    assert held is not None
    assert held.span == Span(START, at_ms(2024, 7, 3))
    for strange in ("", PATH.replace("-07-02", "-13"), PATH.replace("1m", "7m"), f"x/{PATH}"):
        assert BINANCE.held_in(strange) is None


@pytest.mark.parametrize("per_ms", [1, 1000])
def test_rows_are_read_by_the_unit_that_all_their_stamps_are_in(per_ms: int) -> None:
    page = read(packed(csv(per_ms=per_ms)))
    assert page.next is None
    assert page.bars.ts_ms.tolist() == [START, START + MINUTE_MS, START + 2 * MINUTE_MS]
    assert page.bars.close.tolist() == [62811.05] * 3
    assert page.bars.vwap.tolist() == [1529822.7 / 24.34] * 3
    assert page.bars.trade_count.tolist() == [1520] * 3


@pytest.mark.parametrize(
    "text",
    [
        csv(per_ms=1_000_000),
        csv().replace(str(START), str(START // 1000)),
        csv(rows=1) + csv(START + MINUTE_MS, rows=2, per_ms=1000),
        csv(per_ms=1000).replace(f"{START * 1000},", f"{START * 1000 + 7},"),
        csv(per_ms=1000).replace("62811.05", "nan", 1).replace(f"{START * 1000},", f"{START},"),
        csv(length=3_600_000),
        csv(at_ms(2024, 8, 2)),
        "open_time,open,high\n",
        "1,2,3\n",
        csv().replace(",", ";"),
    ],
)
def test_rows_of_another_unit_length_time_or_shape_are_refused(text: str) -> None:
    with pytest.raises(BadAnswer):
        read(packed(text))


def test_a_value_that_is_no_number_costs_its_own_bar_alone() -> None:
    for per_ms in (1, 1000):
        page = read(packed(csv(per_ms=per_ms).replace("62811.05", "nan", 1)))
        assert page.bars.ts_ms.tolist() == [START, START + MINUTE_MS, START + 2 * MINUTE_MS]
        assert np.isnan(page.bars.close).tolist() == [True, False, False]
        assert [one["close"] for one in page.oddities.values()] == ["nan"]


def test_of_a_whole_file_only_what_was_asked_for_is_taken_and_what_has_no_business_there() -> None:
    part = asked(START + MINUTE_MS, 1)
    text = csv(rows=3) + csv(at_ms(2024, 8, 2), rows=1)
    assert read(packed(text), part).bars.ts_ms.tolist() == [START + MINUTE_MS, at_ms(2024, 8, 2)]
    assert len(read(packed("")).bars) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        packed(csv())[:-30],
        packed(csv(), NAME.replace("BTC", "ETH")),
        packed(csv(), NAME, "more.csv"),
        packed(csv(), method=zipfile.ZIP_BZIP2),
    ],
)
def test_a_file_that_is_no_zip_of_just_these_klines_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(body)


def test_a_zip_is_unpacked_no_further_than_it_may_be() -> None:
    body = packed("1" * 5_000)
    assert member_of(body, NAME, 5_000) == b"1" * 5_000
    assert member_of(packed("1" * 50, method=zipfile.ZIP_STORED), NAME, 50) == b"1" * 50
    with pytest.raises(BadAnswer, match="more than 4999 bytes"):
        member_of(body, NAME, 4_999)


@pytest.mark.parametrize("field", ["file_size", "CRC", "header_offset"])
def test_a_zip_that_tells_wrongly_of_its_member_is_refused(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(zipfile.ZipFile):
        def infolist(self) -> list[zipfile.ZipInfo]:
            [member] = super().infolist()
            setattr(member, field, getattr(member, field) + 3)
            return [member]

    monkeypatch.setattr(zipfile, "ZipFile", Told)
    with pytest.raises(BadAnswer):
        member_of(packed("12345,67890\n" * 500), NAME, 100_000)


def test_a_checksum_is_the_files_own_and_the_file_is_what_it_is_of() -> None:
    digest = "0" * 63 + "A"
    line = f"{digest}  {PATH.rpartition('/')[2]}\n"

    def told(text: str) -> str:
        response = Response(200, {}, text.encode())
        return BINANCE.read_checksum(response, asked(), Timeframe.d1)

    assert told(line) == digest.lower()
    for wrong in ("", digest, line.replace("BTC", "ETH"), line.replace("0000", "zzzz"), "<html>"):
        with pytest.raises(BadAnswer):
            told(wrong)
    with pytest.raises(BadAnswer, match="is published of it"):
        BINANCE.read_file(Response(200, {}, packed(csv())), asked(), Timeframe.d1, digest)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(404, FileMissing), (451, GeoBlocked), (503, ProviderUnavailable)],
)
def test_what_the_archive_answers_instead_of_a_file(
    status: int, outcome: type[BackfillError]
) -> None:
    response = Response(status, {}, b"<Error>")
    with pytest.raises(BackfillError) as told:
        BINANCE.read_checksum(response, asked(), Timeframe.d1)
    assert type(told.value) is outcome
    with pytest.raises(BackfillError) as told:
        BINANCE.read_file(response, asked(), Timeframe.d1, "")
    assert type(told.value) is outcome


def test_the_files_are_those_of_the_service_that_is_asked() -> None:
    def url(**said: Any) -> str | None:
        return account_of(BINANCE, AccountSettings(**said), AccountSettings(), None).archive_url

    assert variables_of(BINANCE)["archive_url"].names == ("BINANCE_ARCHIVE_URL",)
    assert url() == "https://data.binance.vision"
    assert url(url="http://elsewhere") is None
    assert url(url="http://elsewhere", archive_url="http://files") == "http://files"
    with pytest.raises(BackfillError, match="BINANCE_ARCHIVE_URL must be a URL like"):
        url(archive_url="files")


@given(
    st.lists(
        st.tuples(
            *[st.floats(1e-8, 1e8).map(lambda one: f"{one:.8f}")] * 5,
            st.integers(0, 10**9),
        ),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=30)
def test_whatever_reads_a_file_reads_the_same_doubles(rows: list[tuple[Any, ...]]) -> None:
    text = "".join(
        f"{START + at * MINUTE_MS},{','.join(prices)},{START + (at + 1) * MINUTE_MS - 1},"
        f"{prices[0]},{count},0,0,0\n"
        for at, (*prices, count) in enumerate(rows)
    )
    bars = klines_in_file(text.encode()).bars
    assert bars.ts_ms.tolist() == [START + at * MINUTE_MS for at in range(len(rows))]
    assert [
        bars.open.tolist(),
        bars.high.tolist(),
        bars.low.tolist(),
        bars.close.tolist(),
        bars.volume.tolist(),
    ] == [[float(row[at]) for row in rows] for at in range(5)]
    assert bars.trade_count.tolist() == [count for *_, count in rows]


async def test_a_version_s_name_is_told_as_the_database_can_hold_it() -> None:
    class Answering:
        async def fetch(self, request: object, read: Any, *_: object) -> Any:
            del request
            return read(Response(200, {"etag": '"v\udcff1"'}, b""))

    desk: Any = ArchiveDesk(Answering(), BINANCE, None)  # type: ignore[arg-type]
    assert await desk.version(PATH) == '"v\ufffd1"'
