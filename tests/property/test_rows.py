"""A body of rows is bars or a typed outcome whatever it holds; a good row loses no bit."""

import json
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.asked import Asked
from backfill.core.coverage import Span
from backfill.core.series import Symbol
from backfill.core.timeframe import HOUR_MS, Timeframe
from backfill.core.wire import Page, Response
from backfill.errors import BackfillError
from backfill.providers.base import Provider
from backfill.providers.coinbase import Coinbase
from backfill.providers.kraken import Kraken
from tests.calendars import calendar

START_MS: Final = 1_717_372_800_000
SLOTS: Final = 20
ASKED: Final = Asked(
    Symbol(1, "BTC/USD", "crypto", "24/7"),
    calendar("24/7"),
    Timeframe.h1,
    Span(START_MS, START_MS + SLOTS * HOUR_MS),
    "raw",
)

LEAVES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.sampled_from(["", "1", "1.5", "1e400", "-1", "nan", "inf", "1_0", " 1", "0x1", "é"]),
)
STAMPS: Final = st.one_of(st.integers(0, 2**70), st.just(START_MS // 1000), LEAVES)
ROWS: Final = st.lists(
    st.tuples(STAMPS, *[LEAVES] * 7).map(list) | st.lists(LEAVES, max_size=9) | LEAVES,
    max_size=4,
)


def read(provider: Provider, rows: Any) -> Page:
    body = rows
    if provider.name == "kraken":
        body = {"error": [], "result": {"XXBTZUSD": rows, "last": 1}}
    return provider.read_bars(Response(200, {}, json.dumps(body).encode()), ASKED)


@given(ROWS, st.sampled_from([Coinbase(), Kraken()]))
def test_a_body_of_anything_is_bars_of_the_range_or_a_typed_outcome(
    rows: list[Any], provider: Provider
) -> None:
    try:
        page = read(provider, rows)
    except BackfillError:
        return
    assert len(page.bars) <= len(rows)
    assert (page.bars.ts_ms >= ASKED.span.start_ms).all()


PRICE: Final = st.floats(1e-9, 1e9)


@given(st.lists(st.tuples(*[PRICE] * 6), min_size=2, max_size=SLOTS))
def test_numbers_are_read_to_the_last_bit_in_quotes_or_bare(rows: list[tuple[float, ...]]) -> None:
    stamps = [START_MS + at * HOUR_MS for at in range(len(rows))]
    candles = [
        [at_ms // 1000, low, high, first, last, volume]
        for at_ms, (first, high, low, last, volume, _) in zip(stamps, rows, strict=True)
    ]
    texts = [
        [at_ms // 1000, *map(repr, (first, high, low, last, vwap, volume)), 3]
        for at_ms, (first, high, low, last, volume, vwap) in zip(stamps, rows, strict=True)
    ]
    for page, count in ((read(Coinbase(), candles), len(rows)), (read(Kraken(), texts), -1)):
        bars = page.bars
        told = zip(
            *(one.tolist() for one in (bars.open, bars.high, bars.low, bars.close, bars.volume)),
            strict=True,
        )
        assert list(told) == [row[:5] for row in rows[:count]]
        assert not page.oddities
