"""Massive's results as columns of bars, where each of them holds numbers and nothing else."""

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars
from backfill.providers.doubles import Doubles, DoublesReader, doubles_reader


class _Bar(msgspec.Struct, gc=False):
    """All as doubles: the columns of a page are read at once, and whole numbers checked after."""

    t: float
    o: float
    h: float
    l: float  # noqa: E741  # the wire's own name
    c: float
    v: float
    vw: float = np.nan
    n: float = np.nan  # whole numbers take fewer bytes in `_rows`


def _row_type() -> np.dtype[np.void]:
    """Where the doubles of a bar are in its MessagePack form.

    One byte begins the map; a byte and the name, and one byte more, come before each double
    (https://github.com/msgpack/msgpack/blob/master/spec.md).
    """
    names = _Bar.__struct_fields__
    widths = [len(name) + 10 for name in names]
    ends = np.cumsum(widths) + 1
    return np.dtype(
        {
            "names": list(names),
            "formats": [">f8"] * len(names),
            "offsets": [int(end) - 8 for end in ends],
            "itemsize": int(ends[-1]),
        }
    )


_ROW: Final = _row_type()
_PIECE: Final = 64 * 1024
_BETWEEN: Final = re.compile(rb"\},\{")
_MOST: Final = 2.0**53
"""Below it a double holds every whole number; one read as this may have been another."""
_ROWS: Final = msgspec.msgpack.Encoder()
_BARS: Final = msgspec.json.Decoder(list[_Bar])


def columns_of(results: memoryview) -> Bars:
    """Return the bars of a JSON array, of which the text between its brackets is given.

    Raises
    ------
    DecodeError
        If it is no such array, or a bar of it holds something else than numbers.
    """
    quickly = doubles_reader(_ROW.names or (), may_lack=("vw", "n"))
    read = [_piece_columns(piece, quickly) for piece in _pieces(results)]
    t, o, h, l, c, v, vw, n = np.concatenate([np.empty((8, 0)), *read], axis=1)  # noqa: E741  # the wire's own names
    if (n < 0).any():
        raise msgspec.ValidationError("a count is negative")
    n[np.isnan(n)] = NO_COUNT  # not given: JSON has no NaN
    for whole in (t, n):
        if not ((whole == np.trunc(whole)) & (np.abs(whole) < _MOST)).all():
            raise msgspec.ValidationError("a time stamp or a count is no whole number")
    return Bars(t.astype(np.int64), o, h, l, c, v, vw, n.astype(np.int64))


def _pieces(rows: memoryview) -> Iterator[bytes]:
    """Cut the bars of a JSON array into arrays of some hundred each.

    Decoding a page at one go would keep the event loop from running all that time, and the
    database waiting for the page before.

    >>> list(_pieces(memoryview(b'{"t":1},{"t":2}')))
    [b'[{"t":1},{"t":2}]']
    """
    start, end = 0, len(rows)
    while start < end:
        cut = _BETWEEN.search(rows, start + _PIECE)
        stop = cut.start() + 1 if cut else end
        yield b"".join((b"[", rows[start:stop], b"]"))
        # Whoever waits for the interpreter's lock has it now, not in five milliseconds.
        time.sleep(0)
        start = stop + 1


def _piece_columns(piece: bytes, quickly: DoublesReader | None) -> Doubles:
    """Return a column for each field of the bars of a piece."""
    if quickly is not None and (columns := quickly(piece)) is not None:
        return columns
    rows = _rows(_BARS.decode(piece))
    return np.array([rows[name] for name in _ROW.names or ()], np.float64)


def _rows(bars: Sequence[_Bar]) -> NDArray[np.void]:
    """Return bars as records.

    As MessagePack, a bar of doubles is a map whose size is always the same, so that a list of them
    lies in memory as an array of records does. That costs half of what reading the values one by
    one does.
    """
    packed = _ROWS.encode(bars)
    return np.frombuffer(packed, _ROW, offset=len(packed) - len(bars) * _ROW.itemsize)
