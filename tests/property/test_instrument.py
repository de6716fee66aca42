"""What a ticker names: however it is written it is one instrument, and no two become one."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.instrument import MONEY, QUOTES, Instrument, Pair, Stock, read_instrument
from backfill.core.series import Symbol, ticker_traits
from backfill.core.ticker import Ticker, spelling, spelling_of, stored_spellings
from backfill.errors import NotEntitled, UsageError
from backfill.providers import PROVIDERS
from backfill.providers.base import Provider, spelled
from backfill.store.foreign_tickers import set_aside_for
from tests.conftest import SHARED
from tests.providers.tiny import Tiny

ALL = [*PROVIDERS.values(), Tiny()]
CODES = st.sampled_from(
    ["BTC", "ETH", "BNB", "BN", "BNBB", "DOT", "DO", "SHIB", "T", "1INCH", "DOGE", "USD", "EUR"]
)
PAIRS = st.builds(Pair, CODES, st.sampled_from(sorted(QUOTES | {"BUSD", "TUSD", "FDUSD"}))).filter(
    lambda one: one.base != one.quote
)
CLASSES = st.sampled_from(["", "A", "B", "WS", "PR.A"])
STOCKS = st.builds(Stock, st.from_regex(r"[A-Z]{1,5}", fullmatch=True), CLASSES)
INSTRUMENTS = st.one_of(PAIRS, STOCKS)


def read(text: str) -> Instrument | None:
    try:
        return read_instrument(text)
    except UsageError:
        return None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BTC/USD", "BTC/USD"),
        ("XBT/USD", "BTC/USD"),
        ("X:BTCUSD", "BTC/USD"),
        ("BTC-USD", "BTC/USD"),
        ("BTCUSD", "BTC/USD"),
        ("btcusd", "BTC/USD"),
        ("XBTUSD", "BTC/USD"),
        ("XXBTZUSD", "BTC/USD"),
        ("XETHXXBT", "ETH/BTC"),
        ("USDTZUSD", "USDT/USD"),
        ("XDGUSD", "DOGE/USD"),
        ("BTCUSDT", "BTC/USDT"),
        ("XBTUSDT", "BTC/USDT"),
        ("BTC-USDT", "BTC/USDT"),
        ("BINANCE:BTCUSDT", "BTC/USDT"),
        ("COINBASE:BTC-USD", "BTC/USD"),
        ("fldcbtc", "FLDC/BTC"),
        ("BNB/BUSD", "BNB/BUSD"),
        ("BNBUSD", "BNB/USD"),
        ("BNBBUSD", "BNB/BUSD"),
        ("BTCFDUSD", "BTC/FDUSD"),
        ("X:BNBUSD", "BNB/USD"),
        ("X:DOTUSD", "DOT/USD"),
        ("C:EURUSD", "EUR/USD"),
        ("EURUSD=X", "EUR/USD"),
        ("BRK.B", "BRK.B"),
        ("BRK-B", "BRK.B"),
        ("BACpL", "BACpL"),
        ("BTC", "BTC"),
        ("EUSD", "EUSD"),
        ("TUSD", "TUSD"),
    ],
)
def test_each_form_of_a_ticker_is_read_by_a_rule(text: str, name: str) -> None:
    assert str(read_instrument(text)) == name


@pytest.mark.parametrize("text", ["DOTUSD", "SHIBUSD", "arbbusd", "USDTUSD"])
def test_a_word_that_two_rules_could_part_is_refused_and_not_guessed(text: str) -> None:
    with pytest.raises(UsageError, match=r"may be [A-Z]+/[A-Z]+ or [A-Z]+/[A-Z]+: write one"):
        read_instrument(text)


@pytest.mark.parametrize(
    "text", ["X:EURUSD", "AAPL=X", "BTC/", "BRK/B", "btc/USD", "X:BTC-USD", "NYSE:AAPL", "BTC=USD"]
)
def test_what_no_rule_reads_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_instrument(text)


def test_no_quote_of_one_word_is_the_end_of_another() -> None:
    assert not [(a, b) for a in QUOTES for b in QUOTES if a != b and a.endswith(b)]


@given(INSTRUMENTS)
def test_every_form_of_an_instrument_is_read_as_it_or_not_at_all(instrument: Instrument) -> None:
    readings = {read(form): form for form in instrument.forms}
    # One word may be of two pairs, of which a rule knows one: X:DOTUSD is no DO/TUSD.
    strange = {one: form for one, form in readings.items() if one not in {None, instrument}}
    assert instrument in readings
    assert not any("/" in form or "-" in form for form in strange.values())
    assert not strange or isinstance(instrument, Pair)


@given(INSTRUMENTS)
def test_a_symbol_is_found_under_whatever_form_it_was_first_written_in(
    instrument: Instrument,
) -> None:
    forms = [form for form in instrument.forms if read(form) == instrument]
    assert len({spelling(form) for form in forms}) == 1
    for first, later in pairwise([*forms, forms[0]]):
        # The column that symbols are found by is made in the database, of the ticker alone.
        held = "X:" + first.replace("/", "") if "/" in first else first
        assert held in stored_spellings(later)
        assert spelling_of(first) == spelling(later)


@given(st.lists(INSTRUMENTS, min_size=2, max_size=6, unique=True))
def test_no_two_instruments_share_a_name(instruments: list[Instrument]) -> None:
    assert len({str(one) for one in instruments}) == len(instruments)


@given(CODES.filter(lambda code: code not in MONEY))
def test_dollars_and_the_coins_that_stand_for_them_never_merge(base: str) -> None:
    names = {spelling(f"{base}{mark}{quote}") for quote in ("USD", "USDT", "USDC", "TUSD", "BUSD")
             for mark in "/-"}  # fmt: skip
    assert len(names) == 5


@pytest.mark.parametrize("provider", ALL, ids=lambda one: one.name)
@SHARED
@given(instrument=INSTRUMENTS)
def test_what_a_provider_spells_it_reads_back(provider: Provider, instrument: Instrument) -> None:
    if instrument.asset_type not in provider.can.native:
        return
    try:
        text = spelled(provider, instrument)
    except NotEntitled:
        # It has one word for two, and says so rather than fetch the other's bars.
        assert provider.instrument(provider.spelling(instrument)) != instrument
        return
    assert provider.instrument(text) in {instrument, None}


@pytest.mark.parametrize("provider", ALL, ids=lambda one: one.name)
@SHARED
@given(instruments=st.lists(INSTRUMENTS, min_size=2, max_size=8, unique=True))
def test_no_two_instruments_have_one_spelling_at_a_provider(
    provider: Provider, instruments: list[Instrument]
) -> None:
    taken: dict[str, Instrument] = {}
    for one in instruments:
        if one.asset_type in provider.can.native:
            try:
                text = spelled(provider, one)
            except NotEntitled:
                continue
            assert taken.setdefault(text, one) == one


@given(st.text(alphabet="ABUSDTXZ:/-@.=x1", max_size=14))
def test_whatever_is_written_is_read_as_one_thing_or_refused(text: str) -> None:
    try:
        name = spelling(text)
    except UsageError:
        return
    assert spelling(name) == name
    assert spelling_of(text) == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("AAPL", ("AAPL", None, None)),
        ("AAPL@alpaca", ("AAPL", None, "alpaca")),
        ("REUSE@2024-06-28", ("REUSE", "2024-06-28", None)),
        ("REUSE@2024-06-28@alpaca", ("REUSE", "2024-06-28", "alpaca")),
        ("BTC/USD@coinbase", ("BTC/USD", None, "coinbase")),
    ],
)
def test_a_suffix_tells_whose_bars_or_of_when(
    text: str, parts: tuple[str, str | None, str | None]
) -> None:
    read_ticker = Ticker.read(text)
    assert (read_ticker.body, read_ticker.provider) == (parts[0], parts[2])
    assert (read_ticker.retired and read_ticker.retired.isoformat()) == parts[1]
    assert str(read_ticker) == text


@pytest.mark.parametrize(
    "text", ["AAPL@", "AAPL@2024-13-01", "AAPL@Alpaca", "AAPL@alpaca@2024-06-28", "A@b@c", "@@"]
)
def test_what_is_no_suffix_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Ticker.read(text)


def test_the_asset_type_follows_the_instrument_and_a_row_that_says_otherwise_is_doubted() -> None:
    assert ticker_traits("BTCUSDT@binance") == ("crypto", "24/7")
    doubted = Symbol(1, "BTC-USD", "stock", "XNYS")
    assert doubted.doubt == "its ticker names BTC/USD (crypto), and it is a stock"
    assert Symbol(1, "BTC-USD", "crypto", "24/7").doubt is None
    assert [ticker_traits(one) for one in ("EUR/USD", "C:EURUSD", "eurusd", "EURUSD=X")] == [
        ("fx", "FX")
    ] * 4
    assert Symbol(1, "EUR/USD", "fx", "FX").doubt is None


@pytest.mark.parametrize(
    ("ticker", "asset_type", "reason"),
    [
        ("BTCUSDT", "crypto", None),
        ("BTC-USD", "crypto", None),
        ("BRK-B", "stock", None),
        ("BTC", "crypto", "not spelled as a pair"),
        ("DOTUSD", "crypto", "not spelled as a pair"),
        ("EUR/USD", "crypto", "names EUR/USD (fx), and it is a crypto"),
        ("BTC-USD", "stock", "names BTC/USD (crypto), and it is a stock"),
        ("ES=F", "stock", "not spelled as a ticker"),
        ("ESZ4", "future", "futures are not fetched"),
    ],
)
def test_of_another_system_what_its_row_says_otherwise_than_its_ticker_is_set_aside(
    ticker: str, asset_type: str, reason: str | None
) -> None:
    told = set_aside_for(ticker, asset_type)
    assert told is None if reason is None else reason in str(told)
