"""Every recorded and published body of the provider, through every reader."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.calendar import Calendar, Session
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span
from backfill.core.series import Alias, Symbol, aliases_of
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import (
    DatedName,
    Dividend,
    GroupedDay,
    Kind,
    Names,
    Owner,
    Page,
    Reference,
    Request,
    Response,
    Split,
)
from backfill.errors import UnreadableAnswer
from backfill.providers.massive import Massive
from tests.calendars import calendar

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "massive"
MASSIVE: Final = Massive()
AAPL: Final = Symbol(1, "AAPL", "stock", "XNYS")
BITCOIN: Final = Symbol(2, "BTC/USD", "crypto", "24/7")

# 2005-04-01 was a Friday in winter time, 2005-04-04 the Monday after, in daylight time.
APRIL_2005: Final = Calendar.of(
    "XNYS",
    "America/New_York",
    [
        Session(date(2005, 4, 1), 1_112_365_800_000, 1_112_389_200_000),
        Session(date(2005, 4, 4), 1_112_621_400_000, 1_112_644_800_000),
    ],
)


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def published() -> Iterator[tuple[str, bytes]]:
    """The path and the body of every example in the provider's own description."""
    described = [
        json.loads(recorded(name))["paths"]
        for name in ("openapi-subset.json", "openapi-2026-04-subset.json")
    ]
    for path, methods in (described[0] | described[1]).items():
        for media, content in methods["get"]["responses"]["200"]["content"].items():
            example = content.get("example", content.get("schema", {}).get("example"))
            if example is not None:
                body = example if isinstance(example, str) else json.dumps(example)
                yield f"{path} {media}", body.encode()


def split_bars(body: bytes, symbol: Symbol = AAPL) -> Page:
    return MASSIVE.read_bars(
        Response(200, {}, body),
        Asked(symbol, calendar(symbol.calendar), Timeframe.d1, Span(0, 1), "split"),
    )


def splits(body: bytes) -> tuple[list[Split], Request | None]:
    return MASSIVE.read_splits(Response(200, {}, body))


def dividends(body: bytes) -> tuple[list[Dividend], Request | None]:
    return MASSIVE.read_dividends(Response(200, {}, body))


def reference(body: bytes) -> Reference:
    return MASSIVE.read_reference(Response(200, {}, body), AAPL)


def names(body: bytes) -> Names:
    return MASSIVE.read_names(Response(200, {}, body))


def grouped(body: bytes) -> GroupedDay:
    return MASSIVE.read_grouped(Response(200, {}, body), "split")


def owners(body: bytes) -> tuple[list[Owner], Request | None]:
    return MASSIVE.read_owners(Response(200, {}, body))


READERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "bars": split_bars,
    "splits": splits,
    "dividends": dividends,
    "reference": reference,
    "names": names,
    "owners": owners,
    "grouped": grouped,
}
READ_BY: Final = {
    "aggs-AAPL-day-2005-04-01-2005-04-04.json": "bars",
    "splits.json": "splits",
    "ticker-AAPL.json": "reference",
    "dividends.json": "dividends",
    "events-META.json": "names",
    "grouped-stocks.json": "grouped",
    "tickers-page1.json": "owners",
    "openapi-subset.json": None,
    "openapi-2026-04-subset.json": None,
}


def test_every_recorded_file_is_in_the_table() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(READ_BY)


@pytest.mark.parametrize(
    ("name", "reader"),
    [(name, reader) for name, own in READ_BY.items() for reader in READERS if reader != own],
)
def test_no_body_is_mistaken_for_an_answer_to_another_question(name: str, reader: str) -> None:
    with pytest.raises(UnreadableAnswer):
        READERS[reader](recorded(name))


def test_daily_bars_are_read_as_they_were_sent() -> None:
    page = split_bars(recorded("aggs-AAPL-day-2005-04-01-2005-04-04.json"))
    assert page.next is None
    assert page.delayed_ms == 0
    assert page.base_count == 2
    assert page.bars.equals(
        Bars.of(
            [
                (
                    1_112_331_600_000,
                    1.5032,
                    1.5064,
                    1.4489,
                    1.4604,
                    642_646_396.0,
                    1.469,
                    82_132,
                ),
                (
                    1_112_587_200_000,
                    1.4639,
                    1.4754,
                    1.4343,
                    1.4675,
                    578_172_308.0,
                    1.4589,
                    65_543,
                ),
            ]
        )
    )


def test_the_days_on_either_side_of_a_change_to_daylight_time_become_their_sessions() -> None:
    page = split_bars(recorded("aggs-AAPL-day-2005-04-01-2005-04-04.json"))
    asked = Span(APRIL_2005.midnight(date(2005, 4, 1)), APRIL_2005.midnight(date(2005, 4, 5)))
    checked = check_page(APRIL_2005, Timeframe.d1, page.bars, asked, asked.end_ms)
    assert checked.reasons == ()
    days = [APRIL_2005.day_of(int(ts)) for ts in checked.bars.ts_ms]
    assert days == [date(2005, 4, 1), date(2005, 4, 4)]
    assert [int(ts) % DAY_MS // 3_600_000 for ts in checked.bars.ts_ms] == [5, 4]


def test_splits_are_read_as_they_are_listed_also_one_listed_twice() -> None:
    listed, following = splits(recorded("splits.json"))
    assert following is None
    assert len(listed) == 10
    assert listed[0] == Split("GOOGL", date(2022, 7, 18), 1.0, 20.0)
    assert listed[-1] == Split("CIG.C", date(2022, 5, 2), 3.0, 4.0)
    assert [split.execution_date for split in listed if split.ticker == "SHOP"] == [
        date(2022, 6, 29),
        date(2022, 6, 22),
    ]


def test_the_reference_of_a_ticker_tells_since_when_it_is_listed() -> None:
    assert reference(recorded("ticker-AAPL.json")) == Reference(
        ticker="AAPL",
        listed_on=date(1980, 12, 12),
        delisted_on=None,
        figi="BBG000B9XRY4",
    )


def test_meta_was_fb_until_a_saturday() -> None:
    found = names(recorded("events-META.json"))
    assert found == Names(
        figi="BBG000MM2P62",
        dated=(DatedName("META", date(2022, 6, 11)), DatedName("FB", date(2012, 5, 18))),
    )
    assert aliases_of("META", found.dated) == (Alias("FB", date(2012, 5, 18), date(2022, 6, 11)),)
    assert aliases_of("FB", found.dated) == ()


def test_a_page_of_the_list_tells_whose_each_ticker_is_and_asks_for_the_next_as_a_look_up() -> None:
    found, following = owners(recorded("tickers-page1.json"))
    assert found == [Owner("A", "BBG000C2V3D6"), Owner("AA", "BBG00B3T3HD3")]
    assert following is not None
    assert following.target.startswith("https://api.massive.com/v3/reference/tickers?cursor=")
    assert following.kind is Kind.lookup


def test_a_grouped_day_is_read_as_it_was_sent_its_stamps_too() -> None:
    day = grouped(recorded("grouped-stocks.json"))
    assert day.tickers == ["GIK"]
    bar = (1_602_705_600_000, 9.99, 10.02, 9.9, 10.02, 895_345.0, 9.9979, 96)
    assert day.bars.equals(Bars.of([bar]))
    assert day.delayed_ms == 0


AGGREGATES: Final = "/v2/aggs/ticker/{%s}/range/{multiplier}/{timespan}/{from}/{to}"
PUBLISHED: Final = dict(published())
OWN_READER: Final = {
    f"{AGGREGATES % 'stocksTicker'} application/json": "bars",
    f"{AGGREGATES % 'cryptoTicker'} application/json": "crypto bars",
    "/v2/aggs/grouped/locale/us/market/stocks/{date} application/json": "grouped",
    "/v2/aggs/grouped/locale/global/market/crypto/{date} application/json": "crypto grouped",
    "/v3/reference/splits application/json": "splits",
    "/stocks/v1/splits application/json": "splits",
    "/v3/reference/dividends application/json": "dividends",
    "/stocks/v1/dividends application/json": "dividends",
    "/v3/reference/tickers/{ticker} application/json": "reference",
}


def test_the_published_description_has_the_examples_that_the_tests_read() -> None:
    assert set(OWN_READER) < set(PUBLISHED)
    assert len(PUBLISHED) > 10


@pytest.mark.parametrize(
    ("example", "reader"),
    [
        (example, reader)
        for example in PUBLISHED
        for reader in READERS
        if OWN_READER.get(example, "").rpartition(" ")[2] != reader
    ],
)
def test_no_published_example_is_mistaken_for_an_answer_to_another_question(
    example: str, reader: str
) -> None:
    with pytest.raises(UnreadableAnswer):
        READERS[reader](PUBLISHED[example])


def test_the_published_page_of_stock_bars_asks_for_the_next_one() -> None:
    page = split_bars(PUBLISHED[f"{AGGREGATES % 'stocksTicker'} application/json"])
    assert page.next == Request(
        "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/day/1578114000000/2020-01-10"
        "?cursor=bGltaXQ9MiZzb3J0PWFzYw",
        kind=Kind.bars,
    )
    assert page.bars.close.tolist() == [75.0875, 74.3575]
    assert page.bars.volume.tolist() == [135_647_456.0, 146_535_512.0]


def test_the_published_crypto_day_is_of_another_window_and_never_snapped_onto_ours() -> None:
    page = split_bars(PUBLISHED[f"{AGGREGATES % 'cryptoTicker'} application/json"], BITCOIN)
    assert page.bars.volume.tolist() == [303_067.6562332156, 323_339.6922892879]
    first_ms = int(page.bars.ts_ms[0]) // DAY_MS * DAY_MS
    every_day = Calendar.of(
        "24/7",
        "UTC",
        [
            Session(date(2020, 6, 1 + day), first_ms + day * DAY_MS, first_ms + (day + 1) * DAY_MS)
            for day in range(3)
        ],
    )
    asked = Span(first_ms, first_ms + 3 * DAY_MS)
    checked = check_page(every_day, Timeframe.d1, page.bars, asked, asked.end_ms)
    assert len(checked.bars) == 0
    assert checked.reasons == (Reason.off_grid, Reason.off_grid)


def test_the_published_page_of_splits_asks_for_the_next_one_as_a_look_up() -> None:
    listed, following = splits(PUBLISHED["/v3/reference/splits application/json"])
    assert listed == [
        Split("AAPL", date(2020, 8, 31), 1.0, 4.0),
        Split("AAPL", date(2005, 2, 28), 1.0, 2.0),
    ]
    assert following is not None
    assert following.target.startswith("https://api.massive.com/v3/splits/AAPL?cursor=")
    assert following.kind is Kind.lookup


def test_the_newer_lists_are_read_as_they_are_published() -> None:
    assert splits(PUBLISHED["/stocks/v1/splits application/json"]) == (
        [Split("AAPL", date(2005, 2, 28), 1.0, 2.0)],
        None,
    )
    paid = Dividend("AAPL", date(2025, 8, 11), 0.26, "recurring", "USD", date(2025, 8, 14))
    assert dividends(PUBLISHED["/stocks/v1/dividends application/json"]) == ([paid], None)


def test_both_lists_of_dividends_tell_in_one_word_how_they_recur() -> None:
    listed, _ = dividends(recorded("dividends.json"))
    assert {one.dividend_type for one in listed} == {"recurring"}


def test_the_published_reference_tells_the_listing_date() -> None:
    found = reference(PUBLISHED["/v3/reference/tickers/{ticker} application/json"])
    assert (found.ticker, found.listed_on) == ("AAPL", date(1980, 12, 12))
