"""Rows of any query as text: a table, CSV, or JSON, block by block."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any, Final, TypeAlias

from backfill.core.plain import json_text
from backfill.present.tables import console, table_of

FORMATS: Final = ("table", "csv", "json")

Rows: TypeAlias = Callable[[Sequence[str], list[tuple[Any, ...]]], None]


class Printer:
    """Prints the rows of one query as they come; what a format begins and ends with around them."""

    def __init__(self, form: str, say: Callable[[str], None]) -> None:
        self._form = form
        self._say = say
        self._shown = 0
        self._begun = False

    def __call__(self, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        """Print some rows."""
        match self._form:
            case "csv":
                self._csv([*([] if self._begun else [tuple(names)]), *rows])
            case "json":
                self._json(names, rows)
            case _ if rows or not self._begun:
                table = table_of(*names)
                for row in rows:
                    table.add_row(*map(text_of, row))
                console().print(table)
        self._begun = True
        self._shown += len(rows)

    def close(self, status: str) -> None:
        """Print what comes last: how the server calls what it did, where that brought no rows."""
        if self._form == "json":
            self._say("]}" if self._begun else json_text({"status": status}))
        elif not self._begun:
            self._say(status)
        elif self._form == "table":
            self._say(f"{self._shown:,} row{'' if self._shown == 1 else 's'}")

    def _csv(self, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([*map(text_of, row)] for row in rows)
            self._say(out.getvalue().removesuffix("\n"))

    def _json(self, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        if not self._begun:
            self._say('{"rows": [')
        texts = [json_text(dict(zip(names, map(_plain, row), strict=True))) for row in rows]
        if texts:
            self._say(("," if self._shown else "") + "\n,".join(texts))


def text_of(value: Any) -> str:
    """Return a value as CSV and tables have it; nothing for NULL, every digit of a double."""
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, list | dict):
        return json_text(plain)
    return plain if isinstance(plain, str) else repr(plain)


def _plain(value: Any) -> Any:
    """Return a value as JSON's own types."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return _spelled(value)


def _spelled(value: Any) -> str:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _ if hasattr(value, "lower_inc"):  # a range
            lower, upper = text_of(value.lower), text_of(value.upper)
            return (
                f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
            )
        case _:
            return str(value)
