"""The bodies of Binance's answers: klines, and the refusals by their statuses and codes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import Bars, FloatColumn, IntColumn
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.raw import Oddities
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Response
from backfill.errors import (
    BadAnswer,
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

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_ms: int
    quote: float
    trades: int


class _Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


_KLINES: Final = msgspec.json.Decoder(list[_Kline], strict=False)
_ROWS: Final = msgspec.json.Decoder(list[list[msgspec.Raw]])
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5, trade_count=8)
_END: Final = 6
_PAID: Final = 7
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def klines_in(body: bytes) -> Klines:
    """Return the klines of a page, their prices from the texts that they are sent as.

    Raises
    ------
    UnreadableAnswer
        If the body isn't JSON of this shape, or a bar has no time stamps.
    """
    klines = _plain(body)
    if klines is not None:
        return klines
    rows: list[Row] = [*decoded(_ROWS, body)]
    return _row_by_row(rows)


def klines_in_file(text: bytes) -> Klines:
    """Return the klines of a CSV file, which are stamped in ms or in µs.

    Raises
    ------
    UnreadableAnswer
        If a row is too short, or has no time stamps.
    BadAnswer
        If the stamps are in neither unit, or some in one and some in the other.
    """
    lines = text.split()
    klines = _plain(b"[[" + b"],[".join(lines) + b"]]" if lines else b"[]")
    if klines is not None:
        unit = _per_ms(klines.bars.ts_ms)
        bars = replace(klines.bars, ts_ms=klines.bars.ts_ms // unit)
        return Klines(bars, klines.lengths_ms // unit)
    rows = [line.split(b",") for line in lines]
    try:
        stamps = np.array([(int(row[0]), int(row[_END])) for row in rows], np.int64)
    except (ValueError, IndexError, OverflowError) as error:
        raise UnreadableAnswer(f"the file can't be read: {error!s}") from None
    unit = _per_ms(stamps[:, 0])
    for row, (start, end) in zip(rows, (stamps // unit).tolist(), strict=True):
        row[0], row[_END] = b"%d" % start, b"%d" % end
    return _row_by_row(rows)


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


def _plain(body: bytes) -> Klines | None:
    """Return the klines of a page, or None where a value of it is no number."""
    try:
        rows = _KLINES.decode(body)
    except UNREADABLE:
        return None
    # A negative count would stand for one that wasn't given.
    return None if any(row.trades < 0 for row in rows) else _columns(rows)


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


def _columns(rows: list[_Kline]) -> Klines:
    def column(values: list[float]) -> FloatColumn:
        return np.array(values, np.float64)

    start = np.array([row.open_ms for row in rows], np.int64)
    end = np.array([row.close_ms for row in rows], np.int64)
    volume, quote = column([row.volume for row in rows]), column([row.quote for row in rows])
    bars = Bars(
        ts_ms=start,
        open=column([row.open for row in rows]),
        high=column([row.high for row in rows]),
        low=column([row.low for row in rows]),
        close=column([row.close for row in rows]),
        volume=volume,
        vwap=vwap_of(quote, volume),
        trade_count=np.array([row.trades for row in rows], np.int64),
    )
    return Klines(bars, end + 1 - start)


def _row_by_row(rows: Sequence[Row]) -> Klines:
    """Read a page in which a value is no number: it costs its own bar alone."""
    bars, oddities = read_rows(rows, _PLACES, unit_ms=1)
    try:
        ends = [int(bytes(row[_END])) for row in rows]
    except ValueError as error:
        raise UnreadableAnswer(f"the answer can't be read: {error!s}") from None
    lengths = np.array(ends, np.int64) + 1 - bars.ts_ms
    return Klines(with_paid(bars, oddities, rows, _PAID), lengths, oddities)
