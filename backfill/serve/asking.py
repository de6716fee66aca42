"""What a request asks for, read from its query; what can't be read is refused in a line."""

import re
from typing import Final, TypeVar

from aiohttp import hdrs, web

from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound, parse_bound
from backfill.errors import UsageError
from backfill.serve.answers import READER

_Word = TypeVar("_Word", bound=str)

ADJUSTMENTS: Final = ("raw", "split")
_WEIGHT: Final = re.compile(r"q=([01](?:\.\d{0,3})?)")


def see_known(request: web.Request, *names: str) -> None:
    """See that nothing is asked that would be passed over.

    Raises
    ------
    UsageError
        If the query has another name, or one twice.
    """
    if strange := sorted(set(request.query) - set(names)):
        raise UsageError(f"{request.path} takes no {strange[0]!r}; it takes: {' '.join(names)}")
    if len(request.query) > len(set(request.query)):
        raise UsageError(f"{request.path} takes each parameter once")


def text(request: web.Request, name: str) -> str:
    """Return what a query has to name.

    Raises
    ------
    UsageError
        If it doesn't.
    """
    found = request.query.get(name, "").strip()
    if not found:
        raise UsageError(f"{request.path} takes {name}=…")
    return found


def timeframe(request: web.Request) -> Timeframe:
    """Return the timeframe that is named, or d1."""
    return choice(request, "timeframe", list(Timeframe)) or Timeframe.d1


def choice(request: web.Request, name: str, of: list[_Word]) -> _Word | None:
    """Return which of some words is named, if one is."""
    found = request.query.get(name)
    if found is None:
        return None
    for one in of:
        if found == one:
            return one
    raise UsageError(f"{name} {found!r} is not one of: {' '.join(of)}")


def whole(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number within bounds."""
    found = request.query.get(name)
    if found is None:
        return default
    digits = found.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 15):
        raise UsageError(f"{name} {found!r} is no whole number")
    if not least <= int(found) <= most:
        raise UsageError(f"{name} {found} is not from {least:,} to {most:,}")
    return int(found)


def bounds(request: web.Request) -> tuple[Bound | None, Bound | None]:
    """Return from when to before when: each a date, an instant or a length back."""
    today = request.app[READER].now().date()
    first, last = (
        parse_bound(given, today) if (given := request.query.get(name)) else None
        for name in ("from", "to")
    )
    if first is not None and last is not None and first.is_after(last):
        raise UsageError(f"from {first.at} is after to {last.at}")
    return first, last


def preferred(request: web.Request, first: str, other: str) -> str:
    """Return which of two content types who asks takes more gladly; the other has to be named."""
    weights = _weights(request.headers.get(hdrs.ACCEPT, ""))
    default, wanted = (weights.get(one.partition(";")[0], 0) for one in (first, other))
    return other if wanted and wanted >= default else first


def _weights(accept: str) -> dict[str, float]:
    """Return the types that an ``Accept`` header names, each with its greatest weight."""
    found: dict[str, float] = {}
    for one in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        told = next(filter(None, map(_WEIGHT.fullmatch, parameters)), None)
        found[kind] = max(found.get(kind, 0), float(told[1]) if told else 1)
    return found
