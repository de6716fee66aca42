"""DBN, as Databento delivers it; read by databento-dbn and zstandard, the extra ``databento``."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.cells import BadRow
from backfill.core.coverage import Span
from backfill.core.filed import Reading, Rows, Sorter
from backfill.core.stamps import StampReader
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.errors import UsageError
from backfill.files.base import Facts, refused

_BLOCK: Final = 2**20
"""How many bytes are unpacked at once."""
_TIMEFRAMES: Final = {"ohlcv-1m": Timeframe.m1, "ohlcv-1h": Timeframe.h1}
_EQUITIES: Final = (
    *("EQUS", "DBEQ", "XNAS", "XNYS", "XASE", "ARCX", "BATS", "BATY", "EDGA", "EDGX"),
    *("XBOS", "XPSX", "XCHI", "XCIS", "IEXG", "MEMX", "EPRL"),
)
"""What the datasets of US shares are called before the dot."""
_NS_PER_MS: Final = 1_000_000
_PER_UNIT: Final = 1e9
_NO_PRICE: Final = 2**63 - 1


class DbnFile:
    """A DBN file, open: bars of one schema, of shares whose tickers its metadata map to numbers."""

    def __init__(self, stream: BinaryIO, path: Path, reading: Reading) -> None:
        try:
            import databento_dbn  # noqa: F401
            import zstandard  # noqa: F401
        except ImportError:
            raise UsageError(
                f"{path} is DBN, which databento-dbn reads: pip install 'ohlc-backfill[databento]'"
            ) from None
        self.stream = stream
        self.path = path
        self.facts = Facts("dbn", "record")
        meta, record = None, None
        for one in self._records():
            if meta is None:
                meta = one
            else:
                record = one
                break
        if meta is None:
            raise UsageError(f"{path} is cut off: it has no metadata")
        self._see(meta, reading)
        if record is None:
            raise UsageError(f"{path} holds no bar")
        self._publisher = int(record.publisher_id)
        self._names = _Names(meta.mappings)
        self._timeframe = _TIMEFRAMES[str(meta.schema)]
        self._reading = reading
        self.facts = Facts(
            "dbn",
            "record",
            feed=f"{meta.dataset}:{self._publisher}",
            adjustment="raw",
            covers=_proven(meta),
        )

    def _see(self, meta: Any, reading: Reading) -> None:
        """See that it holds bars that are kept, and nothing is said of it that it tells itself."""
        schema, dataset = str(meta.schema), meta.dataset
        if dataset.partition(".")[0] not in _EQUITIES:
            raise UsageError(
                f"{self.path}: {dataset} is no dataset of US shares, and no calendar of its market "
                "(futures, options) is kept"
            )
        if schema == "ohlcv-1d":
            raise UsageError(
                f"{self.path}: a day of Databento is cut at midnight UTC and is no session: "
                "import ohlcv-1h or ohlcv-1m, and days from elsewhere"
            )
        if schema not in _TIMEFRAMES:
            known = " or ".join(_TIMEFRAMES)
            raise UsageError(f"{self.path} holds {schema}, and no bars that are kept: {known}")
        if (str(meta.stype_in), str(meta.stype_out)) != ("raw_symbol", "instrument_id"):
            raise UsageError(
                f"{self.path} was asked for by {meta.stype_in}: ask for it by raw_symbol, so that "
                "its metadata name the tickers"
            )
        if reading.columns or reading.zone:
            raise UsageError(f"{self.path}: DBN tells its columns and times itself: leave that out")
        if reading.timeframes and reading.timeframes != (_TIMEFRAMES[schema],):
            raise UsageError(f"{self.path} holds {_TIMEFRAMES[schema]}, and no other timeframe")

    def blocks(self) -> Iterator[list[Rows]]:
        """Read it from its beginning, as `BarFile` says."""
        sorter = Sorter(
            Reading(self._reading.symbols, (self._timeframe,)),
            names_symbol=True,
            names_timeframe=False,
        )
        stamps, first = StampReader(None), 1
        for records in self._batches():
            bars = [one for one in records if not hasattr(one, "mappings")]
            if bars:
                try:
                    yield self._sorted(bars, sorter, stamps, first)
                except BadRow as bad:
                    raise refused(self, bad, first + bad.row) from None
                first += len(bars)

    def _sorted(
        self, records: Sequence[Any], sorter: Sorter, stamps: StampReader, first: int
    ) -> list[Rows]:
        from databento_dbn import OHLCVMsg

        for row, one in enumerate(records):
            if type(one) is not OHLCVMsg:
                raise BadRow(row, f"a record of {type(one).__name__} is no bar")
        count = len(records)
        others = np.flatnonzero(_integers(records, "publisher_id") != self._publisher)
        if len(others):
            raise BadRow(
                int(others[0]),
                "it is another venue's than the first, and a series has bars of one: "
                "ask for one publisher, or a consolidated dataset such as EQUS.MINI",
            )
        told = stamps.of_numbers(_integers(records, "ts_event"), "ns")
        tickers = self._names.of(_integers(records, "instrument_id"), told.ts_ms)
        bars = Bars.priced(
            told.ts_ms,
            _prices(records, "open"),
            _prices(records, "high"),
            _prices(records, "low"),
            _prices(records, "close"),
            np.fromiter(map(attrgetter("volume"), records), np.float64, count),
        )
        return sorter.sort(tickers, None, bars, told, np.arange(first, first + count))

    def _records(self) -> Iterator[Any]:
        for batch in self._batches():
            yield from batch

    def _batches(self) -> Iterator[list[Any]]:
        """Decode it from its beginning: its metadata, then its records, some at a time."""
        from databento_dbn import DBNDecoder, DBNError

        decoder = DBNDecoder()
        try:
            for block in self._unpacked():
                decoder.write(block)
                yield decoder.decode()
        except DBNError as error:
            raise UsageError(f"{self.path} is no DBN that can be read: {error}") from None
        if decoder.buffer():
            raise self._cut_off()

    def _unpacked(self) -> Iterator[bytes]:
        """Read its bytes. Neither library tells of a file that ends in the middle of a frame."""
        import zstandard

        self.stream.seek(0)
        if self.stream.read(3) == b"DBN":
            self.stream.seek(0)
            while block := self.stream.read(_BLOCK):
                yield block
            return
        self.stream.seek(0)
        unpacking = zstandard.ZstdDecompressor().decompressobj()
        try:
            while packed := self.stream.read(_BLOCK // 16):
                while packed:
                    if unpacking.eof:
                        unpacking = zstandard.ZstdDecompressor().decompressobj()
                    yield unpacking.decompress(packed)
                    packed = unpacking.unused_data if unpacking.eof else b""
        except zstandard.ZstdError as error:
            raise UsageError(f"{self.path} is no DBN that can be read: {error}") from None
        if not unpacking.eof:
            raise self._cut_off()

    def _cut_off(self) -> UsageError:
        return UsageError(f"{self.path} is cut off in the middle of a record: download it again")


class _Names:
    """Which ticker an instrument's number stands for, on which days."""

    def __init__(self, mappings: Any) -> None:
        self._of: dict[int, list[tuple[int, int, str]]] = {}
        for ticker, intervals in mappings.items():
            for one in intervals:
                if one["symbol"]:
                    days = (np.datetime64(one[end], "ms") for end in ("start_date", "end_date"))
                    start, end = (int(day.astype(np.int64)) for day in days)
                    self._of.setdefault(int(one["symbol"]), []).append((start, end, ticker))

    def of(self, numbers: IntColumn, ts_ms: IntColumn) -> list[str]:
        """Return the ticker of each record, by the day that it is of in UTC."""
        days = ts_ms // DAY_MS * DAY_MS
        pairs, which = np.unique(np.stack((numbers, days)), axis=1, return_inverse=True)
        first_of = np.unique(which, return_index=True)[1]
        names = [
            self._one(number, day, int(row))
            for number, day, row in zip(*pairs.tolist(), first_of.tolist(), strict=True)
        ]
        return [names[at] for at in which.reshape(-1).tolist()]

    def _one(self, number: int, day: int, row: int) -> str:
        for start, end, ticker in self._of.get(number, ()):
            if start <= day < end:
                return ticker
        raise BadRow(row, f"the metadata name no ticker for the instrument {number} on that day")


def _proven(meta: Any) -> Span | None:
    """Return the range of which a file is proven to hold every bar that there was.

    So it is where no limit cut it short and every ticker was found on each of its days.
    """
    if meta.limit is not None or meta.partial or meta.not_found or meta.end is None:
        return None
    return Span(-(-meta.start // _NS_PER_MS), meta.end // _NS_PER_MS)


def _integers(records: Sequence[Any], name: str) -> IntColumn:
    return np.fromiter(map(attrgetter(name), records), np.int64, len(records))


def _prices(records: Sequence[Any], name: str) -> FloatColumn:
    """Return prices, which are counted in 1e-9; NaN where there is none."""
    counted = _integers(records, name)
    return np.where(counted == _NO_PRICE, np.nan, counted / _PER_UNIT)
