"""What polars and DuckDB make of an export, by the lines of docs/analysis.md.

It runs in a Python of its own, which has them and not backfill (`make oracles`), in the folder that
holds the export::

    python readers.py POLARS_BLOCK DUCKDB_BLOCK

prints a JSON object: for each its types by column, how many rows it reads of each timeframe and
month, and the first stamp of all as ISO 8601.
"""

import json
import sys
from typing import Any


def polars(block: str) -> dict[str, Any]:
    import polars as pl

    names: dict[str, Any] = {}
    exec(block, names)
    bars = names["bars"]
    months = bars.group_by("timeframe", "month").len().collect().rows()
    return {
        "types": {name: str(kind) for name, kind in bars.collect_schema().items()},
        "months": sorted(months),
        "first": bars.select(pl.col("ts").min()).collect().item().isoformat(),
    }


def duckdb(block: str) -> dict[str, Any]:
    import duckdb

    duckdb.sql("SET TimeZone = 'UTC'")
    counts = duckdb.sql(block).fetchall()
    every = "read_parquet('bars/**/*.parquet', hive_partitioning = true)"
    described = duckdb.sql(f"DESCRIBE SELECT * FROM {every}").fetchall()
    months = duckdb.sql(f"SELECT timeframe, month, count(*) FROM {every} GROUP BY ALL").fetchall()
    [(first,)] = duckdb.sql(f"SELECT min(ts) FROM {every}").fetchall()
    return {
        "types": {name: kind for name, kind, *_ in described},
        "months": sorted(months),
        "first": first.isoformat(),
        "counted": sum(bars for _, _, bars, _ in counts),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"polars": polars(sys.argv[1]), "duckdb": duckdb(sys.argv[2])}))
