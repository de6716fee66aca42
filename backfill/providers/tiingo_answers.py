"""The bodies of Tiingo's answers: rows by name, metadata, and refusals by their words.

Its refusals come with any status, 200 included, and as plain text: the body is read first.
"""

from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from backfill.core.bars import Bars
from backfill.core.http_date import http_date
from backfill.core.raw import Oddities
from backfill.core.wire import Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    RateLimited,
    SymbolsUsedUp,
    Unauthorised,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.bodies import UNREADABLE, decoded, decoded_or
from backfill.providers.refusals import refuse_status
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import NULL, Places, PricedRow, read_rows
from backfill.providers.stamps import stamps_ms

_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5)
_NEW_YORK: Final = ZoneInfo("America/New_York")
_HOUR_S: Final = 3600.0
_LONGEST: Final = 400
"""A refusal in plain text is a sentence or two."""


class Metadata(msgspec.Struct):
    """What is told of a ticker: the first day that there are prices of, None without any."""

    ticker: str
    startDate: date | None = None  # noqa: N815  # the wire's own name


class _Row(msgspec.Struct, gc=False):
    date: str
    open: float
    high: float
    low: float
    close: float
    volume: float


class _LooseRow(PricedRow, kw_only=True):
    """A row of an answer in which at least one holds something that is no number."""

    date: str


class _Refusal(msgspec.Struct):
    detail: str = ""


_ROWS: Final = msgspec.json.Decoder(list[_Row])
_LOOSE_ROWS: Final = msgspec.json.Decoder(list[_LooseRow])
_METADATA: Final = msgspec.json.Decoder(Metadata)
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def bars_in(body: bytes) -> tuple[Bars, Oddities]:
    """Return the raw bars of an answer, and what came in them that is no number.

    What is adjusted stands beside them in the same rows, and is left unread.

    Raises
    ------
    UnreadableAnswer
        If it is no such answer, or a row has no time stamp.
    BadAnswer
        If no row has a volume: that column was asked for.
    """
    try:
        rows = _ROWS.decode(body)
    except UNREADABLE:
        return _row_by_row(body)
    columns = (np.array([getattr(row, name) for row in rows], np.float64) for name in _VALUES)
    return Bars.priced(stamps_ms([row.date for row in rows]), *columns), {}


_VALUES: Final = ("open", "high", "low", "close", "volume")


def metadata_in(body: bytes) -> Metadata:
    """Return what is told of a ticker.

    Raises
    ------
    UnreadableAnswer
        If that isn't what came.
    """
    return decoded(_METADATA, body)


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer names by its words, or else by its status.

    Raises
    ------
    SymbolsUsedUp, RateLimited, UnknownSymbol, Unauthorised, NotEntitled
        As its words say, also with status 200.
    GeoBlocked, ProviderUnavailable, ProviderError
        As another status says.
    UnreadableAnswer
        If an answer with status 200 is neither JSON nor any of these.
    """
    status, said = response.status, _said(response.body)
    detail = f" ({status}){f': {said}' if said else ''}"
    if "run over your" in said:
        _refuse_quota(response, said)
    if said.startswith("Error: Ticker") and "not found" in said:
        raise UnknownSymbol(f"tiingo has no such ticker{detail}")
    if status == 401 or (status == 403 and (said in {"", "None"} or "token" in said)):
        raise Unauthorised(f"the provider refused the key{detail}")
    if status == 403:
        raise NotEntitled(f"the plan doesn't include this data{detail}")
    if status == 200 and said:
        raise UnreadableAnswer(f"the answer can't be read: {said}")
    refuse_status(response, said)


def _refuse_quota(response: Response, said: str) -> None:
    """Raise what a quota that is used up means: that of symbols is the month's, calls go on."""
    if "symbol" in said:
        raise SymbolsUsedUp(
            f"the month's different symbols are used up; those asked for before are still served: "
            f"{said}"
        )
    wait_s = retry_after_s(response.headers)
    if wait_s is None:
        wait_s = _until_midnight_s(response) if "daily" in said else _HOUR_S
    raise RateLimited(f"the provider asked to slow down ({response.status}): {said}", wait_s)


def _until_midnight_s(response: Response) -> float:
    """Return how long the day of New York still lasts, by the answer's own clock."""
    now = http_date(response.headers.get("date", ""))
    if now is None:
        return _HOUR_S
    local = now.astimezone(_NEW_YORK)
    midnight = datetime.combine(local.date() + timedelta(days=1), time(), _NEW_YORK)
    return (midnight - now).total_seconds()


def _said(body: bytes) -> str:
    """Return what a refusal says, as JSON or in plain text; nothing of an answer with data."""
    if body.lstrip()[:1] == b"{":
        return decoded_or(_REFUSAL, body, _Refusal()).detail.strip()
    if body.lstrip()[:1] == b"[":
        return ""
    try:
        return body[:_LONGEST].decode().strip()
    except UnicodeDecodeError:
        return ""


def _row_by_row(body: bytes) -> tuple[Bars, Oddities]:
    """Read an answer in which a value is no number: it costs its own bar alone."""
    rows = decoded(_LOOSE_ROWS, body)
    if rows and all(row.volume == NULL for row in rows):
        raise BadAnswer("no row of the answer has a volume, which was asked for")
    stamps = stamps_ms([row.date for row in rows]).tolist()
    given = [
        [msgspec.Raw(b"%d" % at_ms), row.open, row.high, row.low, row.close, row.volume]
        for at_ms, row in zip(stamps, rows, strict=True)
    ]
    return read_rows(given, _PLACES, unit_ms=1)
