"""Polars reads the pages, ADBC ingests them into a staging table, one merge for each page."""

from io import BytesIO
from typing import Final

import polars as pl
import urllib3
from adbc_driver_postgresql import dbapi

from bench.peers.job import Job, done
from bench.workload import KEY, Load

_BAR: Final = {
    "t": pl.Int64,
    "o": pl.Float64,
    "h": pl.Float64,
    "l": pl.Float64,
    "c": pl.Float64,
    "v": pl.Float64,
    "vw": pl.Float64,
    "n": pl.Int64,
}
_PAGE: Final = {"next_url": pl.String, "results": pl.List(pl.Struct(_BAR))}
_HEADERS: Final = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "gzip"}
_MERGE: Final = """
    INSERT INTO ohlc_bars (
        symbol_id, timeframe, ts, open, high, low, close, volume, vwap, trade_count
    )
    SELECT s.id, 'm1', b.t, b.o, b.h, b.l, b.c, b.v, b.vw, b.n
    FROM staged AS b
    JOIN symbols AS s ON s.ticker = $1
    ON CONFLICT (symbol_id, timeframe, ts) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, vwap = excluded.vwap,
        trade_count = excluded.trade_count
"""


def _load(job: Job, load: Load, http: urllib3.PoolManager, connection: dbapi.Connection) -> None:
    url: str | None = f"{job.provider}{load.target}"
    while url is not None:
        body = http.request("GET", url, headers=_HEADERS).data
        page = pl.read_json(BytesIO(body), schema=_PAGE)
        url = page["next_url"][0]
        bars = (
            page.select(pl.col("results").explode())
            .unnest("results")
            .with_columns(pl.from_epoch("t", time_unit="ms").dt.replace_time_zone("UTC"))
        )
        with connection.cursor() as cursor:
            cursor.adbc_ingest("staged", bars, mode="replace", temporary=True)
            cursor.execute(_MERGE, (load.ticker,))
        connection.commit()


def _main() -> None:
    job = Job.given()
    http = urllib3.PoolManager()
    with dbapi.connect(job.database) as connection:
        for load in job.loads:
            _load(job, load, http, connection)
    done()


if __name__ == "__main__":
    _main()
