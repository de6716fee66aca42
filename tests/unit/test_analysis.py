"""What docs/analysis.md says of the types that pandas, polars and DuckDB read is what comes out.

pandas is here with the calendars; polars and DuckDB are looked at where they are installed.
"""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backfill.present.bars import shape_of
from backfill.store.history import StoredBar
from tests.documents import DOCS

TEXT = DOCS.joinpath("analysis.md").read_text("utf-8")
PRICES = ("open", "high", "low", "close")
BARS = [
    StoredBar(
        datetime(2024, 11, 11, 5, tzinfo=UTC) + timedelta(days=day),
        *(0.1 + 0.2 * day, 1 / 3 + day, 1e-3, 2 / 7 + day),
        1234.5,
        None if day % 3 == 0 else 10 / 3,
        None if day % 2 == 0 else 2**40 + day,
    )
    for day in range(4)
]


def block(section: str, language: str) -> str:
    """The first block of a section."""
    found = re.search(rf"^## {section}\n.*?```{language}\n(.*?)```", TEXT, re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the CSV of the page."""
    shape = shape_of("csv", "AAPL", "d1", adjusted=False)
    lines = [shape.head, *map(shape.line, BARS)]
    tmp_path.joinpath("aapl.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_block(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(text, names)
    return names


@pytest.mark.usefixtures("here")
def test_pandas_reads_every_digit_and_the_types_that_the_page_names() -> None:
    names = run_block(block("pandas", "python"))
    bars = names["bars"]

    assert str(bars.index.dtype).endswith(", UTC]")
    assert {name: str(kind) for name, kind in bars.dtypes.items()} == {
        **dict.fromkeys((*PRICES, "volume", "vwap"), "float64"),
        "trade_count": "Int64",
    }
    for name in PRICES:
        assert bars[name].tolist() == [getattr(bar, name) for bar in BARS]
    assert bars["vwap"].isna().tolist() == [True, False, False, True]
    assert bars["trade_count"].tolist()[1::2] == [2**40 + 1, 2**40 + 3]
    sessions = run_block(
        block("pandas", "python") + 'sessions = bars.index.tz_convert("America/New_York").date'
    )
    assert sessions["sessions"][0] == date(2024, 11, 11)


@pytest.mark.usefixtures("here")
def test_polars_reads_the_types_that_the_page_names() -> None:
    polars = pytest.importorskip("polars")
    bars = run_block(block("polars", "python"))["bars"]

    assert bars.schema == {
        "ts": polars.Datetime("us", "UTC"),
        **dict.fromkeys((*PRICES, "volume", "vwap"), polars.Float64),
        "trade_count": polars.Int64,
    }
    for name in PRICES:
        assert bars[name].to_list() == [getattr(bar, name) for bar in BARS]


@pytest.mark.usefixtures("here")
def test_duckdb_reads_the_types_that_the_page_names() -> None:
    duckdb = pytest.importorskip("duckdb")
    assert [str(kind) for kind in duckdb.sql(block("DuckDB", "sql")).types] == [
        "TIMESTAMP WITH TIME ZONE",
        "DOUBLE",
    ]
    counts = duckdb.sql("SELECT trade_count, close FROM read_csv('aapl.csv')")
    assert str(counts.types[0]) == "BIGINT"
    assert [close for _, close in counts.fetchall()] == [bar.close for bar in BARS]
