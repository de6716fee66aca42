"""CSV: a line of names, then a line for each bar; also gzipped, and with ; or tabs between."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

import numpy as np

from backfill.core.bars import Bars, IntColumn
from backfill.core.cells import BadRow, counts, numbers
from backfill.core.filed import Reading, Rows, Sorter
from backfill.core.headings import Columns, columns_of
from backfill.core.stamps import StampReader
from backfill.errors import UsageError
from backfill.files.base import Facts, refused

_AT_ONCE: Final = 20_000
"""How many lines are read at once."""
_LONGEST: Final = 2**16
"""How long a line may be, in characters."""
_DELIMITERS: Final = ",;\t|"


class TextFile:
    """A CSV file, open."""

    def __init__(self, stream: BinaryIO, path: Path, reading: Reading) -> None:
        self.stream = stream
        self.path = path
        self._reading = reading
        stream.seek(0)
        self._is_packed = stream.read(2) == b"\x1f\x8b"
        self.facts = Facts("csv.gz" if self._is_packed else "csv", "line")
        with self._text() as text:
            heading = next(self._lines(text), "")
        self._delimiter = max(_DELIMITERS, key=heading.count)
        self._names = next(csv.reader([heading], delimiter=self._delimiter), [])
        if not any(self._names):
            raise UsageError(f"{path} has no line of names first, nor anything else")
        try:
            self._columns = columns_of(self._names, reading.columns)
            self._sorter()
        except UsageError as error:
            hint = ""
            if any(name[:1].isdigit() for name in self._names):
                hint = ". It looks like one of a bar: write a line of names before it"
            raise UsageError(f"{path}: {error}{hint}") from None

    def blocks(self) -> Iterator[list[Rows]]:
        """Read it from its beginning, as `BarFile` says."""
        sorter, stamps = self._sorter(), StampReader(self._reading.zone)
        with self._text() as text:
            lines = self._rows(text)
            next(lines)
            while found := list(islice(lines, _AT_ONCE)):
                rows, numbers_ = zip(*found, strict=True)
                try:
                    yield _sorted(rows, self._columns, sorter, stamps, np.array(numbers_))
                except BadRow as bad:
                    raise refused(self, bad, numbers_[bad.row]) from None

    def _rows(self, text: io.TextIOWrapper) -> Iterator[tuple[list[str], int]]:
        """Yield the values of each line with its number; empty lines are passed over."""
        reader = csv.reader(
            self._lines(text), delimiter=self._delimiter, skipinitialspace=True, strict=True
        )
        width = len(self._names)
        try:
            for row in reader:
                if len(row) == width:
                    yield row, reader.line_num
                elif row:
                    why = f"{len(row)} values stand under {width} names"
                    raise refused(self, BadRow(0, why), reader.line_num)
        except csv.Error as error:
            raise refused(self, BadRow(0, f"{error}: is it CSV?"), reader.line_num) from None

    def _sorter(self) -> Sorter:
        named = self._columns.at
        return Sorter(
            self._reading,
            names_symbol="symbol" in named,
            names_timeframe="timeframe" in named,
        )

    def _text(self) -> io.TextIOWrapper:
        """Open its text from the beginning; closing that leaves the file open."""
        self.stream.seek(0)
        binary: IO[bytes] = self.stream
        if self._is_packed:
            binary = cast("IO[bytes]", gzip.GzipFile(fileobj=self.stream))
        return _Text(binary, encoding="utf-8-sig", newline="")

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        """Yield lines, none of which is longer than one of a bar can be."""
        number = 0
        try:
            for line in iter(partial(text.readline, _LONGEST), ""):
                number += 1
                if len(line) == _LONGEST:
                    raise UsageError(f"{self.path}, line {number:,}: it is too long for one of CSV")
                yield line
        except UnicodeDecodeError:
            raise UsageError(f"{self.path} is not all UTF-8: save it as that") from None
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{self.path}, after line {number:,}: {error}") from None


class _Text(io.TextIOWrapper):
    """Text whose end leaves the file below it open."""

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self.detach()


def _sorted(
    rows: Sequence[list[str]],
    columns: Columns,
    sorter: Sorter,
    stamps: StampReader,
    lines: IntColumn,
) -> list[Rows]:
    """Return lines as the rows of each series; the row of what is bad counts from the first."""
    cells = list(zip(*rows, strict=True))
    of = {field: cells[place] for field, place in columns.at.items()}
    times: Sequence[str] = of["ts"]
    if columns.of_time is not None:
        times = list(map(" ".join, zip(times, cells[columns.of_time], strict=True)))
    told = stamps.of_text(times)
    absent = ("",) * len(rows)
    bars = Bars(
        ts_ms=told.ts_ms,
        open=numbers("open", of["open"]),
        high=numbers("high", of["high"]),
        low=numbers("low", of["low"]),
        close=numbers("close", of["close"]),
        volume=numbers("volume", of["volume"]),
        vwap=numbers("vwap", of.get("vwap", absent)),
        trade_count=counts("trade_count", of.get("trade_count", absent)),
    )
    return sorter.sort(of.get("symbol"), of.get("timeframe"), bars, told, lines)
