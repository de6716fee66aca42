"""A fetch is read from its text as it was written, and its key tells it from every other."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.archive import Use
from backfill.core.fetches import Fetch, Kind, read
from backfill.core.series import Source
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.errors import UnreadableJob

timeframes = st.sampled_from(list(Timeframe))
tickers = st.sampled_from(["AAPL", "BRK.B", "X:BTCUSD", 'A"B', "BTC/USDT@kraken", "a,b]"])
times = st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC))
bounds = st.none() | st.builds(Bound, st.dates(date(1990, 1, 1), date(2100, 1, 1)) | times)
fetches = st.builds(
    Fetch,
    kind=st.sampled_from(list(Kind)),
    source=st.builds(Source, tickers, st.text(max_size=5), st.sampled_from(["raw", "split"])),
    base=timeframes,
    series=st.lists(st.tuples(tickers, timeframes), min_size=1, max_size=3).map(tuple),
    mode=st.sampled_from(list(Mode)),
    first=bounds,
    last=bounds,
    as_of=st.none() | times,
    archive=st.sampled_from(list(Use)),
)


@given(fetches)
def test_a_fetch_is_read_as_it_was_written(fetch: Fetch) -> None:
    assert read(fetch.text) == read(fetch.text.encode()) == fetch


@given(fetches, fetches, st.integers(1, 3), st.integers(1, 3))
def test_two_fetches_have_one_key_only_if_they_ask_for_the_same(
    one: Fetch, other: Fetch, first: int, second: int
) -> None:
    one, other = replace(one, symbol_id=first), replace(other, symbol_id=second, priority=9)
    assert (one.key == other.key) == (one == replace(other, priority=0))


@given(fetches)
def test_a_key_is_an_array_of_what_it_is_about(fetch: Fetch) -> None:
    kind, provider, feed, adjustment, symbol, base, _ = json.loads(fetch.key)
    assert (kind, base, symbol) == (fetch.kind, fetch.base, None)
    assert (provider, feed, adjustment) == fetch.source.origin


@pytest.mark.parametrize(
    "changed",
    [{"version": 2}, {"mode": "other"}, {"series": None}, {"from": "soon"}, {"series": [["A"]]}],
)
def test_what_can_not_be_read_is_said_and_not_guessed(changed: dict[str, Any]) -> None:
    fetch = Fetch(Kind.series, Source("p", "f", "raw"), Timeframe.d1, (("A", Timeframe.d1),))
    with pytest.raises(UnreadableJob):
        read(json.dumps(json.loads(fetch.text) | changed))
    with pytest.raises(UnreadableJob):
        read(fetch.text[:-1])
