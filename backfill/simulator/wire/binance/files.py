"""Binance's archive on the wire: the klines of a finished day or month as a zip, and its checksum.

A file is there from the day after its day on, one of a month from the first Monday after it. Stamps
are in µs from 2025-01-01 on. Whatever a fault makes of its rows, the checksum is of what is in the
file, unless the fault is not about the checksum's call.
"""

import hashlib
import re
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from io import BytesIO
from typing import Final

from backfill.simulator.market.cache import Cache
from backfill.simulator.wire.base import Ask, Blob
from backfill.simulator.wire.binance.klines import LENGTHS, QUOTE, Row, klines

FOLDER: Final = "/data/spot/"
_PATH: Final = re.compile(
    r"/data/spot/(?P<every>monthly|daily)/klines/(?P<pair>[A-Z0-9]+)/(?P<interval>\w+)/"
    r"(?P<name>(?P=pair)-(?P=interval)-(?P<day>\d{4}-\d{2}(?:-\d{2})?))\.zip(?P<sum>\.CHECKSUM)?"
)
_MICROSECONDS_FROM: Final = datetime(2025, 1, 1, tzinfo=UTC)
_MOST: Final = 32 * 1440
"""No file has as many rows."""
_HELD_BYTES: Final = 100_000_000
_ROW_BYTES: Final = 1_000


@dataclass(frozen=True, eq=False)
class Archived(Blob):
    """A file: ``rows`` are as the service tells them, in ms."""

    name: str
    rows: list[Row]
    per_ms: int
    content_type = "application/zip"

    @cached_property
    def data(self) -> bytes:
        """Its bytes."""
        made = BytesIO()
        with zipfile.ZipFile(made, "w") as file:
            member = zipfile.ZipInfo(f"{self.name}.csv")  # dated always alike
            member.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(member, "".join(map(self._line, self.rows)), compresslevel=1)
        return made.getvalue()

    def with_rows(self, rows: list[Row]) -> "Archived":
        """Return a file with other rows."""
        return replace(self, rows=rows)

    def _line(self, row: Row) -> str:
        first, *values = row
        values[5] = (values[5] + 1) * self.per_ms - 1
        return ",".join(map(str, (first * self.per_ms, *values))) + "\n"


@dataclass(frozen=True, eq=False)
class Checksum(Blob):
    """What is published of a file."""

    file: Archived
    content_type = "binary/octet-stream"

    @property
    def rows(self) -> list[Row]:
        """The rows of the file."""
        return self.file.rows

    def with_rows(self, rows: list[Row]) -> "Checksum":
        """Return what is published of a file with other rows."""
        return Checksum(self.file.with_rows(rows))

    @property
    def data(self) -> bytes:
        """Its bytes."""
        digest = hashlib.sha256(self.file.data).hexdigest()
        return f"{digest}  {self.file.name}.zip\n".encode()


_FILES: Final = Cache[Archived](_HELD_BYTES, lambda file: _ROW_BYTES * len(file.rows))
"""Files that were made: one is asked for twice."""


def about(path: str) -> tuple[str, ...]:
    """Return the market's ticker that a file is about, if it is one's."""
    match = _PATH.fullmatch(path)
    return (f"X:{match['pair']}",) if match else ()


def interval_of(path: str) -> str | None:
    """Return of which length the klines of a file are."""
    match = _PATH.fullmatch(path)
    return match["interval"] if match else None


def archived(ask: Ask) -> Archived | Checksum | None:
    """Return the file, or its checksum, that a call asks for; None for one that isn't there."""
    match = _PATH.fullmatch(ask.path)
    if match is None or not match["pair"].endswith(QUOTE):
        return None
    ticker, interval = f"X:{match['pair']}", match["interval"]
    if ticker not in ask.market.tickers or interval not in {*LENGTHS, "1d"}:
        return None
    try:
        first, until, there = _period(match["day"], monthly=match["every"] == "monthly")
    except ValueError:
        return None
    if there.timestamp() * 1000 > ask.now_ms:
        return None
    bounds_ms = round(first.timestamp() * 1000), round(until.timestamp() * 1000) - 1
    made_of = ask.query.get("interval", interval)

    def made() -> Archived:
        rows = klines(ask, ticker, made_of, bounds_ms, _MOST, oldest_first=True)
        return Archived(match["name"], rows, 1 if first < _MICROSECONDS_FROM else 1000)

    file = _FILES.get((ask.market, match["name"], made_of, ask.lacks), made)
    if not file.rows:
        return None
    return Checksum(file) if match["sum"] else file


def _period(text: str, *, monthly: bool) -> tuple[datetime, datetime, datetime]:
    """Return when a file's period begins and ends, and from when on the file is there."""
    day = date.fromisoformat(f"{text}-01" if monthly else text)
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if not monthly:
        until = first + timedelta(days=1)
        return first, until, until + timedelta(hours=12)
    until = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return first, until, until + timedelta(days=-until.weekday() % 7)
