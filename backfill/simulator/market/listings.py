"""The universe: who is listed, since when, how actively traded, and every split and dividend."""

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Listing:
    """One ticker of the market.

    ``price`` is the first price of its history on the share basis of today, ``volume`` that of an
    average day. ``traded`` is the share of regular minutes in which it trades. On the days of
    ``halted`` it does not trade at all; at the open of ``jump[0]`` its price is multiplied by
    ``jump[1]`` for good. ``told_list_date`` is what the reference tells where it is wrong.
    The minutes of one ``always_counted`` never lack their vwap and count.
    """

    ticker: str
    name: str
    list_date: date
    price: float
    volume: float
    market: Literal["stocks", "crypto", "fx"] = "stocks"
    type: str = "CS"
    exchange: str = "XNAS"
    traded: float = 1.0
    delisted_on: date | None = None
    halted: frozenset[date] = frozenset()
    jump: tuple[date, float] | None = None
    told_list_date: date | None = None
    always_counted: bool = False

    @property
    def is_pair(self) -> bool:
        """Whether it is a pair: its day is the sum of its minutes, and it has no extended hours."""
        return self.market != "stocks"

    @property
    def figi(self) -> str:
        """A composite FIGI: not the real one, but the same in every process."""
        return "BBG" + hashlib.sha256(self.ticker.encode()).hexdigest()[:9].upper()


@dataclass(frozen=True, slots=True)
class Tenure:
    """When a company trades under a ticker: from ``since`` to before ``until``.

    ``company`` is its ticker in the listings, which is the last that it takes on.
    """

    company: str
    since: date
    until: date = date.max


@dataclass(frozen=True, slots=True)
class Split:
    """A split as the reference lists it, from the day of its announcement on.

    One that never ``happened`` is listed all the same and changes no price. ``company`` is who
    splits its shares, where that is not who has the ticker now.
    """

    ticker: str
    execution_date: date
    split_from: int
    split_to: int
    announced: date
    happened: bool = True
    company: str = ""


@dataclass(frozen=True, slots=True)
class Dividend:
    """A cash dividend as the reference lists it, from its declaration on."""

    ticker: str
    cash_amount: float
    declaration_date: date
    ex_dividend_date: date
    record_date: date
    pay_date: date
    frequency: int = 4


_NAMED: Final = (
    Listing("AAPL", "Apple Inc.", date(1980, 12, 12), 80.0, 60_000_000),
    Listing("MSFT", "Microsoft Corp", date(1986, 3, 13), 120.0, 25_000_000),
    Listing("NVDA", "Nvidia Corp", date(1999, 1, 22), 60.0, 45_000_000),
    Listing("TSLA", "Tesla, Inc.", date(2010, 6, 29), 90.0, 50_000_000),
    Listing("AMZN", "Amazon.Com Inc", date(1997, 5, 15), 110.0, 40_000_000),
    Listing("GOOGL", "Alphabet Inc. Class A", date(2004, 8, 19), 100.0, 28_000_000),
    Listing("META", "Meta Platforms, Inc.", date(2012, 5, 18), 150.0, 16_000_000),
    Listing(
        "SPY", "SPDR S&P 500 ETF Trust", date(1993, 1, 29), 200.0, 70_000_000,
        type="ETF", exchange="ARCX",
    ),
    Listing("QQQ", "Invesco QQQ Trust", date(1999, 3, 10), 160.0, 40_000_000, type="ETF"),
    Listing("JPM", "JPMorgan Chase & Co.", date(1969, 3, 5), 90.0, 9_000_000, exchange="XNYS"),
    Listing(
        "BRK.B", "Berkshire Hathaway Class B", date(1996, 5, 9), 180.0, 4_000_000,
        exchange="XNYS",
    ),
    Listing("THIN", "Thinly Traded Corp", date(2001, 2, 5), 22.0, 60_000, traded=0.4),
    Listing("VTHIN", "Very Thinly Traded Corp", date(2002, 7, 1), 9.0, 4_000, traded=0.03),
    Listing("NEWCO", "Newly Listed Inc.", date(2024, 3, 14), 34.0, 5_000_000),
    Listing(
        "DEADCO", "Delisted Inc.", date(2000, 4, 3), 14.0, 2_000_000,
        delisted_on=date(2024, 8, 30),
    ),
    Listing("SPLT", "Twice Split Inc.", date(1998, 9, 21), 45.0, 12_000_000),
    Listing("RVRS", "Reverse Split Inc.", date(2001, 11, 12), 40.0, 1_000_000),
    Listing("TWICE", "Listed Twice Inc.", date(2000, 6, 20), 55.0, 6_000_000),
    Listing(
        "HALTED", "Halted Inc.", date(2003, 1, 6), 30.0, 3_000_000,
        halted=frozenset({date(2024, 5, 14), date(2024, 5, 15), date(2025, 9, 9)}),
    ),
    Listing(
        "JUMPY", "Forty Per Cent Down Inc.", date(1999, 10, 4), 70.0, 8_000_000,
        jump=(date(2025, 5, 15), 0.6),
    ),
    Listing("NEWNM", "Renamed Inc.", date(2015, 6, 1), 65.0, 7_000_000),
    Listing(
        "NEWNM~", "Named Before Inc.", date(2012, 2, 1), 25.0, 1_500_000,
        delisted_on=date(2023, 11, 17),
    ),
    Listing("REUSE", "Second Owner Inc.", date(2025, 1, 15), 12.0, 3_000_000),
    Listing(
        "REUSE~", "First Owner Inc.", date(2011, 3, 1), 95.0, 2_500_000,
        delisted_on=date(2024, 6, 28),
    ),
    Listing("STRR", "Renamed And Split Inc.", date(2012, 6, 1), 3.0, 900_000),
    Listing("LATESP", "Split Listed Late Inc.", date(2004, 5, 3), 48.0, 2_000_000),
    Listing("MPC", "Listed Next Day Corp", date(2011, 7, 1), 42.2, 6_000_000, exchange="XNYS"),
    Listing(
        "MPC~", "Gone The Day Before Corp", date(2011, 1, 3), 1.25, 400_000,
        delisted_on=date(2011, 6, 30),
    ),
    Listing(
        "SOXS", "Older Than Listed ETF", date(2010, 3, 11), 900.0, 9_000_000, type="ETF",
        exchange="ARCX", told_list_date=date(2022, 3, 28),
    ),
    Listing(
        "X:BTCUSD", "Bitcoin - United States Dollar", date(2017, 1, 1), 20_000.0, 9_000.0,
        market="crypto",
    ),
    Listing(
        "X:ETHUSD", "Ethereum - United States Dollar", date(2018, 1, 1), 1_500.0, 80_000.0,
        market="crypto", traded=0.97,
    ),
    Listing(
        "X:BTCUSDT", "Bitcoin - Tether", date(2017, 8, 17), 20_000.0, 30_000.0, market="crypto",
        always_counted=True,
    ),
    Listing(
        "X:ETHUSDT", "Ethereum - Tether", date(2017, 8, 17), 1_500.0, 200_000.0, market="crypto",
        always_counted=True,
    ),
    Listing(
        "X:SOLUSDT", "Solana - Tether", date(2024, 8, 11), 3.0, 900_000.0, market="crypto",
        traded=0.9, halted=frozenset({date(2024, 9, 14)}), always_counted=True,
    ),
    Listing(
        "C:EURUSD", "Euro - United States Dollar", date(2009, 9, 25), 1.4, 90_000.0, market="fx",
    ),
    Listing(
        "C:USDJPY", "United States Dollar - Japanese Yen", date(2009, 9, 25), 110.0, 120_000.0,
        market="fx", traded=0.98,
    ),
)  # fmt: skip

LISTINGS: Final = {
    listing.ticker: listing
    for listing in (
        *_NAMED,
        *(
            Listing(
                f"SIM{number:03}",
                f"Simulated {number} Inc.",
                date(2003, 9, 10),
                price=20.0 + number % 180,
                volume=1_000_000.0 + 7_000 * number,
            )
            for number in range(1000)
        ),
    )
}

TENURES: Final = {
    # The company of NEWNM was OLDNM until a Saturday; NEWNM was another's until half a year before.
    "OLDNM": (Tenure("NEWNM", date(2015, 6, 1), date(2024, 5, 18)),),
    "NEWNM": (
        Tenure("NEWNM~", date(2012, 2, 1), date(2023, 11, 18)),
        Tenure("NEWNM", date(2024, 5, 18)),
    ),
    "REUSE": (
        Tenure("REUSE~", date(2011, 3, 1), date(2024, 6, 29)),
        Tenure("REUSE", date(2025, 1, 15)),
    ),
    # The company of STRR was DRAD until 2021.
    "DRAD": (Tenure("STRR", date(2012, 6, 1), date(2021, 1, 4)),),
    "STRR": (Tenure("STRR", date(2021, 1, 4)),),
    # Another company was listed under MPC on the day after the last of the one before.
    "MPC": (
        Tenure("MPC~", date(2011, 1, 3), date(2011, 7, 1)),
        Tenure("MPC", date(2011, 7, 1)),
    ),
} | {
    listing.ticker: (Tenure(listing.ticker, listing.list_date),)
    for listing in LISTINGS.values()
    if listing.ticker.rstrip("~") not in {"NEWNM", "REUSE", "STRR", "MPC"}
}
"""Who trades under each ticker, oldest first."""

SPLITS: Final = (
    Split("SPLT", date(2024, 6, 10), 1, 10, announced=date(2024, 5, 22)),
    Split("SPLT", date(2025, 3, 17), 2, 3, announced=date(2025, 3, 3)),
    Split("RVRS", date(2024, 9, 23), 8, 1, announced=date(2024, 9, 30)),  # a week late
    Split("NEWNM", date(2023, 6, 12), 1, 3, announced=date(2023, 5, 22), company="NEWNM~"),
    Split("OLDNM", date(2024, 2, 12), 1, 2, announced=date(2024, 1, 22), company="NEWNM"),
    Split("REUSE", date(2024, 3, 11), 1, 4, announced=date(2024, 2, 20), company="REUSE~"),
    Split("REUSE", date(2025, 3, 10), 1, 5, announced=date(2025, 2, 18)),
    # Under a name that the company took on later.
    Split("STRR", date(2019, 6, 5), 10, 1, announced=date(2019, 5, 22)),
    Split("LATESP", date(2024, 7, 1), 1, 4, announced=date(2024, 9, 17)),  # 78 days late
    Split("SOXS", date(2022, 3, 28), 10, 1, announced=date(2022, 3, 10)),
    Split("TWICE", date(2024, 10, 9), 1, 10, announced=date(2024, 9, 20), happened=False),
    Split("TWICE", date(2024, 10, 16), 1, 10, announced=date(2024, 9, 20)),
)

DIVIDENDS: Final = tuple(
    Dividend(
        ticker,
        amount,
        date(year, month, 1),
        date(year, month, 9),
        date(year, month, 10),
        date(year, month, 16),
    )
    for ticker, amount in (("AAPL", 0.25), ("JPM", 1.15), ("MSFT", 0.75))
    for year in range(2023, 2026)
    for month in (2, 5, 8, 11)
)
