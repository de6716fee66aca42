"""Parquet, as pandas and polars write it; read by pyarrow, the extra ``parquet``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.cells import BadRow, whole
from backfill.core.filed import Reading, Rows, Sorter
from backfill.core.headings import columns_of
from backfill.core.stamps import PER_SECOND, StampReader, Stamps
from backfill.errors import UsageError
from backfill.files.base import Facts, refused

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE: Final = 20_000
"""How many rows are read at once."""
_BUFFER: Final = 2**20
"""How much of a column is read ahead, in bytes."""


class ParquetFile:
    """A Parquet file, open."""

    facts = Facts("parquet", "row")

    def __init__(self, stream: BinaryIO, path: Path, reading: Reading) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise UsageError(
                f"{path} is Parquet, which pyarrow reads: pip install 'ohlc-backfill[parquet]'"
            ) from None
        self.stream = stream
        self.path = path
        self._reading = reading
        self._broken = pa.ArrowException, OSError
        try:
            stream.seek(0)
            self._file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER)
            self._names = self._file.schema_arrow.names
            self._columns = columns_of(self._names, reading.columns)
            self._sorter()
        except self._broken as error:
            raise UsageError(f"{path} is no Parquet that can be read: {error}") from None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def blocks(self) -> Iterator[list[Rows]]:
        """Read it from its beginning, as `BarFile` says."""
        sorter, stamps = self._sorter(), StampReader(self._reading.zone)
        names = [self._names[place] for place in self._columns.used]
        first = 1
        try:
            for batch in self._file.iter_batches(_AT_ONCE, columns=names, use_threads=False):
                try:
                    yield self._sorted(batch, sorter, stamps, first)
                except BadRow as bad:
                    raise refused(self, bad, first + bad.row) from None
                first += batch.num_rows
        except self._broken as error:
            raise UsageError(f"{self.path}, after row {first - 1:,}: {error}") from None

    def _sorter(self) -> Sorter:
        named = self._columns.at
        return Sorter(
            self._reading,
            names_symbol="symbol" in named,
            names_timeframe="timeframe" in named,
        )

    def _sorted(
        self, batch: "pa.RecordBatch", sorter: Sorter, stamps: StampReader, first: int
    ) -> list[Rows]:
        """Return a batch as the rows of each series."""
        of = {field: batch.column(self._names[place]) for field, place in self._columns.at.items()}
        count = batch.num_rows
        if not count:
            return []
        told = self._stamps(of["ts"], batch, stamps)
        empty = np.full(count, np.nan)
        bars = Bars(
            ts_ms=told.ts_ms,
            open=_numbers("open", of["open"]),
            high=_numbers("high", of["high"]),
            low=_numbers("low", of["low"]),
            close=_numbers("close", of["close"]),
            volume=_numbers("volume", of["volume"]),
            vwap=_numbers("vwap", of["vwap"]) if "vwap" in of else empty,
            trade_count=whole(
                "trade_count",
                _numbers("trade_count", of["trade_count"]) if "trade_count" in of else empty,
            ),
        )
        tickers, timeframes = (_texts(one, of[one]) if one in of else None for one in _NAMING)
        return sorter.sort(tickers, timeframes, bars, told, np.arange(first, first + count))

    def _stamps(self, values: "pa.Array", batch: "pa.RecordBatch", stamps: StampReader) -> Stamps:
        """Return what the column of stamps tells, by its type."""
        import pyarrow as pa

        _see_whole("ts", values)
        kind = values.type
        if self._columns.of_time is not None:
            times = _texts("time", batch.column(self._names[self._columns.of_time]))
            days = _texts("date", values.cast(pa.string()))
            return stamps.of_text(list(map(" ".join, zip(days, times, strict=True))))
        if pa.types.is_timestamp(kind):
            numbers = _integers(values.view(pa.int64()))
            if kind.tz is not None:
                return stamps.of_instants(numbers, kind.unit, kind.tz)
            return stamps.of_local(_in_ms(numbers, kind.unit))
        if pa.types.is_date32(kind):
            return stamps.of_days(_integers(values.view(pa.int32())))
        if pa.types.is_integer(kind):
            return stamps.of_numbers(_integers(values))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return stamps.of_text(values.to_pylist())
        raise BadRow(0, f"a column of {kind} tells no times")


_NAMING: Final = ("symbol", "timeframe")


def _in_ms(numbers: IntColumn, unit: str) -> IntColumn:
    per_second = PER_SECOND[unit]
    if per_second < 1000:
        return numbers * 1000
    ms, rest = np.divmod(numbers, per_second // 1000)
    if rest.any():
        row = int(np.flatnonzero(rest)[0])
        raise BadRow(row, f"{numbers[row]} is no whole millisecond, in {unit}")
    return ms


def _see_whole(name: str, values: "pa.Array") -> None:
    """See that a column has a value in every row."""
    if values.null_count:
        row = int(np.flatnonzero(np.asarray(values.is_null()))[0])
        raise BadRow(row, f"{name} is null")


def _integers(values: "pa.Array") -> IntColumn:
    found: IntColumn = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _numbers(name: str, values: "pa.Array") -> FloatColumn:
    """Return a column of numbers; NaN where there is none."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_decimal(kind):
        texts = (one if one is None else float(one) for one in values.to_pylist())
        return np.array(list(texts), np.float64)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise BadRow(0, f"{name} is a column of {kind}, and no numbers")
    found: Any = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(found, np.float64)


def _texts(name: str, values: "pa.Array") -> list[str]:
    """Return a column of texts, categories included."""
    import pyarrow as pa

    _see_whole(name, values)
    texts: list[str] = values.cast(pa.string()).to_pylist()
    return texts
