"""A dlt pipeline: its REST source, loaded as CSV and merged into a table that dlt makes."""

import os
import tempfile
from datetime import UTC, datetime
from typing import Any, Final

from bench.peers.job import Job, done
from bench.workload import KEY, Load

DATASET: Final = "dlt_bench"
BARS: Final = f"""
    SELECT ticker, ts, open, high, low, close, volume, vwap, trade_count FROM {DATASET}.ohlc_bars
"""
"""The bars in the table that dlt makes."""

_NAMES: Final = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "vw": "vwap",
    "n": "trade_count",
}
_COLUMNS: Final = {
    "ticker": {"data_type": "text"},
    "ts": {"data_type": "timestamp"},
    "open": {"data_type": "double"},
    "high": {"data_type": "double"},
    "low": {"data_type": "double"},
    "close": {"data_type": "double"},
    "volume": {"data_type": "double"},
    "vwap": {"data_type": "double"},
    "trade_count": {"data_type": "bigint"},
}


def _resource(load: Load) -> dict[str, Any]:
    def as_row(bar: dict[str, Any]) -> dict[str, Any]:
        row = {name: bar.get(letter) for letter, name in _NAMES.items()}
        return row | {
            "ticker": load.ticker,
            "ts": datetime.fromtimestamp(bar["t"] / 1000, UTC),
        }

    return {
        "name": f"minutes_{load.ticker[2:].lower()}",
        "table_name": "ohlc_bars",
        "write_disposition": {"disposition": "merge", "strategy": "upsert"},
        "primary_key": ["ticker", "ts"],
        "columns": _COLUMNS,
        "endpoint": {
            "path": load.path,
            "params": load.parameters,
            "data_selector": "results",
            "paginator": {"type": "json_link", "next_url_path": "next_url"},
        },
        "processing_steps": [{"map": as_row}],
    }


def _main() -> None:
    job = Job.given()
    with tempfile.TemporaryDirectory() as folder:
        # It reads where it keeps its state, and whether it reports, as it is imported.
        os.environ |= {"DLT_DATA_DIR": folder, "RUNTIME__DLTHUB_TELEMETRY": "false"}
        import dlt
        from dlt.sources.rest_api import rest_api_source

        source = rest_api_source(
            {
                "client": {
                    "base_url": job.provider,
                    "auth": {"type": "bearer", "token": KEY},
                },
                "resources": [_resource(load) for load in job.loads],
            }
        )
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=folder,
            # It asks for a host in its place; the one in the query, a socket, goes before it.
            destination=dlt.destinations.postgres(job.database.replace("@/", "@localhost/")),
            dataset_name=DATASET,
        )
        # Its default, INSERT statements, costs Postgres three times as much.
        pipeline.run(source, loader_file_format="csv")
        done()


if __name__ == "__main__":
    _main()
