"""What an export holds, and what the next one writes again."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backfill import api
from backfill.core.export import File
from backfill.core.timeframe import Timeframe
from backfill.errors import BackfillError, LoginRefused, UsageError
from backfill.files.exported import Destination
from backfill.settings import Settings
from backfill.simulator import Market, Simulator
from tests.conftest import blocking, query, stored_bars
from tests.integration.store_kit import as_user, connection_to
from tests.objects import Bucket

Run = Callable[..., api.Summary]
Rows = list[tuple[Any, ...]]

COLUMNS = ("ts", "open", "high", "low", "close", "volume", "vwap", "trade_count")


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bars"


@pytest.fixture
def export(settings_here: Callable[..., Settings], out: Path) -> Callable[..., api.Exported]:
    """Export to the test's folder, in this process."""

    def one(to: Path | str = out, **job: Any) -> api.Exported:
        scope = api.Scope(
            **{name: job.pop(name) for name in ("tickers", "first", "last") if name in job}
        )
        return blocking(api.export(settings_here(), api.ExportJob(scope, str(to), **job)))

    return one


def execute(url: str, *statements: str) -> None:
    async def work() -> None:
        async with connection_to(url) as connection:
            for one in statements:
                await connection.execute(one)

    blocking(work())


def files(folder: Path) -> dict[str, Path]:
    """The files of an export, by the folder that each lies in."""
    return {str(path.parent.relative_to(folder)): path for path in folder.rglob("bars.*")}


def inodes(folder: Path) -> dict[str, int]:
    return {name: path.stat().st_ino for name, path in files(folder).items()}


def table(folder: Path) -> dict[tuple[str, str], Rows]:
    """The rows of each symbol and timeframe, in the order of the files; times in epoch ms."""
    found: dict[tuple[str, str], Rows] = {}
    for name, path in sorted(files(folder).items()):
        timeframe = name.partition("/")[0].removeprefix("timeframe=")
        for row in pq.ParquetFile(path).read().to_pylist():
            assert f"month={row['ts']:%Y-%m}" in name
            own = (round(row["ts"].timestamp() * 1000), *(row[one] for one in COLUMNS[1:]))
            found.setdefault((row["symbol"], timeframe), []).append(own)
    return found


def truth(url: str) -> dict[tuple[str, str], Rows]:
    """What the table holds of each series."""
    series = query(
        url,
        "SELECT s.ticker, p.timeframe::text FROM backfill_progress AS p"
        " JOIN symbols AS s ON s.id = p.symbol_id",
    )
    return {(one, name): stored_bars(url, one, Timeframe(name)) for one, name in series}


def test_an_export_holds_every_covered_bar_with_every_digit_and_nothing_else(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str
) -> None:
    run_here("2024-11-12", "AAPL", "2024-09-16", Timeframe.h1, Timeframe.d1)
    run_here("2024-11-12", "THIN", "2024-10-01", Timeframe.m15)
    everything = truth(database_url)
    execute(
        database_url,
        "UPDATE backfill_progress SET coverage = coverage - '{[2024-10-07, 2024-10-15)}'"
        " WHERE timeframe = 'd1'",
    )

    done = export()

    expected = dict(everything)
    uncovered = [datetime(2024, 10, day, tzinfo=UTC).timestamp() * 1000 for day in (7, 15)]
    expected["AAPL", "d1"] = [
        row for row in everything["AAPL", "d1"] if not uncovered[0] <= row[0] < uncovered[1]
    ]
    assert len(everything["AAPL", "d1"]) - len(expected["AAPL", "d1"]) == 6
    assert table(out) == expected
    assert done.bars == sum(map(len, expected.values()))
    assert set(files(out)) == {
        f"timeframe={one}/month=2024-{month}"
        for one, months in (("h1", "09 10 11"), ("d1", "09 10 11"), ("m15", "10 11"))
        for month in months.split()
    }
    kinds = pq.ParquetFile(files(out)["timeframe=d1/month=2024-10"]).schema_arrow
    assert kinds.field("ts").type == pa.timestamp("us", "UTC")


def test_the_next_export_writes_only_what_a_run_has_changed_and_what_is_withdrawn_disappears(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str
) -> None:
    run_here("2024-11-12", "AAPL", "2024-08-01")
    execute(
        database_url,
        "UPDATE ohlc_bars SET volume = volume + 1 WHERE ts = '2024-09-10 04:00Z'",
        "INSERT INTO ohlc_bars SELECT symbol_id, timeframe, '2024-10-12 04:00Z', open, high, low,"
        " close, volume FROM ohlc_bars WHERE ts = '2024-10-11 04:00Z'",
    )
    export()
    before, wrong = inodes(out), table(out)
    again = export()
    assert (again.written, again.bars_written, again.removed) == (0, 0, 0)
    assert inodes(out) == before

    # The provider's answer puts the first right and lacks the second.
    done = run_here("2024-11-12", "AAPL", "2024-08-01", mode=api.Mode.reload)
    assert (done.bars.updated, done.bars.withdrawn) == (1, 1)
    after = export()

    assert table(out) == truth(database_url) != wrong
    changed = {name for name, inode in inodes(out).items() if inode != before[name]}
    assert changed >= {"timeframe=d1/month=2024-09", "timeframe=d1/month=2024-10"}
    assert after.written == len(changed)
    # What a run changed is known from the first bar to the last: those months, and no others.
    assert changed == {"timeframe=d1/month=2024-09", "timeframe=d1/month=2024-10"}

    # New days are the last month's; a symbol that is deleted is in none.
    run_here("2024-11-14", "AAPL", "2024-08-01")
    assert (export().written, table(out)) == (1, truth(database_url))
    execute(database_url, "DELETE FROM backfill_progress")
    gone = export()
    assert (gone.bars, gone.removed, files(out)) == (0, 4, {})


def test_an_export_that_ends_at_any_file_leaves_whole_ones_and_the_next_finishes_it(
    run_here: Run,
    export: Callable[..., api.Exported],
    out: Path,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_here("2024-11-12", "AAPL", "2024-09-16")
    run_here("2024-11-12", "MSFT", "2024-09-16")
    put = Destination._put
    left = 0

    class Killed(BaseException):
        pass

    def put_some(self: Destination, part: Path, path: str) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        put(self, part, path)

    monkeypatch.setattr(Destination, "_put", put_some)
    for many in range(20):
        # Each begins with what an export of other symbols wrote, so that all of it is another's.
        left = -1
        export(tickers=("MSFT",))
        assert set(table(out)) == {("MSFT", "d1")}
        left = many
        try:
            export()
        except Killed:
            assert set(table(out)) <= set(truth(database_url))
            left = -1
            export()
        else:
            assert many == 5
            break
        assert table(out) == truth(database_url)
        # One that was killed while it wrote fewer symbols is not taken for one of all.
        left = many
        with pytest.raises(Killed):
            export(tickers=("MSFT",))
        left = -1
        export()
        assert table(out) == truth(database_url)
    else:
        pytest.fail("it never came to its end")


def test_an_adjusted_export_is_what_the_adjusted_view_shows_and_follows_its_splits(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str, market: Market
) -> None:
    run_here("2024-11-12", "SPLT", "2023-01-03", Timeframe.h1, Timeframe.d1)

    def shown() -> Rows:
        rows = query(
            database_url,
            "SELECT (extract(epoch FROM ts) * 1000)::bigint, open, high, low, close, volume, vwap,"
            " trade_count FROM ohlc_bars_adjusted ORDER BY timeframe, ts",
        )
        return [tuple(row) for row in rows]

    def exported() -> Rows:
        found = table(out)
        return found["SPLT", "h1"] + found["SPLT", "d1"]

    export(adjusted=True)
    assert exported() == shown()
    raw = truth(database_url)
    assert exported() != raw["SPLT", "h1"] + raw["SPLT", "d1"]

    # Months before a split that is set aside are other ones now; those after it stand. Who may read
    # a file may read the one that takes its place.
    execute(database_url, "UPDATE splits SET status = 'dropped'")
    files = [one for one in out.rglob("*") if one.is_file()]
    for one in files:
        one.chmod(0o600)
    again = export(adjusted=True)
    assert 0 < again.written < again.partitions
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    assert exported() == shown() == raw["SPLT", "h1"] + raw["SPLT", "d1"]
    with pytest.raises(UsageError, match="holds adjusted bars as parquet"):
        export()


def test_an_export_finds_out_that_the_database_was_brought_back_to_an_older_state(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str
) -> None:
    run_here("2024-11-12", "AAPL", "2024-10-01")
    export()
    # As the restored state has it: without the newest run, and without what that corrected.
    execute(
        database_url,
        "UPDATE ohlc_bars SET volume = 1",
        "DELETE FROM backfill_changes",
        "DELETE FROM backfill_runs",
    )
    assert export().written == 2
    assert table(out) == truth(database_url)


def test_an_export_gives_way_to_a_later_one_to_the_same_place(
    run_here: Run, export: Callable[..., api.Exported], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here("2024-11-12", "AAPL", "2024-10-01")
    put = Destination._put

    def overtaken(self: Destination, part: Path, path: str) -> None:
        put(self, part, path)
        manifest = out / "_export.json"
        held = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(held | {"writer": "another"}))

    monkeypatch.setattr(Destination, "_put", overtaken)
    with pytest.raises(UsageError, match="another export writes to"):
        export()
    assert files(out) == {}


@pytest.mark.parametrize("looks", [1, 2], ids=["before it writes", "before it removes"])
def test_an_export_neither_keeps_nor_removes_what_another_has_written_meanwhile(
    run_here: Run,
    export: Callable[..., api.Exported],
    out: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    looks: int,
) -> None:
    run_here("2024-11-12", "AAPL", "2024-10-01")
    run_here("2024-11-12", "MSFT", "2024-08-01")
    export(tickers=("AAPL",))
    look = Destination.files

    def overtaken(self: Destination) -> dict[str, File]:
        nonlocal looks
        looks -= 1
        found = look(self)
        if looks == 0:
            export(tickers=("MSFT",))
        return found

    monkeypatch.setattr(Destination, "files", overtaken)
    with pytest.raises(UsageError, match="another export writes to"):
        export(tickers=("AAPL",))
    assert table(out) == {("MSFT", "d1"): truth(database_url)["MSFT", "d1"]}


def test_a_file_that_is_no_longer_the_one_that_was_written_is_written_again(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str
) -> None:
    run_here("2024-11-12", "AAPL", "2024-10-01")
    export()
    place = files(out)["timeframe=d1/month=2024-10"]
    place.write_bytes(files(out)["timeframe=d1/month=2024-11"].read_bytes())
    assert export().written == 1
    assert table(out) == truth(database_url)


def test_an_export_leaves_the_files_of_others_where_they_are(
    run_here: Run, export: Callable[..., api.Exported], out: Path
) -> None:
    run_here("2024-11-12", "AAPL", "2024-11-01")
    theirs = [
        out / ".movie.part",
        out / "bars.parquet",
        out / "timeframe=d1/bars.parquet",
        out / "timeframe=d1/symbol=AAPL/bars.parquet",
        out / "timeframe=d1/month=2024-11/notes.txt",
        out / "timeframe=2h/month=2024-11/bars.parquet",
        out / ".backfill-export-running.part",
    ]
    left = out / ".backfill-export-killed.part"
    for path in (*theirs, left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(left, (0, 0))
    for _ in range(2):
        export()
        assert all(path.exists() for path in theirs)
    assert not left.exists()
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        ".movie.part", "bars.parquet", ".backfill-export-running.part", "_export.json"
    }  # fmt: skip


def test_csv_reads_back_as_the_same_numbers(
    run_here: Run, export: Callable[..., api.Exported], out: Path, database_url: str
) -> None:
    from pyarrow import csv

    run_here("2024-11-12", "AAPL", "2024-11-01")
    export(form="csv")
    read = csv.read_csv(files(out)["timeframe=d1/month=2024-11"])
    assert read.column_names == ["symbol", *COLUMNS]
    rows = [
        (round(row["ts"].timestamp() * 1000), *(row[name] for name in COLUMNS[1:]))
        for row in read.to_pylist()
    ]
    assert rows == stored_bars(database_url, "AAPL", Timeframe.d1)


def test_a_place_that_is_none_is_refused_in_a_line(
    export: Callable[..., api.Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place, told in (
        (tmp_path / "file" / "folder", "can't be written to"),
        ("gs://bucket", "gs:// is no place"),
        ("s3:///key", "names no bucket"),
        ("s3://key:secret@bucket/x", "AWS_ACCESS_KEY_ID"),
    ):
        with pytest.raises(UsageError, match=told) as refused:
            export(to=place)
        assert "\n" not in str(refused.value)
        assert "key:secret" not in str(refused.value)
    with pytest.raises(UsageError, match="no series of NOSUCH"):
        export(tickers=("NOSUCH",))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'ohlc-backfill\[export\]'"):
        export()


async def test_a_bucket_holds_what_a_folder_would(
    run_here: Run,
    export: Callable[..., api.Exported],
    out: Path,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    await asyncio.to_thread(run_here, "2024-11-12", "AAPL", "2024-10-01")
    bucket = Bucket()
    async with bucket.served():
        place = bucket.url("some/where")
        first = await asyncio.to_thread(export, place)
        again = await asyncio.to_thread(export, place)
        assert (first.written, again.written) == (2, 0)
        for key, content in bucket.objects.items():
            path = tmp_path / key.removeprefix("some/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert table(tmp_path / "where") == await asyncio.to_thread(truth, database_url)

        await asyncio.to_thread(execute, database_url, "DELETE FROM backfill_progress")
        gone = await asyncio.to_thread(export, place)
        assert gone.removed == 2
        # What is left of the folders are objects of no bytes, by which pyarrow knows them.
        left = {key for key, content in bucket.objects.items() if content}
        assert left == {"some/where/_export.json"}
        with pytest.raises(BackfillError, match="can't be written"):
            await asyncio.to_thread(export, place.replace("s3://bars", "s3://others"))


def test_a_login_that_only_reads_exports_and_one_that_sees_no_rows_removes_nothing(
    run_here: Run,
    export: Callable[..., api.Exported],
    settings_here: Callable[..., Settings],
    out: Path,
    database_url: str,
    tmp_path: Path,
) -> None:
    run_here("2024-11-12", "AAPL", "2024-10-01")
    export()
    name = f"exporting_{tmp_path.name[-8:]}_{os.getpid()}".lower()
    execute(
        database_url,
        f'CREATE ROLE "{name}" LOGIN',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{name}"',
    )
    job = api.ExportJob(api.Scope(), str(out))
    theirs = settings_here(DATABASE_URL=as_user(database_url, name))
    try:
        # The policies hide every row from it: all would look withdrawn.
        with pytest.raises(LoginRefused, match="doesn't see the rows of"):
            blocking(api.export(theirs, job))
        assert table(out) == truth(database_url)
        execute(database_url, f'ALTER ROLE "{name}" BYPASSRLS')
        assert blocking(api.export(theirs, job)).written == 0
    finally:
        execute(database_url, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')
