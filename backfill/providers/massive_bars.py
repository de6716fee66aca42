"""A page of Massive's aggregates, from its body to columns."""

from itertools import chain
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import astuple

from backfill.core.bars import NO_COUNT, Bars
from backfill.errors import UnreadableAnswer

_NULL: Final = msgspec.Raw(b"null")
_IMPOSSIBLE_COUNT: Final = NO_COUNT - 1


class _Bar(msgspec.Struct, gc=False):
    """All as doubles: the columns of a page are read at once, and whole numbers checked after."""

    t: float
    o: float
    h: float
    l: float  # noqa: E741  # the wire's own name
    c: float
    v: float
    vw: float = np.nan
    n: float = NO_COUNT


_MOST: Final = 2.0**53
"""Up to here a double holds every whole number."""


class _LooseBar(msgspec.Struct):
    """A bar of a page in which at least one holds null or something that is no number."""

    t: int
    o: msgspec.Raw = _NULL
    h: msgspec.Raw = _NULL
    l: msgspec.Raw = _NULL  # noqa: E741  # the wire's own name
    c: msgspec.Raw = _NULL
    v: msgspec.Raw = _NULL
    vw: msgspec.Raw = _NULL
    n: msgspec.Raw = _NULL


class Envelope(msgspec.Struct):
    """What a page says besides its bars."""

    status: str
    ticker: str
    adjusted: bool
    queryCount: int | None = None  # noqa: N815  # the wire's own name
    resultsCount: int | None = None  # noqa: N815  # the wire's own name
    next_url: str | None = None


class _Page(Envelope):
    results: list[_Bar] = []


class _LoosePage(Envelope):
    results: list[_LooseBar] = []


_PAGE: Final = msgspec.json.Decoder(_Page)
_LOOSE_PAGE: Final = msgspec.json.Decoder(_LoosePage)


def read_page(body: bytes) -> tuple[Envelope, Bars]:
    """Read a page.

    A price that is no number, or too large for one, becomes NaN or infinite, so that the checks
    set that bar aside and keep its neighbours (R11).

    Raises
    ------
    UnreadableAnswer
        If the body isn't JSON of this shape, or a bar has no time stamp, or there are fewer bars
        than it counts.
    """
    try:
        page, bars = _strictly(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        try:
            page, bars = _loosely(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise UnreadableAnswer(f"the answer can't be read: {str(error)[:120]}") from None
    if page.resultsCount and not len(bars):
        raise UnreadableAnswer(f"the answer counts {page.resultsCount} bars and holds none")
    return page, bars


def _strictly(body: bytes) -> tuple[Envelope, Bars]:
    page = _PAGE.decode(body)
    bars = page.results
    width = len(_Bar.__struct_fields__)
    values = chain.from_iterable(map(astuple, bars))
    flat = np.fromiter(values, np.float64, len(bars) * width)
    t, o, h, l, c, v, vw, n = flat.reshape(-1, width).T.copy()  # noqa: E741  # the wire's own names
    for whole in (t, n):
        if not ((whole == np.trunc(whole)) & (np.abs(whole) <= _MOST)).all():
            raise msgspec.ValidationError("a time stamp or a count is no whole number")
    return page, Bars(t.astype(np.int64), o, h, l, c, v, vw, n.astype(np.int64))


def _loosely(body: bytes) -> tuple[Envelope, Bars]:
    page = _LOOSE_PAGE.decode(body)
    return page, Bars.of(
        [
            (
                row.t,
                *(_number(price) for price in (row.o, row.h, row.l, row.c, row.v)),
                None if row.vw == _NULL else _number(row.vw, otherwise=np.inf),
                None if row.n == _NULL else _count(row.n),
            )
            for row in page.results
        ]
    )


def _number(raw: msgspec.Raw, otherwise: float = np.nan) -> float:
    try:
        return float(bytes(raw))
    except ValueError:
        return otherwise


def _count(raw: msgspec.Raw) -> int:
    try:
        count = int(bytes(raw))
    except ValueError:
        return _IMPOSSIBLE_COUNT
    return count if 0 <= count < 2**63 else _IMPOSSIBLE_COUNT
