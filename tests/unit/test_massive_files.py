"""Massive's flat files, from gzipped pieces to the bars of the wanted tickers."""

import gzip
import json
import random
from collections.abc import Callable
from datetime import date
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.market_files import BarsByTicker
from backfill.core.raw import spelled
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.errors import BadAnswer
from backfill.fetch import gunzip
from backfill.fetch.gunzip import Gunzip
from backfill.providers.massive_files import held_in, path_of
from backfill.providers.massive_sessions import SessionReader
from backfill.providers.rows import IMPOSSIBLE_COUNT

HEADER: Final = "ticker,volume,open,close,high,low,window_start,transactions"
OPEN_MS: Final = 1_735_828_200_000
TICKERS: Final = ("A", "AA", "AAPL", "ABRpD", "BRK.B", "ZVZZT", "LONGTICKER.WS", "AAAAAAAA")


def line(ticker: str, at: int = 0, **values: object) -> str:
    """Return a line of the file, but for the values given."""
    told: dict[str, object] = {
        "volume": 1200, "open": 10.25, "close": 10.5, "high": 10.75, "low": 10.125,
        "window_start": (OPEN_MS + at * MINUTE_MS) * 1_000_000, "transactions": 31,
    } | values  # fmt: skip
    return f"{ticker},{','.join(str(value) for value in told.values())}"


def read(text: str, *wanted: str, step: int = 10**9) -> BarsByTicker:
    reader, data = SessionReader(wanted), text.encode()
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader.close()


def file_of(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


def rows(bars: Bars) -> list[tuple[float, ...]]:
    columns = (bars.ts_ms, bars.volume, bars.open, bars.close, bars.high, bars.low)
    return list(zip(*(one.tolist() for one in columns), bars.trade_count.tolist(), strict=True))


PRICES: Final = st.floats(0.0001, 1e6, allow_nan=False)
LINES: Final = st.lists(
    st.tuples(st.sampled_from(TICKERS), st.integers(0, 900), PRICES, PRICES, st.integers(0, 10**9)),
    min_size=1,
    max_size=60,
)


@given(LINES, st.sets(st.sampled_from(TICKERS)), st.integers(1, 400))
def test_every_line_of_a_wanted_ticker_is_read_and_no_other_wherever_the_text_is_cut(
    told: list[tuple[str, int, float, float, int]], wanted: set[str], step: int
) -> None:
    text = file_of(
        *(
            line(ticker, at, open=price, close=close, volume=close, transactions=count)
            for ticker, at, price, close, count in told
        )
    )
    found = read(text, *wanted, step=step)
    expected: dict[str, list[tuple[float, ...]]] = {}
    for ticker, at, price, close, count in told:
        if ticker in wanted:
            row = (OPEN_MS + at * MINUTE_MS, close, price, close, 10.75, 10.125, count)
            expected.setdefault(ticker, []).append(row)
    assert {ticker: rows(bars) for ticker, (bars, _) in found.items()} == expected
    assert all(np.isnan(bars.vwap).all() for bars, _ in found.values())


def test_a_count_that_is_not_given_is_none_and_costs_nothing() -> None:
    text = file_of(line("AAPL"), line("AAPL", 1, transactions=""), line("MSFT", transactions=""))
    found = read(text, "AAPL", "MSFT")
    assert found["AAPL"][0].trade_count.tolist() == [31, NO_COUNT]
    assert found["MSFT"][0].trade_count.tolist() == [NO_COUNT]
    assert not any(odd for _, odd in found.values())


@pytest.mark.parametrize("value", ["abc", "", "nan", "inf", "null", "0x1p3", "1_0"])
def test_what_is_no_number_costs_its_own_bar_and_is_kept_as_it_came(value: str) -> None:
    text = file_of(line("AAPL"), line("AAPL", 1, high=value), line("AAPL", 2), line("MSFT"))
    found = read(text, "AAPL", "MSFT")
    bars, odd = found["AAPL"]
    assert np.isfinite(bars.high).tolist() == [True, False, True]
    [kept] = spelled(bars.take(slice(1, 2)), odd)
    assert json.loads(kept)["high"] == (None if value in {"", "null"} else value)
    assert len(found["MSFT"][0]) == 1


@pytest.mark.parametrize("count", ["-1", "1.5", "1e300", "many"])
def test_a_count_that_can_not_be_one_costs_its_own_bar(count: str) -> None:
    bars, _ = read(file_of(line("AAPL"), line("AAPL", 1, transactions=count)), "AAPL")["AAPL"]
    assert bars.trade_count.tolist() == [31, IMPOSSIBLE_COUNT]


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER + "\n",
        HEADER.replace("volume,open", "open,volume") + "\n" + line("AAPL") + "\n",
        "<html>\n</html>\n",
        file_of(line("AAPL"), "AAPL,1,2,3"),
        file_of(line("AAPL") + ",9", "AAPL,1,2,3,4,5,6"),
        file_of(line("")),
        file_of(line("X" * 40)),
        file_of(line("AAPL"))[:-9],
        HEADER + "\n" + "A" * 100_000,
        file_of(line("AAPL", window_start=OPEN_MS)),
        file_of(line("AAPL", window_start=OPEN_MS * 1000)),
        file_of(line("AAPL", window_start=f"{OPEN_MS}000001")),
        file_of(line("AAPL", window_start=f"{OPEN_MS / 1e9}e18")),
    ],
    ids=lambda text: text[-24:].strip() or "empty",
)
def test_a_file_of_another_shape_or_unit_is_refused_whole(text: str) -> None:
    with pytest.raises(BadAnswer):
        read(text, "AAPL", "X" * 40)


def test_what_a_file_holds_is_told_by_its_path() -> None:
    for timeframe in (Timeframe.m1, Timeframe.d1):
        held = held_in(path_of(date(2025, 3, 10), timeframe))
        assert held is not None
        assert (held.spelling, held.timeframe) == (None, timeframe)
        assert (held.span.end_ms - held.span.start_ms) == 86_400_000
    assert held_in("us_stocks_sip/trades_v1/2025/03/2025-03-10.csv.gz") is None
    assert held_in("elsewhere.csv.gz") is None


Pack = Callable[[bytes], bytes]


def unpacked(packed: bytes, step: int, limit: int = 10**9) -> bytes:
    unpack = Gunzip(limit)
    pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
    text = b"".join(part for piece in pieces for part in unpack.feed(piece))
    unpack.close()
    return text


@given(
    st.sampled_from([0, 1, 4095, 4096, 4097, 8192, 30_000]),
    st.sampled_from([b"ab", b"\0", random.Random(1).randbytes(999)]),
    st.sampled_from([1, 7, 100, 10**6]),
)
def test_gzip_is_unpacked_in_small_parts_however_it_is_cut(
    size: int, pattern: bytes, step: int
) -> None:
    text = (pattern * (size // len(pattern) + 1))[: size + 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gunzip, "_PIECE", 4096)
        assert unpacked(gzip.compress(text), step) == text
        # Several members make one file.
        assert unpacked(gzip.compress(text) + gzip.compress(text), step) == text * 2


def test_a_cut_a_broken_and_an_endless_file_are_refused() -> None:
    packed = gzip.compress(file_of(*(line("AAPL", at) for at in range(900))).encode())
    for broken in (packed[:-1], packed[:-9], packed[: len(packed) // 2], packed[:5], b""):
        with pytest.raises(BadAnswer, match="cut short"):
            unpacked(broken, 100)
    wrong_sum = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    for broken in (wrong_sum, b"no gzip at all", packed + b"and something more"):
        with pytest.raises(BadAnswer, match="broken as gzip"):
            unpacked(broken, 100)
    with pytest.raises(BadAnswer, match="exceeds"):
        unpacked(gzip.compress(bytes(10_000_000)), 10**6, limit=1_000_000)
