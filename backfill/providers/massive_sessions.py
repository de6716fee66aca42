"""A session of the whole market as CSV, as Massive's flat files have it, read piece by piece.

A line is a bar, of minutes or of days, unadjusted, without a vwap; it is stamped in nanoseconds.
Tickers come one after another.
"""

from collections.abc import Collection, Iterator
from io import BytesIO
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, FloatColumn, IntColumn
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.raw import Oddities
from backfill.errors import BadAnswer
from backfill.providers.rows import Places, read_rows

_HEADER: Final = b"ticker,volume,open,close,high,low,window_start,transactions"
_VOLUME, _OPEN, _CLOSE, _HIGH, _LOW, _STAMP, _COUNT = range(7)
_COMMAS: Final = 7
_STAMP_DIGITS: Final = 19
"""Of nanoseconds, from 2001 to 2286."""
_BELOW_MS: Final = 6
_NS_PER_MS: Final = 10**_BELOW_MS
_LONGEST_LINE: Final = 64 * 1024
_LONGEST_TICKER: Final = 32
_WHOLE: Final = 2.0**53
_MASKS: Final = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)
"""What leaves so many of the first bytes of a word."""
_AS_CAME: Final = Places(open=1, high=2, low=3, close=4, volume=5, trade_count=6)


class SessionReader:
    """Takes the bars of the wanted tickers out of a file's text, which comes in pieces, in order.

    Tickers may come in any order, and more than once. What is no number costs its own bar (R11); a
    line of another shape the whole file.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = {ticker.encode(): ticker for ticker in wanted}
        self._found: dict[str, list[tuple[Bars, Oddities]]] = {}
        self._begun = False
        self._left = b""
        self.lines = 0

    def feed(self, text: bytes) -> None:
        """Read the next piece of the text, cut anywhere.

        Raises
        ------
        BadAnswer
            If it isn't lines of this shape, or they are stamped in another unit.
        """
        cut = text.rfind(b"\n") + 1
        if not cut:
            self._left += text
            if len(self._left) > _LONGEST_LINE:
                raise BadAnswer("a line of the file has no end")
            return
        lines, self._left = self._left + text[:cut], text[cut:]
        if not self._begun:
            header, _, lines = lines.partition(b"\n")
            if header != _HEADER:
                raise BadAnswer("the file begins otherwise than with its columns")
            self._begun = True
        if lines:
            self._read(lines)

    def close(self) -> dict[str, tuple[Bars, Oddities]]:
        """Return the bars of each wanted ticker that has any, once all of the text has come.

        Raises
        ------
        BadAnswer
            If it ends in the middle of a line, or holds no bar of anybody.
        """
        if self._left:
            raise BadAnswer("the file ends in the middle of a line")
        if not self.lines:
            raise BadAnswer("the file holds no bar")
        return {
            ticker: (
                Bars.concat([bars for bars, _ in parts]),
                {key: came for _, odd in parts for key, came in odd.items()},
            )
            for ticker, parts in self._found.items()
        }

    def _read(self, text: bytes) -> None:
        """Read whole lines."""
        starts, ends, commas = _lines(text)
        self.lines += len(starts)
        runs = _runs(text, starts, commas[:, 0])
        named = zip(starts[runs].tolist(), commas[runs, 0].tolist(), strict=True)
        tickers = [self._wanted.get(text[start:end]) for start, end in named]
        bounds = [*runs.tolist(), len(starts)]
        mine = [
            (ticker, slice(first, after))
            for ticker, first, after in zip(tickers, bounds, bounds[1:], strict=False)
            if ticker is not None
        ]
        if not mine:
            return
        rows = np.concatenate([np.arange(part.start, part.stop) for _, part in mine])
        _check_stamps(text, commas[rows, 5], commas[rows, 6])
        picked = b"".join(text[starts[one.start] : ends[one.stop - 1] + 1] for _, one in mine)
        for ticker, read in _parted(picked, [(one, part.stop - part.start) for one, part in mine]):
            self._found.setdefault(ticker, []).append(read)


def _lines(text: bytes) -> tuple[IntColumn, IntColumn, NDArray[np.int64]]:
    """Return where lines start and end, and where the commas of each are."""
    letters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    every = np.flatnonzero(letters == ord(","))
    if len(every) == _COMMAS * len(ends):
        commas = every.reshape(-1, _COMMAS)
        lengths = commas[:, 0] - starts
        if ((lengths > 0) & (lengths <= _LONGEST_TICKER) & (commas[:, -1] < ends)).all():
            return starts, ends, commas
    raise BadAnswer(f"a line of the file hasn't {_COMMAS + 1} values")


def _runs(text: bytes, starts: IntColumn, first_commas: IntColumn) -> IntColumn:
    """Return the numbers of the lines at which another ticker begins than the one before had."""
    lengths = first_commas - starts
    # Every offset of the text as the first of eight bytes, so that a ticker is compared by words.
    padded = text + bytes(_LONGEST_TICKER + 8)
    words = np.ndarray((len(text) + _LONGEST_TICKER,), "<u8", padded, strides=(1,))
    same = lengths[1:] == lengths[:-1]
    for at in range(0, int(lengths.max()), 8):
        word = words[starts + at] & _MASKS[np.clip(lengths - at, 0, 8)]
        same &= word[1:] == word[:-1]
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(~same) + 1))


def _check_stamps(text: bytes, before: IntColumn, after: IntColumn) -> None:
    """See that the stamps between commas are nanoseconds, of whole milliseconds.

    Raises
    ------
    BadAnswer
        If one is not.
    """
    letters = np.frombuffer(text, np.uint8)
    below = (letters[after - digit] == ord("0") for digit in range(1, _BELOW_MS + 1))
    if not (after - before == _STAMP_DIGITS + 1).all() or not all(one.all() for one in below):
        raise BadAnswer("the stamps of the file are of another unit than nanoseconds")


def _parted(
    lines: bytes, counts: list[tuple[str, int]]
) -> Iterator[tuple[str, tuple[Bars, Oddities]]]:
    """Read lines of several tickers, so many of each."""
    values = _numbers(lines)
    if values is not None:
        bars = _bars(values)
        at = 0
        for ticker, count in counts:
            yield ticker, (bars.take(slice(at, at + count)), {})
            at += count
        return
    each = iter(lines.splitlines())
    for ticker, count in counts:
        yield ticker, _odd([next(each) for _ in range(count)])


def _numbers(lines: bytes) -> FloatColumn | None:
    """Return the numbers of lines, a row each; None where a value is none, or can't be one.

    A count that isn't given is `NO_COUNT`.
    """
    lacking = lines.count(b",\n")
    if lacking:
        lines = lines.replace(b",\n", b",nan\n")
    try:
        values = np.loadtxt(
            BytesIO(lines), delimiter=",", comments=None, usecols=range(1, 8), ndmin=2
        )
    except ValueError:
        return None
    count = values[:, _COUNT]
    absent = np.isnan(count)
    if absent.sum() != lacking:
        return None
    counts = absent | ((count >= 0) & (count < _WHOLE) & (count == np.trunc(count)))
    count[absent] = NO_COUNT
    return values if np.isfinite(values).all() and counts.all() else None


def _bars(values: FloatColumn) -> Bars:
    # A whole millisecond is found again: the double of its nanoseconds is off by 128 at most.
    ts_ms = np.rint(values[:, _STAMP] / _NS_PER_MS).astype(np.int64)
    _check_years(ts_ms)
    columns = np.ascontiguousarray(values.T)
    return Bars(
        ts_ms=ts_ms,
        open=columns[_OPEN],
        high=columns[_HIGH],
        low=columns[_LOW],
        close=columns[_CLOSE],
        volume=columns[_VOLUME],
        vwap=np.full(len(values), np.nan),
        trade_count=columns[_COUNT].astype(np.int64),
    )


def _check_years(ts_ms: IntColumn) -> None:
    if not EARLIEST_MS <= ts_ms.min() <= ts_ms.max() <= LATEST_MS:
        raise BadAnswer("the stamps of the file are of another unit than nanoseconds")


def _odd(lines: list[bytes]) -> tuple[Bars, Oddities]:
    """Read the lines of a ticker of which some value is no number, and keep it as it came."""
    order = (_STAMP, _OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _COUNT)
    rows = []
    for line in lines:
        _, *given = line.split(b",")
        given[_STAMP] = given[_STAMP][:-_BELOW_MS]
        rows.append([msgspec.Raw(given[place] or b"null") for place in order])
    return read_rows(rows, _AS_CAME, unit_ms=1)
