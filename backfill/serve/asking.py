"""What a request asks for, read from its query; what can't be read is refused in a line."""

from typing import Final, TypeVar

from aiohttp import web

from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound, parse_bound
from backfill.errors import UsageError
from backfill.serve.answers import READER

_Word = TypeVar("_Word", bound=str)

ADJUSTMENTS: Final = ("raw", "split")


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
