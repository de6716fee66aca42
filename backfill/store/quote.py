"""The one place where a value becomes part of a statement, for queries without parameters (R28).

A statement that carries its values costs one round trip where one with parameters costs two, and
six more where asyncpg has to ask what their types are.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

_PLACE: Final = re.compile(r"\$(\d+)")
_CAST: Final = {datetime: "::timestamptz", date: "::date", float: "::double precision"}


class Quoted(str):
    """A value as a statement takes it."""

    __slots__ = ()


def bound(statement: str, *values: object) -> str:
    r"""Return a statement with its values in the places of ``$1``, ``$2`` and so on.

    A list becomes the text of an array; the statement says of what, as it does of a text that
    stands for something else.

    >>> print(bound("SELECT $1::uuid[], $2 + $3", ["a", None], 1, -1))
    SELECT '{"a",NULL}'::uuid[], 1 + (-1)

    Raises
    ------
    ValueError
        As `text` does.
    TypeError
        If there is no way to write a value.
    """
    if not values:
        return statement
    return _PLACE.sub(lambda place: literal(values[int(place[1]) - 1]), statement)


def literal(value: object) -> Quoted:
    """Return a value as a statement takes it.

    Raises
    ------
    ValueError
        As `text` does.
    TypeError
        If there is no way to write it.
    """
    match value:
        case Quoted():
            return value
        case None:
            found = "NULL"
        case list() | tuple():
            found = text(f"{{{','.join(map(_item, value))}}}")
        case bool():
            found = _input(value)
        case int():
            found = str(value) if value >= 0 else f"({value})"
        case _:
            found = text(_input(value)) + _CAST.get(type(value), "")
    return Quoted(found)


def _input(value: object) -> str:
    """Return what the server reads a value from."""
    match value:
        case str() | bool() | int() | float() | UUID():
            return str(value)
        case datetime(tzinfo=None):
            raise TypeError("a time without its zone")
        case date():
            return value.isoformat()
    raise TypeError(f"no statement takes a {type(value).__name__}")


def _item(value: object) -> str:
    """Return a value as an array's text holds it."""
    if value is None:
        return "NULL"
    told = _input(value)
    if not isinstance(value, str):
        return told
    # Bars in quarantine are full of quotes: an expression takes several times as long.
    return '"' + told.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text(value: str) -> str:
    r"""Return a string as the server's ``quote_literal`` does, whatever its settings are.

    >>> print(text("it's"), text("a\\b"))
    'it''s' E'a\\b'

    Raises
    ------
    ValueError
        If it holds what no text of Postgres can: NUL, or half of a surrogate pair.
    """
    try:
        storable = b"\0" not in value.encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise ValueError("a text for the database holds what it can't store")
    quoted = value.replace("'", "''").replace("\\", "\\\\")
    return f"E'{quoted}'" if "\\" in value else f"'{quoted}'"


def texts(values: Iterable[str]) -> str:
    """Return an array of strings.

    >>> texts(["a", "it's"])
    "ARRAY['a','it''s']::pg_catalog.text[]"

    Raises
    ------
    ValueError
        As `text` does.
    """
    return f"ARRAY[{','.join(map(text, values))}]::pg_catalog.text[]"


def integers(values: Iterable[int], kind: str = "bigint") -> str:
    """Return an array of whole numbers of a type.

    >>> integers([1, -2])
    "'{1,-2}'::bigint[]"
    """
    return f"'{{{','.join(str(int(value)) for value in values)}}}'::{kind}[]"


def numbers(values: Sequence[float | None]) -> Quoted:
    """Return many numbers as an array's text, exactly and fast; NaN stands for NULL.

    >>> print(numbers([1, 0.1, float("nan"), None]))
    '{1,0.1,null,null}'
    """
    import msgspec

    return Quoted(f"'{{{msgspec.json.encode(values)[1:-1].decode()}}}'")


def interval(seconds: float) -> str:
    """Return a span of time, to the microsecond.

    >>> interval(0.5)
    "'0.500000 s'::interval"
    """
    return f"'{float(seconds):.6f} s'::interval"


def intervals(seconds: Iterable[float]) -> str:
    """Return an array of spans of time, each to the microsecond.

    >>> intervals([0.5, 86_400])
    "'{0.500000 s,86400.000000 s}'::interval[]"
    """
    return f"'{{{','.join(f'{float(one):.6f} s' for one in seconds)}}}'::interval[]"


def identifier(name: str) -> str:
    """Return a name as SQL takes it.

    >>> identifier("bars")
    '"bars"'
    """
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
