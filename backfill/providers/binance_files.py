"""Binance's archive: the klines of whole months and days as zip files, with checksums beside them.

https://github.com/binance/binance-public-data: ``BTCUSDT-1m-2024-07.zip`` holds a CSV of the same
name without a header, a row as the service's, prices as numbers without quotes. Stamps are in ms,
from 2025-01-01 on in µs: a file's own numbers tell which.
"""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from backfill.core.archive import Archive, Held, Period
from backfill.core.asked import Asked
from backfill.core.coverage import Span
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Response
from backfill.errors import BadAnswer, FileMissing, UnreadableAnswer
from backfill.providers.binance_answers import INTERVAL, Klines
from backfill.providers.binance_csv import klines_in_file
from backfill.providers.refusals import refuse_status
from backfill.providers.zipped import member_of

ARCHIVE: Final = Archive(
    timeframes=frozenset(INTERVAL) - {Timeframe.w1, Timeframe.mn1},
    # Months come on the first Monday after their end, days on the day after.
    periods=(Period(Timeframe.mn1, 7 * DAY_MS), Period(Timeframe.d1, DAY_MS)),
    requests=2,
    bar_bytes=45,
    call_bar_bytes=75,
)
_FOLDER: Final = {Timeframe.mn1: "monthly", Timeframe.d1: "daily"}
_DATED: Final = {Timeframe.mn1: "%Y-%m", Timeframe.d1: "%Y-%m-%d"}
_PATH: Final = re.compile(
    r"data/spot/(?:monthly|daily)/klines/(?P<pair>[A-Z0-9]+)/(?P<interval>\w+)/"
    r"(?P=pair)-(?P=interval)-(?P<year>\d{4})-(?P<month>\d{2})(?:-(?P<day>\d{2}))?\.zip"
)
_TIMEFRAME: Final = {interval: timeframe for timeframe, interval in INTERVAL.items()}
_CHECKSUM: Final = re.compile(rb"([0-9a-fA-F]{64}) [ *](\S+)\s*")
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Four times what a month of minutes unpacks to."""


def path_of(pair: str, asked: Asked, period: Timeframe) -> str:
    """Return where the file is that holds what is asked for, which lies in one period."""
    interval = INTERVAL[asked.timeframe]
    day = datetime.fromtimestamp(asked.span.start_ms / 1000, UTC)
    name = f"{pair}-{interval}-{day:{_DATED[period]}}.zip"
    return f"data/spot/{_FOLDER[period]}/klines/{pair}/{interval}/{name}"


def held_in(path: str) -> Held | None:
    """Return what a file holds, by its path; None for one that isn't of this archive."""
    match = _PATH.fullmatch(path)
    timeframe = _TIMEFRAME.get(match["interval"]) if match else None
    if match is None or timeframe is None:
        return None
    try:
        first = date(int(match["year"]), int(match["month"]), int(match["day"] or 1))
    except ValueError:
        return None
    until = first + timedelta(days=1)
    if match["day"] is None:
        until = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return Held(match["pair"], timeframe, Span(_midnight_ms(first), _midnight_ms(until)))


def checksum_in(response: Response, path: str) -> str:
    """Return the SHA-256 that is published of a file, in hexadecimal.

    Raises
    ------
    FileMissing
        If none is.
    BadAnswer
        If what came is none, or another file's.
    """
    _refuse(response, path)
    match = _CHECKSUM.fullmatch(response.body)
    if match is None:
        raise BadAnswer(f"what came as the checksum of {path} is none")
    named = match[2].decode(errors="replace")
    if named != _name(path):
        raise BadAnswer(f"what came as the checksum of {path} is another file's: {named[:80]}")
    return match[1].decode().lower()


def klines_of(
    response: Response, path: str, checksum: str, asked: Asked, period: Timeframe
) -> Klines:
    """Return those klines of a file that are asked for, and any that have no business there.

    Raises
    ------
    FileMissing
        If the archive has no such file.
    BadAnswer
        If it isn't what its checksum is of, or holds another period, or something else.
    """
    _refuse(response, path)
    found = hashlib.sha256(response.body).hexdigest()
    if found != checksum:
        raise BadAnswer(f"{path} has the SHA-256 {found}, and {checksum} is published of it")
    name = f"{_name(path).removesuffix('.zip')}.csv"
    try:
        klines = klines_in_file(member_of(response.body, name, _MOST_BYTES))
    except UnreadableAnswer as error:
        raise BadAnswer(f"{path}: {error}") from None  # it won't read otherwise another time
    stamps = klines.bars.ts_ms
    whole = asked.calendar.grid(period).widen(asked.span)
    strange = (stamps < whole.start_ms) | (stamps >= whole.end_ms)
    if 2 * np.count_nonzero(strange) > len(strange):
        raise BadAnswer(f"{path} holds klines of another time")
    return klines.take(strange | ((stamps >= asked.span.start_ms) & (stamps < asked.span.end_ms)))


def _refuse(response: Response, path: str) -> None:
    if response.status == 404:
        raise FileMissing(f"the archive has no {path}")
    refuse_status(response, "")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _midnight_ms(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
