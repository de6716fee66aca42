"""What files tell of themselves is read; what they leave open is refused in one line."""

import gzip
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from backfill.core.filed import Reading, Rows
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.files import checksum, opened

HEAD: Final = "Date,Open,High,Low,Close,Adj Close,Volume"
LINE: Final = "2024-07-03,10,11,9,10.5,10.1,1000"
DAYS: Final = Reading(symbols=("AAPL",), timeframes=(Timeframe.d1,))
MINUTES: Final = Reading(symbols=("AAPL",), timeframes=(Timeframe.m1,))
NEW_YORK: Final = Reading(("AAPL",), (Timeframe.m1,), zone=ZoneInfo("America/New_York"))
ALL_DAYS: Final = Reading(timeframes=(Timeframe.d1,))
DATABENTO: Final = Path(__file__).parents[1] / "fixtures" / "databento"
AT_MS: Final = 1_720_013_400_000
"""2024-07-03T13:30Z, half past nine in New York."""


def read(path: Path, reading: Reading) -> list[Rows]:
    with opened(path, reading) as file:
        return [rows for block in file.blocks() for rows in block]


def text(tmp_path: Path, *lines: str, name: str = "bars.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def refusal(path: Path, reading: Reading) -> str:
    with pytest.raises(UsageError) as refused:
        read(path, reading)
    said = str(refused.value)
    assert "\n" not in said
    assert str(path) in said
    return said


def test_a_file_as_kaggle_has_them_is_read_by_its_names(tmp_path: Path) -> None:
    [rows] = read(text(tmp_path, HEAD, LINE, "2024-07-05,1,2,0.5,1.5,1,7"), DAYS)
    assert rows.key == ("AAPL", Timeframe.d1)
    assert rows.bars.close.tolist() == [10.5, 1.5]  # and not what was adjusted for dividends
    assert rows.bars.trade_count.tolist() == [-1, -1]
    assert rows.numbers.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("DATE;TIME;OPEN;HIGH;LOW;CLOSE;VOL", "2024.07.03;09:30;10;11;9;10;5"),
        ("TIME\tDATE\tOPEN\tHIGH\tLOW\tCLOSE\tVOL", "09:30:00\t20240703\t10\t11\t9\t10\t5"),
        ("\ufeffTimestamp, Open, High, Low, Close, Volume", "2024-07-03 09:30, 10, 11, 9, 10, 5"),
        ('"t","o","h","l","c","v"', '"2024-07-03T13:30:00Z","10","11","9","10","5"'),
        ("ts,open,high,low,close,volume", "2024-07-03 13:30:00+00,10,11,9,10,5"),
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "20240703,093000,10,11,9,10,5"),
        ("open_time,open,high,low,close,volume", f"{AT_MS}000,10,11,9,10,5"),
    ],
)
def test_the_layouts_of_brokers_and_databases_are_one_bar(
    tmp_path: Path, head: str, line: str
) -> None:
    reading = Reading(("AAPL",), (Timeframe.m1,), zone=ZoneInfo("America/New_York"))
    [rows] = read(text(tmp_path, head, "", line), reading)
    assert (rows.bars.ts_ms.tolist(), rows.bars.volume.tolist()) == ([AT_MS], [5.0])
    packed = tmp_path / "bars.csv.gz"
    packed.write_bytes(gzip.compress(text(tmp_path, head, line).read_bytes()))
    assert read(packed, reading)[0].bars.equals(rows.bars)


def test_columns_are_named_by_the_user_where_their_names_tell_nothing(tmp_path: Path) -> None:
    path = text(tmp_path, ",A,B,C,D,Volume BTC,Volume USD", "2024-07-03,10,11,9,10,5,6")
    names = {"ts": "", "open": "A", "high": "B", "low": "C", "close": "D", "volume": "Volume BTC"}
    [rows] = read(path, Reading(("BTC/USD",), (Timeframe.d1,), names))
    assert rows.bars.volume.tolist() == [5.0]


def test_symbols_and_timeframes_of_a_file_are_chosen_by_the_flags(tmp_path: Path) -> None:
    path = text(
        tmp_path,
        "ticker,timeframe,ts,open,high,low,close,volume",
        "AAPL,d1,2024-07-03,1,2,1,1,1",
        "MSFT,d1,2024-07-03,2,2,1,1,1",
        "AAPL,w1,2024-07-01,3,3,1,1,1",
        "BTC-USD,d1,2024-07-03,4,4,1,1,1",
        "BTC/USD,d1,2024-07-04,5,5,1,1,1",
    )
    every = {str(rows.key): rows.bars.open.tolist() for rows in read(path, Reading())}
    assert every == {"AAPL d1": [1], "MSFT d1": [2], "AAPL w1": [3], "BTC-USD d1": [4, 5]}
    some = read(path, Reading(("AAPL", "BTC/USD"), (Timeframe.d1,)))
    assert [str(rows.key) for rows in some] == ["AAPL d1", "BTC/USD d1"]


@pytest.mark.parametrize(
    ("lines", "reading", "said"),
    [
        ((HEAD, LINE, "2024-07-05,1,2,1,1,1,\"1,000\""), DAYS, "line 3: volume '1,000' is no"),
        ((HEAD, LINE, "2024-07-05,1,2,1"), DAYS, "line 3: 4 values stand under 7 names"),
        ((HEAD, LINE, '2024-07-05,"1,2,1,1,1,1'), DAYS, "line 3: unexpected end of data"),
        ((HEAD, LINE, "", "07/05/2024,1,2,1,1,1,1"), DAYS, "line 4: '07/05/2024' is no time"),
        ((HEAD, LINE), MINUTES, "line 2: a day without a time begins no m1 bar"),
        ((HEAD, LINE), NEW_YORK, "line 2: a day without a time begins no m1 bar"),
        ((HEAD, "202407030930,1,1,1,1,1,1"), MINUTES, "line 2: 202407030930 may be a day and a t"),
        ((HEAD, "2024-07-03 00:00:00,1,1,1,1,1,1"), MINUTES, "line 2: a time without a zone"),
        ((HEAD, "2024-07-03 09:30,1,1,1,1,1,1"), MINUTES, "line 2: '2024-07-03 09:30': a time wit"),
        ((HEAD, LINE), ALL_DAYS, "the file names no symbol"),
        ((HEAD, LINE), Reading(("AAPL",)), "the file names no timeframe"),
        ((HEAD, LINE), Reading(("AAPL", "MSFT"), (Timeframe.d1,)), "the file names no symbol"),
        ((HEAD, LINE), Reading(("AAPL@alpaca",), (Timeframe.d1,)), "import into AAPL, or AAPL@imp"),
        (("Date,Open,High,Low,Close", "x"), DAYS, "no column is known for volume: name it"),
        ((f"{HEAD},Timestamp", "x"), DAYS, "'Date' and 'Timestamp' may each hold ts: say which"),
        ((LINE, LINE), DAYS, "write a line of names before it"),
        ((f"symbol,{HEAD}", f"AAPL,{LINE}", f"A PL,{LINE}"), ALL_DAYS, "line 3: "),
        ((f"symbol,{HEAD}", f"aapl,{LINE}", f"€,{LINE}"), ALL_DAYS, "line 3: "),
        ((f"timeframe,{HEAD}", f"1d,{LINE}"), Reading(("AAPL",)), "line 2: timeframe '1d' is not"),
        (("ts_event,rtype,publisher_id,open,high,low,close,volume", "x"), DAYS, "download it"),
        (("",), DAYS, "has no line of names first"),
        ((HEAD, LINE), Reading(("A",), (Timeframe.d1,), {"close": "Last"}), "file has no 'Last'"),
        ((HEAD, LINE), Reading(("A",), (Timeframe.d1,), {"close": "Open"}), "open is read from"),
    ],
)  # fmt: skip
def test_what_a_csv_leaves_open_is_refused_in_a_line_that_says_what_to_do(
    tmp_path: Path, lines: Iterable[str], reading: Reading, said: str
) -> None:
    assert said in refusal(text(tmp_path, *lines), reading)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04zip", "unpack it"),
        (f"{HEAD}\n{LINE}".encode("utf-16"), "save it as UTF-8"),
        (f"{HEAD}\n{LINE}\n".encode() + b"\xff\xfe", "is not all UTF-8"),
        (f"{HEAD}\n{'1' * 70_000}".encode(), "line 2: it is too long"),
        (gzip.compress(f"{HEAD}\n{LINE}".encode())[:-9], "end-of-stream marker"),
        (b"PAR1 and nothing else", "no Parquet that can be read"),
        (b"DBN\x03", "cut off"),
    ],
    ids=("zip", "utf-16", "latin", "no lines", "cut gzip", "parquet", "dbn"),
)
def test_what_is_no_file_of_bars_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    if content.startswith(b"PAR1"):
        pytest.importorskip("pyarrow")
    if content.startswith(b"DBN"):
        pytest.importorskip("databento_dbn")
    path = tmp_path / "bars"
    path.write_bytes(content)
    assert said in refusal(path, DAYS)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.csv", DAYS)
    assert "Is a directory" in refusal(tmp_path, DAYS)


def test_a_file_is_read_again_from_its_beginning(tmp_path: Path) -> None:
    with opened(text(tmp_path, HEAD, LINE), DAYS) as file:
        assert [len(block) for block in file.blocks()] == [1]
        assert checksum(file.stream) == checksum(file.stream)
        assert [len(block) for block in file.blocks()] == [1]


# --- Parquet -------------------------------------------------------------------------------------


def parquet(tmp_path: Path, **columns: Any) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    prices = {name: [10.0] for name in ("Open", "High", "Low", "Close")}
    path = tmp_path / "bars.parquet"
    pq.write_table(pa.table({**prices, "Volume": [5], **columns}), path)
    return path


def stamps(tmp_path: Path, kind: Any, value: Any, reading: Reading) -> list[int]:
    pa = pytest.importorskip("pyarrow")
    [rows] = read(parquet(tmp_path, Date=pa.array([value], kind(pa))), reading)
    found: list[int] = rows.bars.ts_ms.tolist()
    return found


@pytest.mark.parametrize(
    ("kind", "value", "reading"),
    [
        (lambda pa: pa.timestamp("ns", "UTC"), AT_MS * 10**6, MINUTES),
        (lambda pa: pa.timestamp("us", "America/New_York"), AT_MS * 1000, MINUTES),
        (lambda pa: pa.timestamp("ms"), AT_MS - 4 * 3_600_000, NEW_YORK),
        (lambda pa: pa.int64(), AT_MS // 1000, MINUTES),
        (lambda pa: pa.string(), "2024-07-03T09:30:00-04:00", MINUTES),
    ],
)
def test_every_type_that_holds_an_instant_in_parquet_is_that_instant(
    tmp_path: Path, kind: Any, value: Any, reading: Reading
) -> None:
    assert stamps(tmp_path, kind, value, reading) == [AT_MS]


def test_days_in_parquet_are_days_and_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    midnight = int(datetime(2024, 7, 3, tzinfo=UTC).timestamp() * 1000)
    assert stamps(tmp_path, lambda pa: pa.date32(), date(2024, 7, 3), DAYS) == [midnight]
    assert stamps(tmp_path, lambda pa: pa.timestamp("ns"), midnight * 10**6, DAYS) == [midnight]
    with pytest.raises(UsageError, match=r"row 1: a time without a zone"):
        stamps(tmp_path, lambda pa: pa.timestamp("ns"), AT_MS * 10**6, MINUTES)
    with pytest.raises(UsageError, match=r"row 1: ts is null"):
        stamps(tmp_path, lambda pa: pa.timestamp("ns", "UTC"), None, MINUTES)


def test_categories_and_missing_values_are_read_from_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = parquet(
        tmp_path,
        ts=pa.array([AT_MS], pa.int64()),
        ticker=pa.array(["AAPL"]).dictionary_encode(),
        vwap=pa.array([None], pa.float64()),
        trades=pa.array([7], pa.int32()),
    )
    [rows] = read(path, Reading(timeframes=(Timeframe.m1,)))
    assert rows.key.ticker == "AAPL"
    assert str(rows.bars.vwap[0]) == "nan"
    assert rows.bars.trade_count.tolist() == [7]
    wrong = parquet(tmp_path, ts=pa.array([AT_MS]), Volume=["5"])
    assert "row 1: volume is a column of string" in refusal(wrong, MINUTES)


def test_what_pandas_writes_is_read_with_its_index(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2024-07-03 09:30", periods=2, freq="min", tz="America/New_York")
    bars = pandas.DataFrame(
        {name: [1.5, 2.5] for name in ("Open", "High", "Low", "Close", "Volume")},
        index=index.rename("Datetime"),
    )
    path = tmp_path / "bars.parquet"
    bars.to_parquet(path)
    [rows] = read(path, MINUTES)
    assert rows.bars.ts_ms.tolist() == [AT_MS, AT_MS + 60_000]
    assert rows.bars.close.tolist() == [1.5, 2.5]


# --- DBN -----------------------------------------------------------------------------------------


def dbn(tmp_path: Path, count: int = 3, publishers: tuple[int, ...] = (95,), **meta: Any) -> Path:
    """A file as Databento would deliver it, of a few minutes of QQQ."""
    module = pytest.importorskip("databento_dbn")
    zstandard = pytest.importorskip("zstandard")
    first = 1_680_010_200_000_000_000  # 2023-03-28T13:30Z
    days = SimpleNamespace(start_date=date(2023, 3, 28), end_date=date(2023, 3, 29), symbol="13340")
    told = module.Metadata(
        **{
            "dataset": "EQUS.MINI",
            "schema": module.Schema.OHLCV_1M,
            "start": 1_679_961_600_000_000_000,
            "end": 1_680_048_000_000_000_000,
            "stype_in": module.SType.RAW_SYMBOL,
            "stype_out": module.SType.INSTRUMENT_ID,
            "symbols": ["QQQ"],
            "mappings": [SimpleNamespace(raw_symbol="QQQ", intervals=[days])],
        }
        | meta
    )
    bars = [
        module.OHLCVMsg(
            rtype=33,
            publisher_id=publishers[at % len(publishers)],
            instrument_id=13340,
            ts_event=first + at * 60 * 10**9,
            open=307_830_000_000,
            high=308_000_000_000,
            low=307_000_000_000,
            close=307_830_000_001 if at else 2**63 - 1,
            volume=100 + at,
        )
        for at in range(count)
    ]
    path = tmp_path / "bars.dbn.zst"
    path.write_bytes(
        zstandard.ZstdCompressor().compress(told.encode() + b"".join(map(bytes, bars)))
    )
    return path


def test_a_dbn_file_tells_everything_itself(tmp_path: Path) -> None:
    path = dbn(tmp_path)
    with opened(path, Reading()) as file:
        facts = file.facts
        [rows] = [rows for block in file.blocks() for rows in block]
    assert (facts.feed, facts.adjustment) == ("EQUS.MINI:95", "raw")
    assert facts.covers == (1_679_961_600_000, 1_680_048_000_000)
    assert rows.key == ("QQQ", Timeframe.m1)
    assert rows.bars.open.tolist() == [307.83] * 3
    assert str(rows.bars.close[0]) == "nan"  # the price that stands for none
    assert rows.bars.close.tolist()[1:] == [307.830000001] * 2
    assert rows.bars.volume.tolist() == [100, 101, 102]


@pytest.mark.parametrize("meta", [{"limit": 4}, {"partial": ["QQQ"]}, {"not_found": ["TSLA"]}])
def test_a_dbn_file_that_may_lack_bars_proves_nothing(tmp_path: Path, meta: Any) -> None:
    with opened(dbn(tmp_path, **meta), Reading()) as file:
        assert file.facts.covers is None


def test_bars_of_two_venues_in_a_dbn_file_are_refused(tmp_path: Path) -> None:
    assert "record 2: it is another venue's" in refusal(dbn(tmp_path, publishers=(2, 3)), Reading())


@pytest.mark.parametrize("left", [0.3, 0.6, 0.99])
def test_a_dbn_file_that_is_cut_off_is_refused(tmp_path: Path, left: float) -> None:
    path = dbn(tmp_path, count=2000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    assert "cut off" in refusal(path, Reading())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EQUS.MINI.ohlcv-1d", "cut at midnight UTC and is no session"),
        *((f"GLBX.MDP3.ohlcv-{one}", "no calendar of its market") for one in ("1d", "1h", "1m")),
    ],
)
def test_recorded_files_of_what_is_not_kept_are_refused(name: str, said: str) -> None:
    pytest.importorskip("databento_dbn")
    assert said in refusal(DATABENTO / f"{name}.dbn.zst", Reading())


@pytest.mark.parametrize(("name", "first"), [("1m", 1_680_001_680_000), ("1h", 1_680_001_200_000)])
def test_recorded_files_are_read_and_prove_nothing_as_they_had_a_limit(
    name: str, first: int
) -> None:
    pytest.importorskip("databento_dbn")
    with opened(DATABENTO / f"EQUS.MINI.ohlcv-{name}.dbn.zst", Reading()) as file:
        [rows] = [rows for block in file.blocks() for rows in block]
        assert file.facts.covers is None
    assert (str(rows.key.ticker), len(rows.bars)) == ("QQQ", 4)
    assert (rows.bars.ts_ms[0], rows.bars.open[0]) == (first, 307.83)
