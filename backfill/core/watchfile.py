r"""A watchlist as a file of TOML: what it says is to be kept, and where in the file that stands.

>>> groups = read_groups('[groups.core]\nsymbols = ["AAPL"]\nsince = "2y"', "watchlist.toml")
>>> [(one.name, one.symbols, one.kept.since) for one in groups]
[('core', ('AAPL',), '2y')]
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Final

from backfill.core.dataclass import dataclass
from backfill.core.series import ticker_traits
from backfill.core.ticker import spelling
from backfill.core.timeframe import Timeframe
from backfill.core.when import parse_since
from backfill.errors import UsageError

DEFAULT: Final = "default"
"""What is written for a depth or a provider that an entry shall not have of its own."""
_DEFAULTS: Final = "defaults"
_GROUPS: Final = "groups"
_KEPT: Final = ("timeframes", "since", "priority", "provider", "paused")
_SOURCES: Final = ("symbols", "file", "query")
_HIGHEST: Final = 1000
_ANY_DAY: Final = date(2026, 1, 1)


@dataclass(frozen=True, slots=True)
class Kept:
    """How a symbol is kept: what an entry of the watchlist says of it, all of it.

    ``since`` is None where it has no depth of its own. ``provider`` is ``default`` where it has
    none; None says nothing of it: it is whoever's filled the symbol, or the default.
    """

    timeframes: tuple[Timeframe, ...] = (Timeframe.d1,)
    since: str | None = None
    priority: int = 0
    provider: str | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Symbols that are kept alike: those named, of a file, and of a query; ``place`` is where.

    ``places`` tells where each of the symbols that are named stands.
    """

    name: str
    kept: Kept
    place: str
    symbols: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    file: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A symbol that is to be kept, how, and where that is said."""

    ticker: str
    kept: Kept
    place: str


def read_groups(text: str, name: str) -> list[Group]:
    """Return the groups of a watchlist's text; ``name`` is that of the file, for messages.

    Raises
    ------
    UsageError
        If anything in it can't be meant; the message begins with its place.
    """
    try:
        found = tomllib.loads(text)
    except ValueError as error:  # also a number of too many digits
        raise UsageError(f"{name}: {error}") from None
    except RecursionError:
        raise UsageError(f"{name}: it is nested too deep") from None
    return _Reading(text, name).groups(found)


def named_once(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries, of which no two are of one symbol.

    Raises
    ------
    UsageError
        If two are, also by two spellings, or one is no ticker, or there is none.
    """
    found: dict[str, Entry] = {}
    for one in entries:
        try:
            ticker_traits(one.ticker)
            first = found.setdefault(spelling(one.ticker), one)
        except UsageError as error:
            raise UsageError(f"{one.place}: {error}") from None
        if first is not one and first != one:
            raise UsageError(f"{one.place}: {one.ticker} is named twice, also at {first.place}")
    return list(found.values())


def read_symbols(text: str, name: str) -> list[tuple[str, str]]:
    r"""Return the symbols of a file, one a line, ``#`` before a remark, each with its place.

    >>> read_symbols("AAPL\n\n# tech\nMSFT  # too", "tech.txt")
    [('AAPL', 'tech.txt line 1'), ('MSFT', 'tech.txt line 4')]
    """
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [(line, f"{name} line {number}") for number, line in enumerate(lines, 1) if line]


class _Reading:
    """A text that is read, and where in it what was found wrong stands."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.split("\n")
        self._statements = _statements(self._lines)
        self._name = name

    def groups(self, found: Mapping[str, Any]) -> list[Group]:
        self._known(found, (), (_DEFAULTS, _GROUPS))
        defaults = self._table(found.get(_DEFAULTS, {}), (_DEFAULTS,))
        self._known(defaults, (_DEFAULTS,), _KEPT)
        kept = self._kept(defaults, (_DEFAULTS,), Kept())
        tables = self._table(found.get(_GROUPS, {}), (_GROUPS,))
        if not tables:
            raise UsageError(f"{self._name}: it has no [groups.NAME], so it names no symbol")
        return [self._group(name, of_it, kept) for name, of_it in tables.items()]

    def _group(self, name: str, found: object, defaults: Kept) -> Group:
        path = (_GROUPS, name)
        table = self._table(found, path)
        self._known(table, path, (*_SOURCES, *_KEPT))
        if not any(source in table for source in _SOURCES):
            raise self._wrong(path, f"names no symbols: {', '.join(_SOURCES[:-1])} or query")
        symbols = table.get("symbols", [])
        if not isinstance(symbols, list) or not all(isinstance(one, str) for one in symbols):
            raise self._wrong((*path, "symbols"), "is to be a list of texts")
        for source in ("file", "query"):
            if not isinstance(table.get(source, ""), str):
                raise self._wrong((*path, source), "is to be a text")
        return Group(
            name=name,
            kept=self._kept(table, path, defaults),
            place=self._at(path),
            symbols=tuple(one.strip() for one in symbols),
            places=tuple(self._places((*path, "symbols"), symbols)),
            file=table.get("file"),
            query=table.get("query"),
        )

    def _kept(self, table: Mapping[str, Any], path: tuple[str, ...], defaults: Kept) -> Kept:
        """Return how symbols are kept by a table, and by ``defaults`` where that says nothing."""
        said = {name: table[name] for name in _KEPT if name in table}
        for name, value in said.items():
            try:
                said[name] = _READ[name](value)
            except UsageError as error:
                raise self._wrong((*path, name), str(error)) from None
        merged: dict[str, Any] = {name: getattr(defaults, name) for name in _KEPT} | said
        return Kept(**merged)

    def _table(self, found: object, path: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(found, dict):
            raise self._wrong(path, "is to be a table")
        return found

    def _known(
        self, table: Mapping[str, Any], path: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        for name in table:
            if name not in names:
                raise self._wrong((*path, name), f"means nothing; there is {', '.join(names)}")

    def _wrong(self, path: tuple[str, ...], said: str) -> UsageError:
        return UsageError(f"{self._at(path)}: {'.'.join(path)} {said}")

    def _at(self, path: tuple[str, ...]) -> str:
        """Return the place of what a path of keys leads to: the line where it begins."""
        return f"{self._name} line {self._lines_of(path)[0]}"

    def _places(self, path: tuple[str, ...], symbols: list[str]) -> Iterator[str]:
        """Yield the place of each of a list's texts, in their order."""
        if not symbols:
            return
        number, last = self._lines_of(path)
        for symbol in symbols:
            written = re.compile(f"[\"']{re.escape(symbol)}[\"']")
            lines = range(number, last + 1)
            number = next((at for at in lines if written.search(self._lines[at - 1])), number)
            yield f"{self._name} line {number}"

    def _lines_of(self, path: tuple[str, ...]) -> tuple[int, int]:
        """Return the first and the last line of the statement that a path of keys leads to."""
        while path and path not in self._statements:
            path = path[:-1]
        return self._statements.get(path, (1, len(self._lines)))


def _statements(lines: list[str]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return the first and the last line of the statement that says each path of keys first.

    A statement is the fewest lines that can be read; one that goes on, as its comma or bracket
    tells, isn't tried, so that a long list is read once and not once a line.
    """
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    table: tuple[str, ...] = ()
    first = 1
    for number, line in enumerate(lines, 1):
        if line.partition("#")[0].rstrip().endswith((",", "[")):
            continue
        try:
            said = tomllib.loads("\n".join(lines[first - 1 : number]))
        except tomllib.TOMLDecodeError:
            continue
        paths = list(_paths(said))
        is_header = bool(paths) and lines[first - 1].lstrip().startswith("[")
        for path in paths:
            found.setdefault(path if is_header else (*table, *path), (first, number))
        table = paths[-1] if is_header else table
        first = number + 1
    return found


def _paths(said: object) -> Iterator[tuple[str, ...]]:
    """Yield every path of keys in a table, each after those that it begins with."""
    if isinstance(said, dict):
        for name, value in said.items():
            yield (name,)
            yield from ((name, *rest) for rest in _paths(value))


def _timeframes(said: object) -> tuple[Timeframe, ...]:
    known = " ".join(Timeframe)
    if not isinstance(said, list) or not said or not all(isinstance(one, str) for one in said):
        raise UsageError(f"is to be a list of some of: {known}")
    if unknown := [one for one in said if one not in set(Timeframe)]:
        raise UsageError(f"names {unknown[0]!r}, which is not one of: {known}")
    return tuple(one for one in Timeframe if one in said)


def _since(said: object) -> str | None:
    text = said.isoformat() if type(said) is date else said
    if not isinstance(text, str):
        raise UsageError("is to be a date or a length such as 2y")
    if text.strip() == DEFAULT:
        return None
    parse_since(text, _ANY_DAY)
    return text.strip()


def _priority(said: object) -> int:
    if type(said) is not int or abs(said) > _HIGHEST:
        raise UsageError(f"is to be a whole number from -{_HIGHEST} to {_HIGHEST}")
    return said


def _provider(said: object) -> str:
    if not isinstance(said, str) or not said.strip():
        raise UsageError("is to be a provider's name, or default")
    return said.strip()


def _paused(said: object) -> bool:
    if not isinstance(said, bool):
        raise UsageError("is to be true or false")
    return said


_READ: Final[Mapping[str, Callable[[object], Any]]] = {
    "timeframes": _timeframes,
    "since": _since,
    "priority": _priority,
    "provider": _provider,
    "paused": _paused,
}
