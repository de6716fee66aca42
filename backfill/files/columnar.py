"""Bars as Arrow's columns, and written as Parquet or CSV a block at a time; pyarrow does it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE: Final = 2**17
"""How many rows a row group has, or more by what is added at once."""
_PRICES: Final = ("open", "high", "low", "close", "volume")


def see_installed(what: str) -> None:
    """See that pyarrow is there.

    Raises
    ------
    UsageError
        If it isn't; ``what`` is what it would be needed for.
    """
    try:
        import pyarrow  # noqa: F401  # that it is there
    except ImportError:
        raise UsageError(f"{what} takes pyarrow: pip install 'ohlc-backfill[export]'") from None


def schema(*, names_symbol: bool) -> "pa.Schema":
    """Return the columns of bars: times in UTC, and nulls where a provider gave nothing."""
    import pyarrow as pa

    symbol = [pa.field("symbol", pa.string(), nullable=False)] if names_symbol else []
    return pa.schema(
        [
            *symbol,
            pa.field("ts", pa.timestamp("us", "UTC"), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in _PRICES),
            pa.field("vwap", pa.float64()),
            pa.field("trade_count", pa.int64()),
        ]
    )


def batch_of(bars: Bars, symbol: str | None = None) -> "pa.RecordBatch":
    """Return bars as columns, with that of their symbol first if it is given."""
    import pyarrow as pa

    named = [] if symbol is None else [pa.repeat(pa.scalar(symbol, pa.string()), len(bars))]
    return pa.record_batch(
        [
            *named,
            pa.array(bars.ts_ms * 1000).cast(pa.timestamp("us", "UTC")),
            *(pa.array(getattr(bars, name)) for name in _PRICES),
            pa.array(bars.vwap, mask=np.isnan(bars.vwap)),
            pa.array(bars.trade_count, mask=bars.trade_count == NO_COUNT),
        ],
        schema=schema(names_symbol=symbol is not None),
    )


class Writer(Protocol):
    """Writes rows of one schema to a stream of bytes."""

    def write(self, table: "pa.Table") -> None:
        """Write rows."""

    def close(self) -> None:
        """Write what ends them; the stream stays open."""


class Rows:
    """Bars written to a stream, some thousands of rows at once."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._batches: list[pa.RecordBatch] = []
        self._held = 0
        self.written = 0

    def add(self, batch: "pa.RecordBatch") -> None:
        """Write rows, now or with those that follow."""
        self._batches.append(batch)
        self._held += batch.num_rows
        if self._held >= _AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write all that is left."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._batches:
            self._writer.write(pa.Table.from_batches(self._batches))
        self.written += self._held
        self._batches, self._held = [], 0


def writer_of(form: str, stream: Any, columns: "pa.Schema") -> Writer:
    """Return what writes rows to a stream as ``parquet``, ``csv`` or ``arrow``."""
    return _WRITERS[form](stream, columns)


def _parquet(stream: Any, columns: "pa.Schema") -> Writer:
    import pyarrow.parquet as pq

    named = [name for name in columns.names if name == "symbol"]
    writer: Writer = pq.ParquetWriter(stream, columns, compression="zstd", use_dictionary=named)
    return writer


def _arrow(stream: Any, columns: "pa.Schema") -> Writer:
    import pyarrow as pa

    writer: Writer = pa.ipc.new_stream(stream, columns)
    return writer


class _Csv:
    """CSV with times in ISO 8601, as `backfill bars` writes it; the shortest digits that do."""

    def __init__(self, stream: Any, columns: "pa.Schema") -> None:
        import pyarrow as pa
        from pyarrow import csv

        self._place = columns.get_field_index("ts")
        texts = columns.set(self._place, pa.field("ts", pa.string()))
        # The names hold nothing that wants quotes; by default they are put in them.
        stream.write(f"{','.join(columns.names)}\n".encode())
        options = csv.WriteOptions(include_header=False, quoting_style="needed")
        self._writer = csv.CSVWriter(stream, texts, write_options=options)

    def write(self, table: "pa.Table") -> None:
        import pyarrow as pa

        seconds = table.column("ts").cast(pa.timestamp("s", "UTC")).to_numpy()
        texts = np.char.add(np.datetime_as_string(seconds.astype("datetime64[s]")), "+00:00")
        self._writer.write(table.set_column(self._place, "ts", pa.array(texts, pa.string())))

    def close(self) -> None:
        self._writer.close()


_WRITERS: Final[dict[str, Callable[[Any, "pa.Schema"], Writer]]] = {
    "parquet": _parquet,
    "csv": _Csv,
    "arrow": _arrow,
}
