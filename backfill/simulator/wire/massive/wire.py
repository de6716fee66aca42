"""Massive's wire: aggregates, grouped days and the reference, and what only these can get wrong."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from backfill.simulator.market.market import Market
from backfill.simulator.wire import base
from backfill.simulator.wire.base import EVERYBODY, Answer, Lie, Seen
from backfill.simulator.wire.massive import flatfiles, routes
from backfill.simulator.wire.massive.flatfiles import FILES_PATH
from backfill.simulator.wire.massive.protocol import BARS_PATH, GROUPED_PATH, Ask, refusal

_ABOUT: Final = re.compile(r"/(?:v2/aggs/ticker|v[3X]/reference/tickers)/([^/]+)")
_TOO_MANY: Final = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your "
    "subscription to continue. https://massive.com/pricing"
)


def _repeated(ask: base.Ask, body: Any) -> Any:
    asked = Ask.of(ask)
    return body | {"next_url": asked.next_url(asked.path, asked.parameters())}


def _endless(ask: base.Ask, body: Any) -> Any:
    asked = Ask.of(ask)
    parameters = asked.parameters()
    page = int(parameters.get("page", "1")) + 1
    return body | {"next_url": asked.next_url(asked.path, parameters | {"page": page})}


def _foreign(ask: base.Ask, body: Any) -> Any:
    asked = Ask.of(ask)
    own = asked.next_url(asked.path, asked.parameters())
    return body | {"next_url": own.replace(asked.base_url, "https://elsewhere.example")}


class MassiveWire:
    """The protocol of ``massive``."""

    name = "massive"
    lies: Mapping[str, Lie] = {
        "wrong_ticker": lambda _, body: body | {"ticker": "OTHER"},
        "wrong_adjusted": lambda _, body: body | {"adjusted": not body.get("adjusted")},
        "delayed": lambda _, body: body | {"status": "DELAYED"},
        "foreign_next": _foreign,
        "repeated_next": _repeated,
        "endless_pages": _endless,
    }

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return all of the market."""
        return market.tickers

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:
        """Take the key out of a call: it may stand in the query, too; of a file it is an id."""
        if headers.get("Authorization", "").startswith("AWS4"):
            return flatfiles.key_id(headers)
        key = query.pop("apiKey", "") or headers.get("Authorization", "")
        return key.removeprefix("Bearer ")

    def see(self, path: str, query: Mapping[str, str]) -> Seen:  # noqa: ARG002  # all is in the path
        """Return what a call is; files take nothing of the quota."""
        if path.startswith(FILES_PATH):
            return Seen("bars", (EVERYBODY,), cost=0)
        about = _ABOUT.match(path)
        everybody = (EVERYBODY,) if path.startswith(GROUPED_PATH) else ()
        return Seen(
            "bars" if path.startswith(BARS_PATH) else "lookup", (about[1],) if about else everybody
        )

    def answer(self, method: str, ask: base.Ask) -> Answer:
        """Answer a call whose key is right and whose turn it is."""
        return routes.answer(method, Ask.of(ask))

    def refusal(self, status: int, ask: base.Ask) -> Answer:
        """Refuse a call; only what the tests read of the words are the provider's."""
        if ask.path.startswith(FILES_PATH):
            return flatfiles.refusal(403 if status == 401 else status)
        error = {401: "Unknown API Key", 429: _TOO_MANY}.get(status, "")
        return refusal(status, ask.request_id, error=error, message="Injected fault")

    def coarser(self, ask: base.Ask) -> base.Ask:
        """Return what asks for months for days or weeks, and days for anything shorter."""
        short = re.compile(r"/range/\d+/(minute|hour)/")
        if short.search(ask.path):
            return replace(ask, path=short.sub("/range/1/day/", ask.path))
        return replace(ask, path=re.sub(r"/range/\d+/(day|week)/", "/range/1/month/", ask.path))

    def rows(self, ask: base.Ask, body: Any) -> Sequence[Any]:
        """Return the bars of a page, or of a grouped day."""
        rows: Sequence[Any] = body.get("results", []) if ask.path.startswith(BARS_PATH) else []
        return rows

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other bars; what is left out was not looked at either."""
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

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a bar."""
        at_ms: int = row.t
        return at_ms

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values; the letters are the wire's own."""
        return msgspec.to_builtins(row) | dict(values)

    def is_of(self, row: Any, ticker: str) -> bool:
        """Whether a bar of a grouped day is a ticker's."""
        return bool(ticker == row.T)

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        return re.sub(rb'"c":[^,}]+', b'"c":NaN', data, count=1)
