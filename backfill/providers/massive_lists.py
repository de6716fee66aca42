"""The bodies of Massive's reference and listings, from JSON to values."""

from datetime import date
from typing import Final, TypeVar

import msgspec

from backfill.core.wire import DatedName, Dividend, Names, Owner, Reference, Split
from backfill.errors import UnreadableAnswer
from backfill.providers.bodies import decoded
from backfill.providers.massive_errors import refuse_status


class _Ticker(msgspec.Struct):
    ticker: str
    list_date: date | None = None
    delisted_utc: str | None = None
    composite_figi: str | None = None


class _TickerDetails(msgspec.Struct):
    results: _Ticker


class _Listed(msgspec.Struct):
    ticker: str
    active: bool
    composite_figi: str | None = None


class _Tickers(msgspec.Struct):
    status: str
    results: list[_Listed] | None
    next_url: str | None = None
    count: int = 0


class _Named(msgspec.Struct):
    ticker: str


class _Event(msgspec.Struct):
    type: str
    date: date
    ticker_change: _Named | None = None


class _Company(msgspec.Struct):
    events: list[_Event]
    composite_figi: str | None = None


class _Events(msgspec.Struct):
    results: _Company


class _Split(msgspec.Struct):
    """A stock dividend is one, too: it comes with its ratio, and an ``adjustment_type``."""

    ticker: str
    execution_date: date
    split_from: float
    split_to: float


class _Splits(msgspec.Struct):
    status: str
    results: list[_Split] | None = None
    next_url: str | None = None
    count: int = 0


class _Dividend(msgspec.Struct):
    """``dividend_type`` is the older lists' word for what is ``distribution_type`` now."""

    ticker: str
    ex_dividend_date: date
    cash_amount: float
    distribution_type: str = ""
    dividend_type: str = "unknown"
    currency: str = "USD"
    pay_date: date | None = None


class _Dividends(msgspec.Struct):
    status: str
    results: list[_Dividend] | None = None
    next_url: str | None = None
    count: int = 0


_TYPES: Final = {"CD": "recurring", "SC": "special"}
"""What the older list's types are called now; capital gains (LT, ST) keep their names."""


_T = TypeVar("_T")

_TICKER_DETAILS: Final = msgspec.json.Decoder(_TickerDetails)
_TICKERS: Final = msgspec.json.Decoder(_Tickers)
_EVENTS: Final = msgspec.json.Decoder(_Events)
_SPLITS: Final = msgspec.json.Decoder(_Splits)
_DIVIDENDS: Final = msgspec.json.Decoder(_Dividends)


def reference_in(body: bytes) -> Reference:
    """Return a ticker's details."""
    ticker = decoded(_TICKER_DETAILS, body).results
    delisted = ticker.delisted_utc
    return Reference(
        ticker=ticker.ticker,
        listed_on=ticker.list_date,
        delisted_on=_day(delisted) if delisted else None,
        figi=_printable(ticker.composite_figi),
    )


def names_in(body: bytes) -> Names:
    """Return the names of a company; an event that is no change of name tells of none."""
    company = decoded(_EVENTS, body).results
    return Names(
        _printable(company.composite_figi),
        tuple(
            DatedName(event.ticker_change.ticker, event.date)
            for event in company.events
            if event.ticker_change is not None and event.ticker_change.ticker.isprintable()
        ),
    )


def owners_in(body: bytes) -> tuple[list[Owner], str | None]:
    """Return a page of the list of tickers, and the address of the next page."""
    answer = decoded(_TICKERS, body)
    rows = _rows(answer.status, answer.count, answer.results)
    owners = [
        Owner(row.ticker, _printable(row.composite_figi))
        for row in rows
        if row.ticker.isprintable()
    ]
    return owners, answer.next_url


def splits_in(body: bytes) -> tuple[list[Split], str | None]:
    """Return a page of splits, as listed, and the address of the next page.

    A ticker that can't be printed is nobody's: no symbol has it, and Postgres holds no NUL.
    """
    answer = decoded(_SPLITS, body)
    splits = [
        Split(row.ticker, row.execution_date, row.split_from, row.split_to)
        for row in _rows(answer.status, answer.count, answer.results)
        if row.ticker.isprintable()
    ]
    return splits, answer.next_url


def dividends_in(body: bytes) -> tuple[list[Dividend], str | None]:
    """Return a page of dividends, as listed, and the address of the next page."""
    answer = decoded(_DIVIDENDS, body)
    dividends = [
        Dividend(
            row.ticker,
            row.ex_dividend_date,
            row.cash_amount,
            row.distribution_type or _TYPES.get(row.dividend_type, row.dividend_type),
            row.currency,
            row.pay_date,
        )
        for row in _rows(answer.status, answer.count, answer.results)
        if f"{row.ticker}{row.distribution_type}{row.dividend_type}{row.currency}".isprintable()
    ]
    return dividends, answer.next_url


def _printable(text: str | None) -> str | None:
    return text if text is not None and text.isprintable() else None


def _rows(status: str, count: int, rows: list[_T] | None) -> list[_T]:
    """Return the rows of a list; null is none of them, where none is counted."""
    refuse_status(status)
    if count and not rows:
        raise UnreadableAnswer(f"the answer counts {count} rows and holds none")
    return rows or []


def _day(stamp: str) -> date:
    try:
        return date.fromisoformat(stamp[:10])
    except ValueError:
        raise UnreadableAnswer(f"{stamp!r} is not a date") from None
