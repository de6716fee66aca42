"""Pages of the simulated market, encoded and compressed before anybody asks for them."""

import gzip
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from backfill.simulator import Market
from backfill.simulator.wire.base import epoch_ms
from backfill.simulator.wire.massive.protocol import Ask
from backfill.simulator.wire.massive.routes import answer
from bench.workload import MARKET_TICKER, NOW, Load, target_of

_REQUEST_ID: Final = "0" * 32
_LEVEL: Final = 1


class Pages:
    """The answers to the requests for some loads, by `target_of` the request.

    All tickers of a workload show the same market: a page is drawn and encoded once, and then
    bears the name of each of them.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._market = Market()
        self._held: dict[str, bytes] = {}

    def prepare(self, loads: list[Load]) -> int:
        """Hold the pages of these loads and no others; returns their compressed bytes."""
        self._held = {}
        tickers: dict[tuple[int, int], list[str]] = {}
        for load in loads:
            tickers.setdefault((load.start_ms, load.end_ms), []).append(load.ticker)
        for (start_ms, end_ms), named in tickers.items():
            for target, body in self._walk(Load(MARKET_TICKER, start_ms, end_ms)):
                for ticker in named:
                    page = body.replace(MARKET_TICKER.encode(), ticker.encode())
                    own = target.replace(MARKET_TICKER, ticker)
                    self._held[own] = gzip.compress(page, _LEVEL)
        return sum(map(len, self._held.values()))

    def get(self, target: str) -> bytes | None:
        """Return the compressed page, or None if it wasn't prepared."""
        return self._held.get(target)

    def made(self, target: str) -> tuple[int, bytes]:
        """Answer a request that nothing was prepared for: a status and a compressed body."""
        status, body = self._answer(target)
        return status, gzip.compress(msgspec.json.encode(body), _LEVEL)

    def _walk(self, load: Load) -> Iterator[tuple[str, bytes]]:
        """Follow the pages of a load: the target of each, and its body."""
        target: str | None = load.target
        while target is not None:
            status, body = self._answer(target)
            if status != 200:
                raise RuntimeError(f"the simulated market refuses {target}: {body}")
            yield target, msgspec.json.encode(body)
            target = target_of(body["next_url"]) if "next_url" in body else None

    def _answer(self, target: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(target)
        reply = answer(
            "GET",
            Ask(
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                market=self._market,
                now_ms=epoch_ms(NOW),
                plan="unlimited",
                base_url=self._base_url,
                request_id=_REQUEST_ID,
            ),
        )
        return reply.status, reply.body
