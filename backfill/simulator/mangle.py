"""Answers made wrong: tables from a fault's action to what it does to a body or to its bytes."""

import gzip
import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from backfill.simulator.faults import Action, Fault
from backfill.simulator.wire.protocol import BARS_PATH, Ask

Body = dict[str, Any]

_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>Sorry</body></html>"
)


def mangle_ask(fault: Fault, path: str) -> str:
    """Return the path that is answered instead of the one asked for."""
    if fault.action is not Action.WRONG_GRANULARITY:
        return path
    if re.search(r"/range/\d+/(minute|hour)/", path):
        return re.sub(r"/range/\d+/(minute|hour)/", "/range/1/day/", path)
    return re.sub(r"/range/\d+/(day|week)/", "/range/1/month/", path)


def mangle_body(fault: Fault, ask: Ask, body: Body) -> Body:
    """Return the body that is sent instead of the true one."""
    if fault.action in _BODIES:
        body = body | _BODIES[fault.action](fault, ask, body)
    if fault.action in _ROWS and ask.path.startswith(BARS_PATH) and body.get("results"):
        rows = _ROWS[fault.action](fault, body["results"])
        # What is left out was not looked at either.
        left = min(1.0, len(rows) / len(body["results"]))
        body = body | {
            "queryCount": round(body["queryCount"] * left),
            "results": rows,
            "resultsCount": len(rows),
            "count": len(rows),
        }
        if not rows:
            del body["results"]
    return body


def mangle_bytes(fault: Fault, data: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return the bytes that are sent instead of the encoded body, and headers that go with them."""
    if fault.action in _BYTES:
        return _BYTES[fault.action](fault, data)
    return data, {}


def _repeated(_: Fault, ask: Ask, _body: Body) -> Body:
    return {"next_url": ask.next_url(ask.path, ask.parameters())}


def _endless(_: Fault, ask: Ask, _body: Body) -> Body:
    parameters = ask.parameters()
    page = int(parameters.get("page", "1")) + 1
    return {"next_url": ask.next_url(ask.path, parameters | {"page": page})}


def _foreign(_: Fault, ask: Ask, _body: Body) -> Body:
    own = ask.next_url(ask.path, ask.parameters())
    return {"next_url": own.replace(ask.base_url, "https://elsewhere.example")}


_BODIES: Final[dict[Action, Callable[[Fault, Ask, Body], Body]]] = {
    Action.WRONG_TICKER: lambda *_: {"ticker": "OTHER"},
    Action.WRONG_ADJUSTED: lambda _fault, _ask, body: {"adjusted": not body.get("adjusted")},
    Action.DELAYED: lambda *_: {"status": "DELAYED"},
    Action.FOREIGN_NEXT: _foreign,
    Action.REPEATED_NEXT: _repeated,
    Action.ENDLESS_PAGES: _endless,
}


def _edited(fault: Fault, rows: list[Any]) -> list[Any]:
    return [_as_dict(row) | fault.bar if chosen else row for row, chosen in _choose(fault, rows)]


def _conflicting(fault: Fault, rows: list[Any]) -> list[Any]:
    return [
        copy
        for row, chosen in _choose(fault, rows)
        for copy in ((row, _as_dict(row) | fault.bar) if chosen else (row,))
    ]


def _dropped(fault: Fault, rows: list[Any]) -> list[Any]:
    return [row for row, chosen in _choose(fault, rows) if not chosen]


def _shuffled(fault: Fault, rows: list[Any]) -> list[Any]:
    return random.Random(fault.seed).sample(rows, len(rows))  # noqa: S311  # repeatable on purpose


def _with_saturday(_: Fault, rows: list[Any]) -> list[Any]:
    middle = len(rows) // 2
    at = datetime.fromtimestamp(rows[middle].t / 1000, UTC)
    saturday = at.replace(hour=17, minute=0, second=0) - timedelta(days=(at.weekday() - 5) % 7)
    bar = _as_dict(rows[middle]) | {"t": round(saturday.timestamp() * 1000)}
    return [*rows[:middle], bar, *rows[middle:]]


def _in_unit(scale: Callable[[int], int]) -> Callable[[Fault, list[Any]], list[Any]]:
    return lambda _, rows: [_as_dict(row) | {"t": scale(row.t)} for row in rows]


_ROWS: Final[dict[Action, Callable[[Fault, list[Any]], list[Any]]]] = {
    Action.SECONDS: _in_unit(lambda ms: ms // 1000),
    Action.MICROSECONDS: _in_unit(lambda ms: ms * 1000),
    Action.DUPLICATES: lambda _, rows: [row for row in rows for _ in range(2)],
    Action.SHUFFLED: _shuffled,
    Action.EDIT_BARS: _edited,
    Action.CONFLICT: _conflicting,
    Action.DROP_BARS: _dropped,
    Action.SATURDAY_BAR: _with_saturday,
}

_BYTES: Final[dict[Action, Callable[[Fault, bytes], tuple[bytes, Mapping[str, str]]]]] = {
    Action.HTML: lambda *_: (_HTML, {"Content-Type": "text/html; charset=utf-8"}),
    Action.RANDOM_BYTES: lambda fault, _: (
        random.Random(fault.seed).randbytes(4096),  # noqa: S311  # repeatable on purpose
        {},
    ),
    Action.BAD_GZIP: lambda _, data: (
        gzip.compress(data)[:20] + bytes(20),
        {"Content-Encoding": "gzip"},
    ),
    Action.NESTED: lambda *_: (b'{"results":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
    Action.NAN: lambda _, data: (re.sub(rb'"c":[^,}]+', b'"c":NaN', data, count=1), {}),
    Action.CHARSET: lambda _, data: (
        data.decode().encode("utf-16"),
        {"Content-Type": "application/json; charset=no-such-charset"},
    ),
}


def _choose(fault: Fault, rows: list[Any]) -> list[tuple[Any, bool]]:
    """Pair every bar of a page with whether the fault is about it."""
    if fault.bars_of is not None:
        return [(row, fault.bars_of == row.T) for row in rows]
    if fault.span_ms is None:
        return [(row, index == len(rows) // 2) for index, row in enumerate(rows)]
    start_ms, end_ms = fault.span_ms
    return [(row, start_ms <= row.t < end_ms) for row in rows]


def _as_dict(row: Any) -> dict[str, Any]:
    as_dict: dict[str, Any] = msgspec.to_builtins(row)
    return as_dict
