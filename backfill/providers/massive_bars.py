"""Massive's aggregates, a page or a grouped day, from the body to columns."""

import json
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np

from backfill.core.bars import Bars
from backfill.core.raw import VALUES, Oddities, raw_values
from backfill.errors import UnreadableAnswer
from backfill.providers.bodies import UNREADABLE
from backfill.providers.massive_columns import columns_of
from backfill.providers.massive_errors import refuse_status
from backfill.providers.rows import IMPOSSIBLE_COUNT, NULL, came

_Read = TypeVar("_Read")

_RESULTS: Final = b'"results":['


class _LooseBar(msgspec.Struct):
    """A bar of a page in which at least one holds null or something that is no number."""

    t: int
    o: msgspec.Raw = NULL
    h: msgspec.Raw = NULL
    l: msgspec.Raw = NULL  # noqa: E741  # the wire's own name
    c: msgspec.Raw = NULL
    v: msgspec.Raw = NULL
    vw: msgspec.Raw = NULL
    n: msgspec.Raw = NULL


class Envelope(msgspec.Struct, kw_only=True):
    """What an answer says besides its bars."""

    status: str
    adjusted: bool
    queryCount: int | None = None  # noqa: N815  # the wire's own name
    resultsCount: int | None = None  # noqa: N815  # the wire's own name


class PageEnvelope(Envelope, kw_only=True):
    """What a page says besides its bars."""

    ticker: str
    next_url: str | None = None


class _Page(PageEnvelope):
    results: msgspec.Raw = NULL


class _LoosePage(PageEnvelope):
    results: list[_LooseBar] | None = None


class _Ticker(msgspec.Struct):
    T: str


class _LooseGroupedBar(_LooseBar, kw_only=True):
    T: str


class _GroupedDay(Envelope):
    results: msgspec.Raw = NULL
    ticker: None = None  # an answer that names one is another


class _LooseGroupedDay(Envelope):
    results: list[_LooseGroupedBar] | None = None
    ticker: None = None


_PAGE: Final = msgspec.json.Decoder(_Page)
_TICKERS: Final = msgspec.json.Decoder(list[_Ticker])
_LOOSE_PAGE: Final = msgspec.json.Decoder(_LoosePage)
_GROUPED_DAY: Final = msgspec.json.Decoder(_GroupedDay)
_LOOSE_GROUPED_DAY: Final = msgspec.json.Decoder(_LooseGroupedDay)
_UNREADABLE: Final = (*UNREADABLE, OverflowError)


def read_page(body: bytes) -> tuple[PageEnvelope, Bars, Oddities]:
    """Read a page, and what came where a bar holds something else than numbers.

    A price that is no number, or too large for one, becomes NaN or infinite, so that the checks
    set that bar aside and keep its neighbours (R11).

    Raises
    ------
    UnreadableAnswer
        If the body isn't JSON of this shape, or a bar has no time stamp, or there are fewer bars
        than it counts.
    """

    def strictly() -> tuple[PageEnvelope, Bars, Oddities]:
        around, rows = _parted(body)
        page = _PAGE.decode(around)
        if rows is None:
            rows = _inside(page.results)
        elif bytes(page.results) != b"[]":
            raise msgspec.ValidationError("the results stand elsewhere")
        return page, columns_of(rows), {}

    def loosely() -> tuple[PageEnvelope, Bars, Oddities]:
        page = _LOOSE_PAGE.decode(body)
        return page, *_loose_columns(page.results or [])

    page, bars, oddities = _either(strictly, loosely)
    refuse_status(page.status)
    _refuse_missing(page, bars)
    return page, bars, oddities


def read_grouped_day(body: bytes) -> tuple[Envelope, list[str], Bars, Oddities]:
    """Read the bars of one session, the ticker that each is of, and what came that is no number.

    Raises
    ------
    UnreadableAnswer
        As `read_page` does, or if a bar has no ticker.
    """

    def strictly() -> tuple[Envelope, list[str], Bars, Oddities]:
        day = _GROUPED_DAY.decode(body)
        bars = columns_of(_inside(day.results))
        return day, [row.T for row in _TICKERS.decode(_array(day.results))], bars, {}

    def loosely() -> tuple[Envelope, list[str], Bars, Oddities]:
        day = _LOOSE_GROUPED_DAY.decode(body)
        rows = day.results or []
        return day, [row.T for row in rows], *_loose_columns(rows)

    day, tickers, bars, oddities = _either(strictly, loosely)
    refuse_status(day.status)
    _refuse_missing(day, bars)
    return day, tickers, bars, oddities


def _either(strictly: Callable[[], _Read], loosely: Callable[[], _Read]) -> _Read:
    """Read the quick way, or the way that minds no value that isn't what it should be."""
    try:
        return strictly()
    except _UNREADABLE:
        try:
            return loosely()
        except _UNREADABLE as error:
            raise UnreadableAnswer(f"the answer can't be read: {error!s}") from None


def _refuse_missing(answer: Envelope, bars: Bars) -> None:
    if answer.resultsCount and not len(bars):
        raise UnreadableAnswer(f"the answer counts {answer.resultsCount} bars and holds none")


def _array(results: msgspec.Raw) -> msgspec.Raw:
    """Return the array of results; none and null are an empty one."""
    return msgspec.Raw(b"[]") if results == NULL else results


def _inside(results: msgspec.Raw) -> memoryview:
    """Return what stands between the brackets of an array of results."""
    array = memoryview(_array(results))
    if bytes(array[:1]) != b"[":
        raise msgspec.ValidationError("the results are no array")
    return array[1:-1]


def _parted(body: bytes) -> tuple[bytes, memoryview | None]:
    """Part a page into what stands around its results, with none in their place, and the results.

    Looking for both ends of them costs nothing beside reading past them all. It may find others:
    then the page has none of its own, or what was found is no list of bars. None where it finds
    none.

    >>> around, rows = _parted(b'{"results":[{"t":1},{"t":2}],"status":"OK"}')
    >>> around, bytes(rows)
    (b'{"results":[],"status":"OK"}', b'{"t":1},{"t":2}')
    """
    start = body.find(_RESULTS) + len(_RESULTS)
    end = body.rfind(b"]", start)
    if start < len(_RESULTS) or end < 0:
        return body, None
    return body[:start] + body[end:], memoryview(body)[start:end]


def _loose_columns(rows: Sequence[_LooseBar]) -> tuple[Bars, Oddities]:
    bars = Bars.of(
        [
            (
                row.t,
                *(_number(price) for price in (row.o, row.h, row.l, row.c, row.v)),
                None if row.vw == NULL else _number(row.vw, otherwise=np.inf),
                None if row.n == NULL else _count(row.n),
            )
            for row in rows
        ]
    )
    given = [(row.o, row.h, row.l, row.c, row.v, row.vw, row.n) for row in rows]
    oddities = {
        json.dumps(read): dict(zip(VALUES, map(came, map(bytes, values)), strict=True))
        for read, values in zip(raw_values(bars), given, strict=True)
        # Spelled out is what became NaN or infinite; a count that can't be one has a mark.
        if any(isinstance(read[name], str) for name in VALUES)
        or read["trade_count"] == IMPOSSIBLE_COUNT
    }
    return bars, oddities


def _number(raw: msgspec.Raw, otherwise: float = np.nan) -> float:
    try:
        return float(bytes(raw))
    except ValueError:
        return otherwise


def _count(raw: msgspec.Raw) -> int:
    try:
        count = int(bytes(raw))
    except ValueError:
        return IMPOSSIBLE_COUNT
    return count if 0 <= count < 2**63 else IMPOSSIBLE_COUNT
