"""Bars in the binary format of COPY, and straight into the table."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.series import Series, SymbolId
from backfill.store.pool import Connection
from backfill.store.shape import Shape, rows_dropped, rows_told
from backfill.store.times import POSTGRES_EPOCH_MS

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_COLUMNS: Final = (
    "symbol_id", "timeframe", "ts", "open", "high", "low", "close", "volume", "vwap", "trade_count",
)  # fmt: skip
# Rows of the table as `copy_rows` writes them.
_COPY: Final = f"COPY ohlc_bars ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT binary)"
_PRICES: Final = ("open", "high", "low", "close", "volume", "vwap")
_PIECE: Final = 4096


def may_copy(connection: Connection, shape: Shape) -> bool:
    """Whether bars may go straight into the table.

    They may not if it is of another shape, nor where that was refused to this transaction before:
    a row was there after all, or the role's rows are bound by policies, which COPY can't honour.
    """
    return shape.is_own and connection.may_copy


async def copy_bars(
    connection: Connection, parts: Sequence[tuple[Series, Bars]], shape: Shape
) -> None:
    """Put a COPY of bars off, of which no row should be there yet.

    Raises
    ------
    RowsDropped
        If the table didn't keep all of them, as one may of which a trigger or a partition decides.
    """
    await connection.copy_later(_COPY, _stream(parts, shape.id_width))
    if not shape.keeps_all:
        meant, kept = sum(len(bars) for _, bars in parts), rows_told(await connection.flush())
        if kept < meant:
            raise await rows_dropped(connection, meant, kept)


async def _stream(parts: Sequence[tuple[Series, Bars]], id_width: int) -> AsyncIterator[bytes]:
    """Encode rows as they are sent, some at a time: nothing else waits long, and few are held."""
    yield _HEADER
    for alike in _pieces(parts):
        yield copy_rows(alike, id_width)
        # asyncpg (0.32) asks for the next piece at once, as long as the socket takes them.
        await asyncio.sleep(0)
    yield _TRAILER


def _pieces(parts: Sequence[tuple[Series, Bars]]) -> Iterator[list[tuple[Series, Bars]]]:
    """Cut rows into pieces of one layout; a piece may hold many series of few bars, as a day is."""
    piece: list[tuple[Series, Bars]] = []
    rows = 0
    for series, bars in parts:
        for start in range(0, len(bars), _PIECE):
            some = bars.take(slice(start, start + _PIECE))
            full = rows + len(some) > _PIECE
            if piece and (full or piece[0][0].timeframe is not series.timeframe):
                yield piece
                piece, rows = [], 0
            piece.append((series, some))
            rows += len(some)
    if piece:
        yield piece


def copy_rows(parts: Sequence[tuple[Series, Bars]], id_width: int = 4) -> bytes:
    """Return the rows of series of one timeframe as COPY reads them.

    An absent vwap or count is NULL. ``id_width`` is how many bytes the column ``symbol_id`` has.
    """
    label = str(parts[0][0].timeframe).encode()
    bars = Bars.concat([one for _, one in parts])
    ids = np.array([np.void(_id_bytes(series.symbol.id, id_width)) for series, _ in parts])
    table = np.empty(len(bars), _row_type(len(label), id_width))
    table["fields"] = len(_COLUMNS)
    table["symbol_id"] = np.repeat(ids, [len(one) for _, one in parts])
    table["timeframe"] = label
    table["symbol_id_length"], table["timeframe_length"] = id_width, len(label)
    table["ts"] = (bars.ts_ms - POSTGRES_EPOCH_MS) * 1000
    for name in (*_PRICES, "trade_count"):
        table[name] = getattr(bars, name)
    for name in ("ts", *_PRICES, "trade_count"):
        table[f"{name}_length"] = 8
    absent = {"vwap": np.isnan(bars.vwap), "trade_count": bars.trade_count == NO_COUNT}
    if not any(rows.any() for rows in absent.values()):
        return table.tobytes()
    return _without_absent(table, absent)


def _id_bytes(symbol_id: SymbolId, width: int) -> bytes:
    return (
        symbol_id.bytes if isinstance(symbol_id, UUID) else symbol_id.to_bytes(width, signed=True)
    )


def _without_absent(table: NDArray[np.void], absent: dict[str, NDArray[np.bool_]]) -> bytes:
    """Return the rows with a length of -1 and no bytes for each value that is absent."""
    kept = np.ones((len(table), table.dtype.itemsize), bool)
    for name, rows in absent.items():
        table[f"{name}_length"][rows] = -1
        offset = _offset(table.dtype, name)
        kept[rows, offset : offset + 8] = False
    return table.view(np.uint8).reshape(kept.shape)[kept].tobytes()


def _offset(layout: np.dtype[np.void], name: str) -> int:
    """Where a field of a row begins."""
    fields: Mapping[str, tuple[Any, ...]] = layout.fields or {}
    offset: int = fields[name][1]
    return offset


def _row_type(label_length: int, id_width: int) -> np.dtype[np.void]:
    """Return the layout of a row without NULLs: each value behind its length, big-endian."""
    layout: list[tuple[str, str]] = [
        ("fields", ">i2"),
        ("symbol_id_length", ">i4"),
        ("symbol_id", f"V{id_width}"),
        ("timeframe_length", ">i4"),
        ("timeframe", f"S{label_length}"),
        ("ts_length", ">i4"),
        ("ts", ">i8"),
    ]
    for name in _PRICES:
        layout += [(f"{name}_length", ">i4"), (name, ">f8")]
    layout += [("trade_count_length", ">i4"), ("trade_count", ">i8")]
    return np.dtype(layout)
