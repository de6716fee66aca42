"""Which path is answered by what."""

import re
from collections.abc import Callable
from typing import Final

from backfill.simulator.wire.base import Answer, Refused
from backfill.simulator.wire.massive.aggregates import aggregates, grouped
from backfill.simulator.wire.massive.flatfiles import flat_file
from backfill.simulator.wire.massive.protocol import Ask, refusal
from backfill.simulator.wire.massive.reference import (
    dividends,
    old_dividends,
    old_splits,
    splits,
    ticker_details,
    ticker_events,
    tickers,
)

_ROUTES: Final[tuple[tuple[re.Pattern[str], Callable[..., Answer]], ...]] = tuple(
    (re.compile(pattern), route)
    for pattern, route in (
        (r"/v2/aggs/ticker/([^/]+)/range/([^/]+)/([^/]+)/([^/]+)/([^/]+)", aggregates),
        (r"/v2/aggs/grouped/locale/us/market/(stocks)/([^/]+)", grouped),
        (r"/v2/aggs/grouped/locale/global/market/(crypto)/([^/]+)", grouped),
        (r"/stocks/v1/splits", splits),
        (r"/stocks/v1/dividends", dividends),
        (r"/v3/reference/splits", old_splits),
        (r"/v3/reference/dividends", old_dividends),
        (r"/v3/reference/tickers", tickers),
        (r"/v3/reference/tickers/([^/]+)", ticker_details),
        (r"/vX/reference/tickers/([^/]+)/events", ticker_events),
        (
            r"/flatfiles/us_stocks_sip/(minute|day)_aggs_v1/\d{4}/\d{2}/([\d-]{10})\.csv\.gz",
            flat_file,
        ),
    )
)


def answer(method: str, ask: Ask) -> Answer:
    """Answer a call whose key is right and whose turn it is."""
    for pattern, route in _ROUTES:
        match = pattern.fullmatch(ask.path)
        if match is None:
            continue
        if method != "GET" and not (method == "HEAD" and route is flat_file):
            return refusal(405, ask.request_id, error="Only GET is supported")
        try:
            return route(ask, *match.groups())
        except Refused as refused:
            return refused.answer
    return refusal(404, ask.request_id, message="Not found.")
