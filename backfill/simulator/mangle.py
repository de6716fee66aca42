"""Answers made wrong: tables from a fault's action to what it does to a body or to its bytes."""

import gzip
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backfill.simulator.actions import Action
from backfill.simulator.faults import Fault
from backfill.simulator.wire.base import Answer, Ask, Wire

_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>Sorry</body></html>"
)


def mangled(fault: Fault, wire: Wire, method: str, ask: Ask) -> Answer:
    """Return the answer that is given instead of the true one."""
    asked = wire.coarser(ask) if fault.action is Action.WRONG_GRANULARITY else ask
    true = wire.answer(method, asked)
    return replace(true, body=mangle_body(fault, wire, ask, true.body))


def mangle_body(fault: Fault, wire: Wire, ask: Ask, body: Any) -> Any:
    """Return the body that is sent instead of the true one."""
    if fault.action in wire.lies:
        return wire.lies[fault.action](ask, body)
    if fault.action in _ROWS and (rows := wire.rows(ask, body)):
        return wire.with_rows(body, _ROWS[fault.action](fault, wire, rows))
    return body


def mangle_bytes(fault: Fault, wire: Wire, data: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return the bytes that are sent instead of the encoded body, and headers that go with them."""
    if fault.action is Action.NAN:
        return wire.with_nan(data), {}
    if fault.action in _BYTES:
        return _BYTES[fault.action](fault, data)
    return data, {}


_Rows = Sequence[Any]


def _edited(fault: Fault, wire: Wire, rows: _Rows) -> list[Any]:
    return [
        wire.edited(row, fault.bar) if chosen else row for row, chosen in _choose(fault, wire, rows)
    ]


def _conflicting(fault: Fault, wire: Wire, rows: _Rows) -> list[Any]:
    return [
        copy
        for row, chosen in _choose(fault, wire, rows)
        for copy in ((row, wire.edited(row, fault.bar)) if chosen else (row,))
    ]


def _dropped(fault: Fault, wire: Wire, rows: _Rows) -> list[Any]:
    return [row for row, chosen in _choose(fault, wire, rows) if not chosen]


def _doubled(_fault: Fault, _wire: Wire, rows: _Rows) -> list[Any]:
    return [row for row in rows for _ in range(2)]


def _shuffled(fault: Fault, _: Wire, rows: _Rows) -> list[Any]:
    return random.Random(fault.seed).sample(rows, len(rows))  # noqa: S311  # repeatable on purpose


def _with_saturday(_: Fault, wire: Wire, rows: _Rows) -> list[Any]:
    middle = len(rows) // 2
    at = datetime.fromtimestamp(wire.stamp_ms(rows[middle]) / 1000, UTC)
    saturday = at.replace(hour=17, minute=0, second=0) - timedelta(days=(at.weekday() - 5) % 7)
    bar = wire.edited(rows[middle], {"t": round(saturday.timestamp() * 1000)})
    return [*rows[:middle], bar, *rows[middle:]]


def _in_unit(scale: Callable[[int], int]) -> Callable[[Fault, Wire, _Rows], list[Any]]:
    return lambda _, wire, rows: [
        wire.edited(row, {"t": scale(wire.stamp_ms(row))}) for row in rows
    ]


_ROWS: Final[dict[Action, Callable[[Fault, Wire, _Rows], list[Any]]]] = {
    Action.SECONDS: _in_unit(lambda ms: ms // 1000),
    Action.MICROSECONDS: _in_unit(lambda ms: ms * 1000),
    Action.DUPLICATES: _doubled,
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
    Action.CHARSET: lambda _, data: (
        data.decode().encode("utf-16"),
        {"Content-Type": "application/json; charset=no-such-charset"},
    ),
}


def _choose(fault: Fault, wire: Wire, rows: _Rows) -> list[tuple[Any, bool]]:
    """Pair every bar of a page with whether the fault is about it."""
    if fault.bars_of is not None:
        return [(row, wire.is_of(row, fault.bars_of)) for row in rows]
    if fault.span_ms is None:
        return [(row, index == len(rows) // 2) for index, row in enumerate(rows)]
    start_ms, end_ms = fault.span_ms
    return [(row, start_ms <= wire.stamp_ms(row) < end_ms) for row in rows]
