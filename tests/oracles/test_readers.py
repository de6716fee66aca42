"""polars and DuckDB read an export with the types that docs/analysis.md names (`make oracles`)."""

import asyncio
import json
import re
from datetime import date
from pathlib import Path
from typing import Any, Final

from backfill.core.export import Partition
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.files.columnar import batch_of
from backfill.files.exported import Destination
from tests.documents import DOCS
from tests.integration.store_kit import minutes

HERE: Final = Path(__file__).parent
PRICES: Final = ("open", "high", "low", "close", "volume", "vwap")


def blocks(language: str) -> str:
    """The block of the page's section in a language."""
    text = DOCS.joinpath("analysis.md").read_text("utf-8")
    found = re.search(rf"^## Files for many tools\n.*?```{language}\n(.*?)```", text, re.M | re.S)
    assert found is not None
    return found[1]


async def test_polars_and_duckdb_read_an_export_as_the_page_says(
    python: str, tmp_path: Path
) -> None:
    destination = Destination.at(str(tmp_path / "bars"), "parquet")
    written = {}
    for month in (date(2024, 1, 1), date(2024, 2, 1)):
        for timeframe in (Timeframe.m1, Timeframe.d1):
            one = Partition(timeframe, month)
            bars = minutes(50, one.span.start_ms + 5 * DAY_MS)
            with destination.partition(one.folder) as replacement:
                rows = replacement.rows
                for symbol in ("AAPL", "BTC/USD"):
                    rows.add(batch_of(bars, symbol))
            written[str(timeframe), f"{month:%Y-%m}"] = rows.written

    found = await read(python, tmp_path, blocks("python"), blocks("sql"))

    named = {**dict.fromkeys(PRICES, "Float64"), "trade_count": "Int64"}
    assert found["polars"]["types"] == {
        "symbol": "String",
        "ts": "Datetime(time_unit='us', time_zone='UTC')",
        **named,
        "timeframe": "String",
        "month": "String",
    }
    assert found["duckdb"]["types"] == {
        "symbol": "VARCHAR",
        "ts": "TIMESTAMP WITH TIME ZONE",
        **dict.fromkeys(PRICES, "DOUBLE"),
        "trade_count": "BIGINT",
        "timeframe": "VARCHAR",
        "month": "VARCHAR",
    }
    for reader in ("polars", "duckdb"):
        counts = {(timeframe, month): bars for timeframe, month, bars in found[reader]["months"]}
        assert counts == written
        assert found[reader]["first"] == "2024-01-06T00:00:00+00:00"
    assert found["duckdb"]["counted"] == 200


async def read(python: str, folder: Path, *blocks: str) -> dict[str, Any]:
    """What the readers make of the export in a folder."""
    process = await asyncio.create_subprocess_exec(
        python, str(HERE / "readers.py"), *blocks, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    read_: dict[str, Any] = json.loads(out)
    return read_
