"""The bodies of Binance's answers: klines, and the refusals by their statuses and codes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.raw import Oddities
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Response
from backfill.errors import (
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.bodies import UNREADABLE, decoded, decoded_or
from backfill.providers.refusals import refuse_status, refused_place
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import Places, Row, read_rows, vwap_of, with_paid

INTERVAL: Final = {
    Timeframe.m1: "1m",
    Timeframe.m5: "5m",
    Timeframe.m15: "15m",
    Timeframe.m30: "30m",
    Timeframe.h1: "1h",
    Timeframe.h4: "4h",
    Timeframe.d1: "1d",
    Timeframe.w1: "1w",
    Timeframe.mn1: "1M",
}
_INVALID_SYMBOL: Final = -1121
_LEAST_BAN_S: Final = 120.0
_PLACE: Final = re.compile(rb"restricted location|from your country", re.I)


@dataclass(frozen=True, slots=True)
class Klines:
    """Bars as they came, and from each one's start to its end, in ms."""

    bars: Bars
    lengths_ms: IntColumn
    oddities: Oddities = field(default_factory=dict)

    def take(self, chosen: NDArray[np.bool_]) -> "Klines":
        """Return those that are chosen."""
        return Klines(self.bars.take(chosen), self.lengths_ms[chosen], self.oddities)


class _Kline(msgspec.Struct, array_like=True, gc=False):
    """What follows (volumes of takers, an unused field) is left unread."""

    start: float
    open: float
    high: float
    low: float
    close: float
    volume: float
    end: float
    quote: float
    trades: float


FIELDS: Final = _Kline.__struct_fields__
"""What a row holds, in order."""
WHOLE: Final = ("start", "end", "trades")
"""Which of it are whole numbers."""
# As MessagePack a row of doubles is an array whose size is always the same: one byte begins it, and
# one comes before each double (https://github.com/msgpack/msgpack/blob/master/spec.md).
_PACKED: Final = np.dtype(
    {
        "names": list(FIELDS),
        "formats": [">f8"] * len(FIELDS),
        "offsets": [2 + 9 * nth for nth in range(len(FIELDS))],
        "itemsize": 1 + 9 * len(FIELDS),
    }
)
_MOST: Final = 2.0**53
"""Below it a double holds every whole number; one read as this may have been another."""


class _Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


_ENCODER: Final = msgspec.msgpack.Encoder()
_KLINES: Final = msgspec.json.Decoder(list[_Kline], strict=False)
_ROWS: Final = msgspec.json.Decoder(list[list[msgspec.Raw]])
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5, trade_count=8)
END: Final = FIELDS.index("end")
_PAID: Final = 7
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def klines_in(body: bytes) -> Klines:
    """Return the klines of a page, their prices from the texts that they are sent as.

    Raises
    ------
    UnreadableAnswer
        If the body isn't JSON of this shape, or a bar has no time stamps.
    """
    try:
        klines = klines_of(rows_in(body))
    except UNREADABLE:
        klines = None
    if klines is not None:
        return klines
    rows: list[Row] = [*decoded(_ROWS, body)]
    return row_by_row(rows)


def rows_in(body: bytes) -> NDArray[np.void]:
    """Return the rows of a JSON array as records of doubles.

    Raises
    ------
    MsgspecError
        If it isn't such an array, or holds a value that is no number.
    """
    rows = _KLINES.decode(body)
    # The records lie in the packed array as numpy has them: read one by one, the values take twice
    # as long.
    packed = _ENCODER.encode(rows)
    return np.frombuffer(packed, _PACKED, offset=len(packed) - len(rows) * _PACKED.itemsize)


def klines_of(
    values: NDArray[np.void] | Mapping[str, FloatColumn | IntColumn],
) -> Klines | None:
    """Return the columns of rows, by field, as klines; None where one can't be what it should be.

    That is a stamp or a count that is no whole number, or a negative count, which would stand for
    one that wasn't given.
    """
    for name in WHOLE:
        if not _are_whole(values[name]):
            return None
    start, end, trades = (values[name].astype(np.int64, copy=False) for name in WHOLE)
    if (trades < 0).any():
        return None
    columns = {
        name: values[name].astype(np.float64, copy=False) for name in FIELDS if name not in WHOLE
    }
    volume = columns["volume"]
    bars = Bars(
        ts_ms=start,
        open=columns["open"],
        high=columns["high"],
        low=columns["low"],
        close=columns["close"],
        volume=volume,
        vwap=vwap_of(columns["quote"], volume),
        trade_count=trades,
    )
    return Klines(bars, end + 1 - start)


def _are_whole(values: FloatColumn | IntColumn) -> bool:
    """Whether all of them are whole numbers of which none may have been read as another."""
    if not (np.abs(values) < _MOST).all():
        return False
    return values.dtype.kind == "i" or bool((values == np.trunc(values)).all())


def row_by_row(rows: Sequence[Row]) -> Klines:
    """Read a page in which a value is no number: it costs its own bar alone.

    Raises
    ------
    UnreadableAnswer
        If a row is too short, or has no time stamps.
    BadAnswer
        If it is stamped in another unit.
    """
    bars, oddities = read_rows(rows, _PLACES, unit_ms=1)
    try:
        ends = [int(bytes(row[END])) for row in rows]
    except ValueError as error:
        raise UnreadableAnswer(f"the answer can't be read: {error!s}") from None
    lengths = np.array(ends, np.int64) + 1 - bars.ts_ms
    return Klines(with_paid(bars, oddities, rows, _PAID), lengths, oddities)


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names.

    418 is a ban of the address, of two minutes at least, after too many 429s were ignored; 403 is
    what a firewall before the service answers to too many calls.
    """
    status = response.status
    if status == 200:
        return
    refusal = decoded_or(_REFUSAL, response.body, _Refusal())
    said = refusal.msg.strip()
    if status == 403 and _PLACE.search(response.body):
        raise refused_place(status, said)
    if refusal.code == _INVALID_SYMBOL:
        raise UnknownSymbol("binance doesn't know this pair (it has BTC/USDT, not BTC/USD)")
    if status in {403, 418}:
        wait_s = retry_after_s(response.headers)
        raise RateLimited(
            f"the provider has banned this address for now ({status}){f': {said}' if said else ''}",
            _LEAST_BAN_S if wait_s is None else wait_s,
        )
    refuse_status(response, said)
