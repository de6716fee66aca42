"""The rows of Binance's files: read by pyarrow where that is installed, else as the service's are.

pyarrow is the extra ``archives``. It reads the same doubles, to the last bit, in half of the time.
A file in which a value is no number is read row by row, whatever is installed.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from backfill.core.bars import FloatColumn, IntColumn
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.errors import BadAnswer, UnreadableAnswer
from backfill.providers.binance_answers import (
    END,
    FIELDS,
    WHOLE,
    Klines,
    klines_of,
    row_by_row,
    rows_in,
)
from backfill.providers.bodies import UNREADABLE

_PIECE: Final = 64 * 1024
_BLOCK: Final = 256 * 1024
"""What pyarrow reads at once, a column after the other: it finds it in the processor's cache."""
_UNREAD: Final = ("taker_base", "taker_quote", "ignored")


def klines_in_file(text: bytes) -> Klines:
    """Return the klines of a CSV file, which are stamped in ms or in µs.

    Raises
    ------
    UnreadableAnswer
        If a row is too short, or has no time stamps.
    BadAnswer
        If the stamps are in neither unit, or some in one and some in the other.
    """
    klines = _quickly(text)
    if klines is not None:
        unit = _per_ms(klines.bars.ts_ms)
        bars = replace(klines.bars, ts_ms=klines.bars.ts_ms // unit)
        return Klines(bars, klines.lengths_ms // unit)
    rows = [line.split(b",") for line in text.split()]
    try:
        stamps = np.array([(int(row[0]), int(row[END])) for row in rows], np.int64)
    except (ValueError, IndexError, OverflowError) as error:
        raise UnreadableAnswer(f"the file can't be read: {error!s}") from None
    unit = _per_ms(stamps[:, 0])
    for row, (start, end) in zip(rows, (stamps // unit).tolist(), strict=True):
        row[0], row[END] = b"%d" % start, b"%d" % end
    return row_by_row(rows)


def _quickly(text: bytes) -> Klines | None:
    """Return the klines of a file, in its unit; None where a value of it is no number."""
    values = _by_pyarrow(text)
    if values is not None:
        return klines_of(values)
    try:
        rows = [rows_in(b"[]"), *(rows_in(b"[[%s]]" % piece) for piece in _pieces(text))]
    except UNREADABLE:
        return None
    return klines_of(np.concatenate(rows))


def _by_pyarrow(text: bytes) -> dict[str, FloatColumn | IntColumn] | None:
    """Return the columns of a file by field; None without pyarrow, or where it can't tell."""
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    types = dict.fromkeys(FIELDS, pyarrow.float64()) | dict.fromkeys(WHOLE, pyarrow.int64())
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(text),
            # One thread: the other core is the database's.
            csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                column_names=[*FIELDS, *_UNREAD],
            ),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(include_columns=FIELDS, column_types=types, null_values=[]),
        )
    except pyarrow.ArrowInvalid:
        return None
    table = table.combine_chunks()
    # `to_numpy` (pyarrow 26) imports pandas where that is installed: half a second.
    values: dict[str, Any] = {name: np.from_dlpack(table.column(name).chunk(0)) for name in FIELDS}
    # It reads words for what is no number, and for what has no end.
    return values if all(np.isfinite(one).all() for one in values.values()) else None


def _pieces(text: bytes) -> Iterator[bytes]:
    """Cut a file into some hundred rows each, as JSON has them but for the outermost brackets.

    Reading it at one go would keep the event loop from running all that time.
    """
    start, end = 0, len(text.rstrip())
    while start < end:
        cut = text.find(b"\n", min(start + _PIECE, end), end)
        stop = cut if cut >= 0 else end
        yield b"],[".join(text[start:stop].split())
        start = stop + 1


def _per_ms(stamps: IntColumn) -> int:
    """Return how many of the units that starts are told in make a millisecond: 1, or 1000."""
    if not len(stamps) or _are_ms(stamps):
        return 1
    whole_ms, rest_us = np.divmod(stamps, 1000)
    if not _are_ms(whole_ms) or rest_us.any():
        raise BadAnswer("the stamps of the file are neither all in ms nor all in µs")
    return 1000


def _are_ms(stamps: IntColumn) -> bool:
    return bool(stamps.min() >= EARLIEST_MS and stamps.max() <= LATEST_MS)
