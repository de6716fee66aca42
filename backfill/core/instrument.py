"""What a ticker names: a share or a pair, however somebody writes it.

The forms are a closed list, and each is read by a rule. What two rules could read in two ways is
refused with both readings, and never guessed: dollars and the coins that stand for them are
different money.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, TypeAlias

from backfill.core.dataclass import dataclass
from backfill.errors import UsageError

MONEY: Final = frozenset({
    "AED", "ARS", "AUD", "BGN", "BHD", "BRL", "CAD", "CHF", "CLP", "CNH", "CNY", "COP", "CZK",
    "DKK", "EGP", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JOD", "JPY", "KES",
    "KRW", "KWD", "KZT", "MXN", "MYR", "NGN", "NOK", "NZD", "OMR", "PHP", "PKR", "PLN", "QAR",
    "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
})  # fmt: skip
"""Currencies of states; a pair of two of them is of the currency market."""
_METALS: Final = frozenset({"XAG", "XAU", "XPD", "XPT"})
"""Metals have codes as money has, and hours of their own."""
_DOLLAR_COINS: Final = frozenset({"BUSD", "FDUSD", "GUSD", "PYUSD", "RLUSD", "TUSD"})
_COINS: Final = frozenset({"BNB", "BTC", "DAI", "ETH", "EURC", "EURI", "USDC", "USDP", "USDT"})
QUOTES: Final = MONEY | _COINS
"""What the quote of a pair may be that is written in one word; none is the end of another."""

_ALIASES: Final = {"XBT": "BTC", "XDG": "DOGE"}
"""Other codes of coins."""
# Codes of the time when X stood for a coin and Z for money (XXBTZUSD); the list is closed.
_PREFIXED: Final = {
    "XETC": "ETC", "XETH": "ETH", "XICN": "ICN", "XLTC": "LTC", "XMLN": "MLN", "XREP": "REP",
    "XXBT": "BTC", "XXDG": "DOGE", "XXLM": "XLM", "XXMR": "XMR", "XXRP": "XRP", "XZEC": "ZEC",
    "ZAUD": "AUD", "ZCAD": "CAD", "ZEUR": "EUR", "ZGBP": "GBP", "ZJPY": "JPY", "ZUSD": "USD",
    "USDT": "USDT",
}  # fmt: skip
_KNOWN: Final = QUOTES | set(_ALIASES.values())
"""Codes of which a word is known to begin with one: BNBUSD is no pair of BN."""
_VENUES: Final = frozenset({"BINANCE", "COINBASE", "KRAKEN"})
"""Venues that may stand before a pair, and say whose bars of it are meant."""

_TICKER: Final = re.compile(r"[A-Za-z0-9]+([.:/_-][A-Za-z0-9]+)*(=X)?")
_WORD: Final = re.compile(r"[A-Z0-9]{6,}|[a-z0-9]{6,}")
_PARTED: Final = re.compile(r"([A-Z0-9]{1,10})[/-]([A-Z]{3,5})|([a-z0-9]{1,10})[/-]([a-z]{3,5})")
_PREFERRED: Final = re.compile(r"PR[A-Z]")
"""What some write behind a slash for preferred shares of a series; no coin is paid in it."""
_LONGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Stock:
    """A share of a US company: ``BRK``, and its class, ``B``, if it has one."""

    root: str
    share_class: str = ""

    @property
    def asset_type(self) -> str:
        """Its asset type, ``stock``."""
        return "stock"

    @property
    def forms(self) -> Iterator[str]:
        """Every way to write it."""
        parts = self.share_class.split(".") if self.share_class else []
        for ends in product(*((f".{part}", f"-{part}") for part in parts)):
            yield self.root + "".join(ends)

    def __str__(self) -> str:
        """Return its name: of all ways to write it the one with dots."""
        return f"{self.root}.{self.share_class}" if self.share_class else self.root


@dataclass(frozen=True, slots=True)
class Pair:
    """What one unit of ``base`` costs in ``quote``: a coin, or money, in money or another coin.

    Without a quote it is known by one word only, which no rule parts (``X:FOOBAR``).
    """

    base: str
    quote: str

    @property
    def asset_type(self) -> str:
        """Its asset type: ``fx`` of two currencies of states, ``crypto`` else."""
        return "fx" if {self.base, self.quote} <= MONEY else "crypto"

    @property
    def forms(self) -> Iterator[str]:
        """Every way to write it."""
        market = "C:" if self.asset_type == "fx" else "X:"
        for base, quote in product(_codes(self.base), _codes(self.quote)):
            yield f"{market}{base}{quote}"
            if not self.quote:
                continue
            words = [f"{base}{quote}", f"{base}-{quote}"]
            yield from (f"{venue}:{word}" for venue, word in product(_VENUES, words))
            for word in [*words, f"{base}/{quote}"]:
                yield word
                yield word.lower()
        for base, quote in product(_prefixed(self.base), _prefixed(self.quote)):
            yield base + quote
            yield from (f"{venue}:{base}{quote}" for venue in _VENUES)
        if self.asset_type == "fx":
            yield f"{self.base}{self.quote}=X"

    def __str__(self) -> str:
        """Return its name: of all ways to write it the one that parts it, if a rule reads that."""
        known = self.quote in QUOTES | _DOLLAR_COINS
        return f"{self.base}/{self.quote}" if known else f"X:{self.base}{self.quote}"


Instrument: TypeAlias = Stock | Pair


def read_instrument(text: str) -> Instrument:
    """Return what a ticker names, in whichever of its forms.

    Raises
    ------
    UsageError
        If it is no ticker, or could be two.

    >>> {str(read_instrument(one)) for one in ("BTC/USD", "X:BTCUSD", "BTC-USD", "XXBTZUSD")}
    {'BTC/USD'}
    >>> str(read_instrument("BTCUSDT")), str(read_instrument("BRK-B")), str(read_instrument("BTC"))
    ('BTC/USDT', 'BRK.B', 'BTC')
    """
    if len(text) > _LONGEST or not _TICKER.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a symbol: expected a form like AAPL, BRK.B, BTC/USD, X:BTCUSD"
        )
    market, colon, name = text.partition(":")
    if colon and "/" in text:
        raise UsageError(f"{text!r} mixes two spellings: write BTC/USD or X:BTCUSD")
    if colon:
        return _in_market(text, market, name)
    if text.endswith("=X"):
        return _money(text, parted(text.removesuffix("=X"), MONEY))
    if (pair := _separated(text) or _in_one_word(text)) is not None:
        return pair
    if "/" in text:
        raise UsageError(f"{text!r} is no pair such as BTC/USD; a share class is written BRK.B")
    return stock_of(text)


def instrument_of(ticker: str, asset_type: str) -> Instrument:
    """Return what a ticker that is stored names, of which the asset type is known.

    >>> instrument_of("BTC-USD", "stock"), instrument_of("X:FOOBAR", "crypto")
    (Stock(root='BTC', share_class='USD'), Pair(base='FOOBAR', quote=''))
    """
    if asset_type == "stock":
        return stock_of(ticker)
    try:
        read = read_instrument(ticker)
    except UsageError:
        read = None
    return read if isinstance(read, Pair) else Pair(ticker.removeprefix("X:"), "")


def stock_of(text: str) -> Stock:
    """Return the share that a text names: what follows the first dot or dash is its class.

    >>> stock_of("BRK-B") == stock_of("BRK.B")
    True
    """
    root, *parts = re.split("[.-]", text)
    return Stock(root, ".".join(parts))


def pair_of(base: str, quote: str) -> Pair:
    """Return the pair of two codes, upper case, each for another code of its coin if it is one.

    Raises
    ------
    UsageError
        If one of them is a metal.

    >>> str(pair_of("XBT", "USDT"))
    'BTC/USDT'
    """
    if metals := {base, quote} & _METALS:
        raise UsageError(f"{base}/{quote}: {min(metals)} is a metal, and metals are not kept")
    return Pair(_ALIASES.get(base, base), _ALIASES.get(quote, quote))


def parted(word: str, quotes: Iterable[str]) -> Pair | None:
    """Return the pair that a word is, by the quotes that it may have; None unless it is just one.

    >>> str(parted("ETHBTC", {"BTC", "USDT"})), parted("BNBUSD", {"USD", "BUSD"})
    ('ETH/BTC', None)
    """
    found = _readings(word, quotes)
    return found[0] if len(found) == 1 else None


def _readings(word: str, quotes: Iterable[str]) -> list[Pair]:
    return [
        pair_of(base, quote)
        for quote in sorted({*quotes, *(code for code, coin in _ALIASES.items() if coin in quotes)})
        if (base := word.removesuffix(quote)) and base != word
    ]


def _in_market(text: str, market: str, name: str) -> Pair:
    """Read a ticker behind the mark of its market, or of a venue."""
    if market == "C":
        return _money(text, parted(name, MONEY))
    if market == "X" and name.isalnum():
        pair = parted(name, QUOTES)
        if pair is not None and pair.asset_type == "fx":
            raise UsageError(f"{text!r} is money, not crypto: write {pair}")
        return pair or Pair(name, "")
    pair = (_separated(name) or _in_one_word(name)) if market in _VENUES else None
    if pair is None:
        raise UsageError(
            f"{text!r}: only stocks (AAPL), crypto (X:BTCUSD) and currencies (EUR/USD) are kept"
        )
    return pair


def _money(text: str, pair: Pair | None) -> Pair:
    if pair is None or pair.asset_type != "fx":
        raise UsageError(f"{text!r} is no pair of currencies such as EUR/USD")
    return pair


def _separated(text: str) -> Pair | None:
    """Read ``BTC/USD``, and ``BTC-USD`` where the quote is known: a dash stands in stocks, too.

    Raises
    ------
    UsageError
        If it is a preferred share, written with a slash.
    """
    if (match := _PARTED.fullmatch(text)) is None:
        return None
    base, quote = (part.upper() for part in match.groups() if part is not None)
    if "/" in text and _PREFERRED.fullmatch(quote):
        raise UsageError(
            f"{text!r} is no pair: {quote} marks preferred shares, which each provider spells in a "
            "way of its own; write it as yours does"
        )
    pair = pair_of(base, quote)
    return pair if "/" in text or pair.quote in QUOTES | _DOLLAR_COINS else None


def _in_one_word(text: str) -> Pair | None:
    """Read ``BTCUSDT`` and ``XXBTZUSD``; no US stock has six capitals or small letters.

    Raises
    ------
    UsageError
        If it may be a pair in dollars or in a coin that stands for them, and no code that both may
        begin with is known.
    """
    if not _WORD.fullmatch(text):
        return None
    word = text.upper()
    if {word[:4], word[4:]} <= _PREFIXED.keys():
        return Pair(_PREFIXED[word[:4]], _PREFIXED[word[4:]])
    found = _readings(word, QUOTES | _DOLLAR_COINS)
    known = [one for one in found if one.base in _KNOWN]
    if len(found) > 1:
        if len(known) != 1:
            raise UsageError(f"{text!r} may be {' or '.join(map(str, found))}: write one of these")
        found = known
    return found[0] if found else None


def _codes(code: str) -> list[str]:
    return [code, *(other for other, coin in _ALIASES.items() if coin == code)]


def _prefixed(code: str) -> list[str]:
    return [one for one, meant in _PREFIXED.items() if meant == code]
