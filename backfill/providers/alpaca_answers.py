"""The bodies of Alpaca's answers: bars by symbol, assets, and the refusals by their words."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from math import isnan
from typing import Final

import msgspec
import numpy as np

from backfill.core.bars import NO_COUNT, Bars, FloatColumn
from backfill.core.http_date import http_date
from backfill.core.raw import Oddities
from backfill.core.wire import Response
from backfill.errors import (
    NotEntitled,
    ProviderError,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
)
from backfill.providers.bodies import UNREADABLE, decoded, decoded_or
from backfill.providers.refusals import refuse_status
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import NULL, Places, read_rows
from backfill.providers.stamps import stamps_ms

_MOST: Final = 2.0**53
"""Below it a double holds every whole number; one read as this may have been another."""

_REFUSED_KEY: Final = re.compile(r"forbidden|unauthori[sz]ed|credential|\bkeys?\b", re.I)
_NOT_IN_PLAN: Final = re.compile(r"subscription|recent SIP|permit|not entitled|upgrade", re.I)
_NO_SYMBOL: Final = re.compile(r"(invalid|unknown) symbol|asset not found", re.I)


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of bars, and the token that asks for the next one; None after the last.

    Bar ``i`` is of ``symbols[i]``.
    """

    symbols: list[str]
    bars: Bars
    token: str | None
    oddities: Oddities = field(default_factory=dict)


class Asset(msgspec.Struct):
    """What the trading host knows of a symbol; of what it says more is left unread."""

    symbol: str


class _Bar(msgspec.Struct, gc=False):
    t: str
    o: float
    h: float
    l: float  # noqa: E741  # the wire's own name
    c: float
    v: float
    n: float = np.nan
    vw: float = np.nan


class _LooseBar(msgspec.Struct):
    """A bar of a page in which at least one holds something that is no number."""

    t: str
    o: msgspec.Raw = NULL
    h: msgspec.Raw = NULL
    l: msgspec.Raw = NULL  # noqa: E741  # the wire's own name
    c: msgspec.Raw = NULL
    v: msgspec.Raw = NULL
    n: msgspec.Raw = NULL
    vw: msgspec.Raw = NULL


class _Page(msgspec.Struct):
    bars: dict[str, list[_Bar]]
    next_page_token: str | None


class _LoosePage(msgspec.Struct):
    bars: dict[str, list[_LooseBar]] | None
    next_page_token: str | None


class _Refusal(msgspec.Struct):
    message: str = ""


_PAGE: Final = msgspec.json.Decoder(_Page)
_LOOSE_PAGE: Final = msgspec.json.Decoder(_LoosePage)
_ASSET: Final = msgspec.json.Decoder(Asset)
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5, vwap=6, trade_count=7)


def answer_in(body: bytes) -> Answer:
    """Return the bars of a page, and of which symbol each is.

    Raises
    ------
    UnreadableAnswer
        If the body isn't JSON of this shape, or a bar has no time stamp.
    """
    try:
        page = _PAGE.decode(body)
    except UNREADABLE:
        return _row_by_row(body)
    rows = [row for rows in page.bars.values() for row in rows]
    # A count that is no whole number costs its bar, and is told as it came.
    if not all(isnan(row.n) or (0 <= row.n < _MOST and row.n.is_integer()) for row in rows):
        return _row_by_row(body)
    return Answer(_each(page.bars), _columns(rows), page.next_page_token or None)


def asset_in(body: bytes) -> Asset:
    """Return an asset.

    Raises
    ------
    UnreadableAnswer
        If the body isn't one.
    """
    return decoded(_ASSET, body)


def symbol_in(token: str) -> str | None:
    """Return the symbol at which the next page goes on; None if the token doesn't tell.

    >>> symbol_in("TUVUQXxEfDIwMjItMDYtMDlUMDQ6MDA6MDAuMDAwMDAwMDAwWg==")
    'META'
    """
    try:
        text = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    symbol, bar, _ = text.partition("|")
    return symbol if bar else None


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names.

    403 is a key that is refused as well as data that the plan doesn't include: its words tell.

    Raises
    ------
    Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderUnavailable, ProviderError
        As the status and the words say.
    """
    status = response.status
    if status == 200:
        return
    said = message_in(response)
    detail = f": {said}" if said else ""
    if status == 403 and _NOT_IN_PLAN.search(said):
        raise NotEntitled(f"the plan doesn't include this data (403){detail}")
    if status == 401 or (status == 403 and _REFUSED_KEY.search(said)):
        raise Unauthorised(
            "the provider refused the keys in APCA_API_KEY_ID and APCA_API_SECRET_KEY "
            f"({status}){detail}"
        )
    if status == 403:
        raise ProviderError(f"the provider answered 403{detail}")
    if status in {400, 422} and _NO_SYMBOL.search(said):
        raise UnknownSymbol(f"the provider doesn't know this symbol{detail}")
    if status == 429:
        raise RateLimited(f"the provider asked to slow down (429){detail}", _wait_s(response))
    refuse_status(response, said)


def message_in(response: Response) -> str:
    """Return what a refusal says; nothing of a body that can't be read."""
    return decoded_or(_REFUSAL, response.body, _Refusal()).message.strip()


def _wait_s(response: Response) -> float | None:
    """Return how long to wait: till the quota is whole again, where nothing else is said.

    Every answer names that instant, in epoch seconds.
    """
    asked_s = retry_after_s(response.headers)
    reset = response.headers.get("x-ratelimit-reset", "").strip()
    now = http_date(response.headers.get("date", ""))
    if asked_s is not None or now is None or not reset.isdecimal():
        return asked_s
    return max(0.0, int(reset) - now.timestamp())


def _each(bars: dict[str, list[_Bar]] | dict[str, list[_LooseBar]]) -> list[str]:
    """Return the symbol of every bar."""
    return [symbol for symbol, rows in bars.items() for _ in rows]


def _columns(rows: list[_Bar]) -> Bars:
    def column(values: list[float]) -> FloatColumn:
        return np.array(values, np.float64)

    return Bars(
        ts_ms=stamps_ms([row.t for row in rows]),
        open=column([row.o for row in rows]),
        high=column([row.h for row in rows]),
        low=column([row.l for row in rows]),
        close=column([row.c for row in rows]),
        volume=column([row.v for row in rows]),
        vwap=column([row.vw for row in rows]),
        trade_count=np.nan_to_num(column([row.n for row in rows]), nan=NO_COUNT).astype(np.int64),
    )


def _row_by_row(body: bytes) -> Answer:
    """Read a page in which a value is no number: it costs its own bar alone."""
    page = decoded(_LOOSE_PAGE, body)
    by_symbol = page.bars or {}
    rows = [row for rows in by_symbol.values() for row in rows]
    stamps = stamps_ms([row.t for row in rows]).tolist()
    given = [
        [msgspec.Raw(b"%d" % at_ms), row.o, row.h, row.l, row.c, row.v, row.vw, row.n]
        for at_ms, row in zip(stamps, rows, strict=True)
    ]
    bars, oddities = read_rows(given, _PLACES, unit_ms=1)
    return Answer(_each(by_symbol), bars, page.next_page_token or None, oddities)
