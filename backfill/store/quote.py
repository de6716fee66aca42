"""The one place where a value becomes part of a statement, for queries without parameters (R28).

A statement that carries its values costs one round trip where one with parameters costs two.
"""

from collections.abc import Iterable


def text(value: str) -> str:
    r"""Return a string as the server's ``quote_literal`` does, whatever its settings are.

    >>> print(text("it's"), text("a\\b"))
    'it''s' E'a\\b'

    Raises
    ------
    ValueError
        If it holds what no text of Postgres can: NUL, or half of a surrogate pair.
    """
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
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
