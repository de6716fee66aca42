"""Reference data: tickers, splits and dividends, filtered, sorted and paged."""

from collections.abc import Callable, Iterable
from datetime import date
from operator import eq, ge, gt, itemgetter, le, lt
from typing import Any, Final

from backfill.simulator.market.listings import Dividend, Listing, Split
from backfill.simulator.market.sessions import sessions_of
from backfill.simulator.wire.base import Answer
from backfill.simulator.wire.massive.protocol import Ask, day_in

Row = dict[str, Any]

_MOST: Final = 1000
_MOST_OF_STOCKS: Final = 5000
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "": eq,
    ".gte": ge,
    ".gt": gt,
    ".lte": le,
    ".lt": lt,
}
_DATES: Final = {
    "execution_date",
    "ex_dividend_date",
    "record_date",
    "declaration_date",
    "pay_date",
}


def splits(ask: Ask) -> Answer:
    """Answer ``/stocks/v1/splits``: a split is listed from its announcement on."""
    rows = [
        _split(split)
        | {
            "adjustment_type": (
                "forward_split" if split.split_to > split.split_from else "reverse_split"
            ),
            "historical_adjustment_factor": split.split_from / split.split_to,
            "id": f"E{split.ticker}{split.execution_date}",
        }
        for split in _announced(ask)
    ]
    return _page_of_stocks(ask, rows, ("execution_date", "ticker"), "execution_date.desc")


def old_splits(ask: Ask) -> Answer:
    """Answer the deprecated ``/v3/reference/splits``."""
    rows = [_split(split) for split in _announced(ask)]
    return _listed(ask, rows, ("ticker", "execution_date"), "execution_date", "desc", 10)


def dividends(ask: Ask) -> Answer:
    """Answer ``/stocks/v1/dividends``: a dividend is listed from its declaration on."""
    rows = [
        _dividend(dividend)
        | {
            "currency": "USD",
            "distribution_type": "recurring",
            "id": f"E{dividend.ticker}{dividend.ex_dividend_date}",
        }
        for dividend in _declared(ask)
    ]
    return _page_of_stocks(ask, rows, ("ticker", "ex_dividend_date"), "ticker.asc")


def old_dividends(ask: Ask) -> Answer:
    """Answer the deprecated ``/v3/reference/dividends``."""
    rows = [_dividend(dividend) | {"dividend_type": "CD"} for dividend in _declared(ask)]
    fields = ("ticker", "ex_dividend_date", "record_date", "declaration_date", "pay_date")
    return _listed(ask, rows, fields, "ex_dividend_date", "desc", 10)


def tickers(ask: Ask) -> Answer:
    """Answer ``/v3/reference/tickers``: without listing dates, active ones unless told."""
    active = ask.parameters().get("active", "true").lower()
    owners = {ticker: ask.market.owner(ticker, _today(ask)) for ticker in ask.market.tickers}
    rows = [
        _ticker(ask, ticker, owner)
        for ticker, owner in owners.items()
        if owner is not None and str(_is_active(ask, owner)).lower() == active
    ]
    return _listed(ask, rows, ("ticker", "market", "type"), "ticker", "asc", 100)


def ticker_details(ask: Ask, ticker: str) -> Answer:
    """Answer ``/v3/reference/tickers/{ticker}``, of a day if one is named."""
    day = ask.parameters().get("date")
    owner = ask.market.owner(ticker, day_in(ask, day) if day else _today(ask))
    if owner is None:
        ask.refuse(404, message="Ticker not found.")
    row = _ticker(ask, ticker, owner)
    del row["last_updated_utc"]
    row["list_date"] = (owner.told_list_date or owner.list_date).isoformat()
    return Answer(200, {"results": row, "status": "OK", "request_id": ask.request_id})


def ticker_events(ask: Ask, name: str) -> Answer:
    """Answer ``/vX/reference/tickers/{id}/events``: the names of a company, latest first.

    The id is a ticker, and means who has it now, or a FIGI.
    """
    owner = ask.market.company(name) or ask.market.owner(name, _today(ask))
    if owner is None or owner.market != "stocks":
        ask.refuse(404, message="Ticker not found.")
    events = [
        {"ticker_change": {"ticker": name}, "type": "ticker_change", "date": since.isoformat()}
        for name, since in ask.market.names(owner.ticker, _today(ask))
    ]
    company = {"name": owner.name, "composite_figi": owner.figi, "events": events}
    return Answer(200, {"results": company, "status": "OK", "request_id": ask.request_id})


def _listed(
    ask: Ask, rows: list[Row], fields: Iterable[str], sort: str, order: str, limit: int
) -> Answer:
    """Answer with one page of a list of the reference."""
    parameters = ask.parameters()
    size = ask.page_size(parameters, limit, _MOST)
    sort, order = parameters.get("sort", sort), parameters.get("order", order)
    body = _page(ask, rows, fields, sort, order, size)
    return Answer(200, body | {"count": len(body["results"])})


def _page_of_stocks(ask: Ask, rows: list[Row], fields: Iterable[str], sort: str) -> Answer:
    """Answer with one page of a list below ``/stocks/v1``, sorted by one column."""
    parameters = ask.parameters()
    size = ask.page_size(parameters, 100, _MOST_OF_STOCKS)
    column, _, order = parameters.get("sort", sort).partition(".")
    return Answer(200, _page(ask, rows, fields, column, order, size))


def _page(
    ask: Ask, rows: list[Row], fields: Iterable[str], sort: str, order: str, size: int
) -> Row:
    """Return one page of the rows that the query's filters leave, with the next one's address."""
    parameters = ask.parameters()
    if order not in {"asc", "desc"} or sort not in fields:
        ask.refuse(400, error=f"rows can't be sorted by {sort} {order}")
    for name in fields:
        for suffix, holds in _COMPARE.items():
            asked = parameters.get(name + suffix)
            if asked is None:
                continue
            if name in _DATES:
                day_in(ask, asked)
            rows = [row for row in rows if holds(row[name], asked)]
    rows = sorted(rows, key=itemgetter("ticker"))
    rows.sort(key=itemgetter(sort), reverse=order == "desc")
    start = int(parameters.get("start", "0"))
    page = rows[start : start + size]
    body: Row = {"results": page, "status": "OK", "request_id": ask.request_id}
    if start + size < len(rows):
        body["next_url"] = ask.next_url(ask.path, parameters | {"start": start + size})
    return body


def _announced(ask: Ask) -> list[Split]:
    return [split for split in ask.market.splits() if split.announced <= _today(ask)]


def _declared(ask: Ask) -> list[Dividend]:
    dividends = ask.market.dividends()
    return [dividend for dividend in dividends if dividend.declaration_date <= _today(ask)]


def _split(split: Split) -> Row:
    return {
        "execution_date": split.execution_date.isoformat(),
        "split_from": split.split_from,
        "split_to": split.split_to,
        "ticker": split.ticker,
    }


def _dividend(dividend: Dividend) -> Row:
    return {
        "cash_amount": dividend.cash_amount,
        "declaration_date": dividend.declaration_date.isoformat(),
        "ex_dividend_date": dividend.ex_dividend_date.isoformat(),
        "frequency": dividend.frequency,
        "pay_date": dividend.pay_date.isoformat(),
        "record_date": dividend.record_date.isoformat(),
        "ticker": dividend.ticker,
    }


def _ticker(ask: Ask, ticker: str, listing: Listing) -> Row:
    row: Row = {
        "ticker": ticker,
        "name": listing.name,
        "market": listing.market,
        "locale": "us" if listing.market == "stocks" else "global",
        "active": _is_active(ask, listing),
        "last_updated_utc": f"{_today(ask)}T00:00:00Z",
    }
    if listing.is_pair:
        base, quote = listing.name.split(" - ")
        symbol = "USDT" if listing.ticker.endswith("USDT") else listing.ticker[-3:]
        return row | {
            "currency_symbol": symbol,
            "currency_name": quote,
            "base_currency_symbol": listing.ticker[2:].removesuffix(symbol),
            "base_currency_name": base,
        }
    row |= {
        "primary_exchange": listing.exchange,
        "type": listing.type,
        "currency_name": "usd",
        "composite_figi": listing.figi,
    }
    if listing.delisted_on and not _is_active(ask, listing):
        row["delisted_utc"] = f"{listing.delisted_on}T00:00:00Z"
    return row


def _is_active(ask: Ask, listing: Listing) -> bool:
    return listing.delisted_on is None or _today(ask) <= listing.delisted_on


def _today(ask: Ask) -> date:
    return sessions_of("stocks").zone.day_of(ask.now_ms)
