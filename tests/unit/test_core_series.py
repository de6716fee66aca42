import pytest

from backfill.core.series import Source, ticker_traits
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError


@pytest.mark.parametrize(
    ("ticker", "traits"),
    [
        ("AAPL", ("stock", "XNYS")),
        ("X", ("stock", "XNYS")),
        ("BRK.B", ("stock", "XNYS")),
        ("BRK-B", ("stock", "XNYS")),
        ("BACpL", ("stock", "XNYS")),
        ("X:BTCUSD", ("crypto", "24/7")),
        ("BTC/USD", ("crypto", "24/7")),
    ],
)
def test_the_form_of_a_ticker_tells_its_market(ticker: str, traits: tuple[str, str]) -> None:
    assert ticker_traits(ticker) == traits


@pytest.mark.parametrize(
    "ticker",
    [
        "",
        " ",
        "AAPL ",
        "AAPL\n",
        "AA PL",
        "AAPL,MSFT",
        "AAPL;DROP TABLE symbols",
        "../etc/passwd",
        "AAPL?x=1",
        "AAPL%2F",
        "-AAPL",
        ".B",
        "BRK..B",
        "BRK.",
        "X:",
        "ÄPFEL",
        "A" * 33,
    ],
)
def test_what_is_no_ticker_is_refused(ticker: str) -> None:
    with pytest.raises(UsageError, match="is not a symbol"):
        ticker_traits(ticker)


@pytest.mark.parametrize(
    "ticker", ["O:SPY251219C00650000", "I:SPX", "x:BTCUSD", "XX:BTC", "NYSE:AAPL"]
)
def test_a_market_that_is_not_kept_is_refused(ticker: str) -> None:
    with pytest.raises(UsageError, match="only stocks"):
        ticker_traits(ticker)


def test_a_source_names_all_that_sets_it_apart() -> None:
    fetched = Source("massive", "sip", "raw")
    derived = Source("massive", "sip", "raw", derived_from=Timeframe.m1)
    assert str(fetched) == "massive/sip/raw"
    assert str(derived) == "massive/sip/raw, derived from m1"
