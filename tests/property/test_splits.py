"""Adjusted prices against a walk over the splits, through the real view; and which splits stand."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.splits import Claim, Listed, Status, Verdict, fits, judge, owner_of
from backfill.core.wire import Response, Split
from backfill.providers.massive import Massive
from tests.conftest import _fresh

FIRST = date(2024, 3, 1)
NEW_YORK = ZoneInfo("America/New_York")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "massive"

counts = st.integers(1, 50)
splits = st.dictionaries(
    st.integers(-5, 35),
    st.tuples(counts, counts, st.sampled_from(["applied", "applied", "contradicted", "announced"])),
    max_size=6,
)
prices = st.lists(st.floats(0.5, 5000), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def adjusted_url(server: str, template: str) -> Iterator[str]:
    """The URL of a database with the schema, that the examples share and leave empty."""
    yield from _fresh(server, template)


async def through_the_view(
    url: str,
    listed: dict[int, tuple[int, int, str]],
    closes: list[float],
    dividends: dict[int, float],
) -> list[asyncpg.Record]:
    """Store daily bars of one symbol and its actions, and read them from the view."""
    connection = await asyncpg.connect(url)
    trial = connection.transaction()
    await trial.start()
    try:
        await connection.execute(
            "INSERT INTO symbols (id, ticker, asset_type) "
            "VALUES (1, 'A', 'stock'), (2, 'B', 'stock')"
        )
        await connection.execute(
            "INSERT INTO backfill_progress "
            "(symbol_id, timeframe, provider, feed, adjustment, newest_bar) "
            "VALUES (1, 'd1', 'massive', 'sip', 'raw', $1)",
            datetime.combine(FIRST + timedelta(len(closes) - 1), datetime.min.time(), NEW_YORK),
        )
        await connection.executemany(
            "INSERT INTO splits (ticker, execution_date, split_from, split_to, status) "
            "VALUES ($1, $2, $3, $4, $5)",
            [
                *(
                    ("A", FIRST + timedelta(at), old, new, status)
                    for at, (old, new, status) in listed.items()
                ),
                ("B", FIRST + timedelta(99), 1, 7, "applied"),
            ],
        )
        await connection.execute(
            "INSERT INTO action_syncs (provider, kind, session, synced_at) "
            "VALUES ('massive', 'dividends', $1, now())",
            FIRST,
        )
        await connection.executemany(
            "INSERT INTO dividends VALUES ('A', $1, 'CD', $2, 'USD', NULL, now())",
            [(FIRST + timedelta(at), cash) for at, cash in dividends.items()],
        )
        await connection.executemany(
            "INSERT INTO ohlc_bars VALUES (1, 'd1', $1, $2, $2, $2, $2, $3)",
            [
                (
                    datetime.combine(FIRST + timedelta(at), datetime.min.time(), NEW_YORK),
                    close,
                    close * 8,
                )
                for at, close in enumerate(closes)
            ],
        )
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT * FROM ohlc_bars_adjusted WHERE symbol_id = 1 ORDER BY ts"
        )
        return rows
    finally:
        await trial.rollback()
        await connection.close()


@given(splits, prices)
def test_each_bar_is_divided_by_every_applied_split_after_it(
    adjusted_url: str, listed: dict[int, tuple[int, int, str]], closes: list[float]
) -> None:
    rows = asyncio.run(through_the_view(adjusted_url, listed, closes, {}))

    assert len(rows) == len(closes)
    for day, (row, close) in enumerate(zip(rows, closes, strict=True)):
        shares = Fraction(1)
        for at, (old, new, status) in listed.items():
            if day < at and status == "applied":
                shares *= Fraction(new, old)
        for name in ("open", "high", "low", "close", "total_return_close"):
            assert row[name] == pytest.approx(float(Fraction(close) / shares), rel=1e-15)
        assert row["volume"] == pytest.approx(float(Fraction(close * 8) * shares), rel=1e-15)


@settings(max_examples=25)
@given(prices, st.dictionaries(st.integers(1, 29), st.floats(0.01, 0.4), max_size=4))
def test_total_return_is_what_shares_bought_with_every_dividend_are_worth(
    adjusted_url: str, closes: list[float], dividends: dict[int, float]
) -> None:
    rows = asyncio.run(through_the_view(adjusted_url, {}, closes, dividends))

    held, worth = 1.0, []
    for day, close in enumerate(closes):
        if day in dividends:  # bought at the close before, less what is paid out of it
            held *= closes[day - 1] / (closes[day - 1] - dividends[day])
        worth.append(held * close)
    for row, value in zip(rows, worth, strict=True):
        assert row["total_return_close"] == pytest.approx(value / held, rel=1e-9)
        assert row["close"] == pytest.approx(closes[rows.index(row)], rel=0)


def shop() -> list[Split]:
    """The two listings of one split of SHOP in the recorded answer, oldest first."""
    body = (FIXTURES / "splits.json").read_bytes()
    listed, _ = Massive().read_splits(Response(200, {}, body))
    return sorted(
        (split for split in listed if split.ticker == "SHOP"),
        key=lambda split: split.execution_date,
    )


def test_shop_listed_twice_counts_on_the_day_on_which_its_price_fell() -> None:
    wrong, right = shop()
    listed = [Listed(wrong, 321.0, 330.0), Listed(right, 346.0, 33.1)]
    verdicts = judge(listed, date(2022, 7, 18))
    assert [verdict.status for verdict in verdicts] == [Status.contradicted, Status.applied]


def test_shop_counts_once_also_where_no_price_tells_which_day_it_was() -> None:
    listed = [Listed(split) for split in shop()]
    verdicts = judge(listed, date(2022, 7, 18))
    assert [verdict.status for verdict in verdicts] == [Status.duplicate, Status.applied]
    assert not any(verdict.tested for verdict in verdicts)


@given(
    st.sampled_from([(1, 2), (1, 10), (10, 1), (2, 3), (8, 1)]),
    st.lists(st.floats(0.96, 1.04), min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=5),
    st.booleans(),
)
def test_a_split_counts_once_however_often_under_whichever_names_and_for_which_days_it_is_listed(
    counts: tuple[int, int], moves: list[float], others: list[tuple[int, bool]], named: bool
) -> None:
    # Twelve days from a Tuesday on, with a weekend in which nobody trades; split on the Monday.
    old, new = counts
    closes, price = {}, 100.0
    for at, move in enumerate(moves):
        if at == 6:
            price *= old / new
        price *= move
        if at not in {4, 5, 11}:
            closes[at] = price

    def listed(at: int, named: bool) -> Listed:
        before = [close for day, close in closes.items() if day < at]
        after = [close for day, close in closes.items() if day >= at]
        return Listed(
            Split("AB"[named], date(2024, 6, 4) + timedelta(at), old, new),
            before[-1] if before else None,
            after[0] if after else None,
            named=named,
        )

    every = sorted({(6, named), *others})
    listings = [listed(at, whose) for at, whose in every]
    verdicts = judge(listings, date(2024, 7, 1))

    [applied] = [at for at, one in enumerate(verdicts) if one.status is Status.applied]
    assert every[applied][0] in {4, 5, 6}  # all three lie between the same two closes
    assert (
        judge(
            [replace(one, held=v) for one, v in zip(listings, verdicts, strict=True)],
            date(2024, 7, 1),
        )
        == verdicts
    )


def test_what_was_set_by_hand_stands_whatever_prices_and_listings_say() -> None:
    listed = [
        Listed(Split("A", date(2024, 6, 7), 1, 4), 100.0, 25.0),
        Listed(Split("A", date(2024, 6, 10), 1, 4), 25.0, 25.0, manual=True),
        Listed(
            Split("B", date(2024, 6, 7), 1, 4), 100.0, 25.0,
            held=Verdict(Status.dropped, tested=True), manual=True,
        ),
    ]  # fmt: skip
    verdicts = judge(listed, date(2024, 7, 1))
    assert [one.status for one in verdicts] == [Status.duplicate, Status.applied, Status.dropped]


def test_a_split_is_of_the_company_whose_prices_show_it_then_of_the_one_of_that_name() -> None:
    proven, untested = Verdict(Status.applied, tested=True), Verdict(Status.applied, tested=False)
    against = Verdict(Status.contradicted, tested=True)
    nothing = Verdict(Status.unproven, tested=False)
    for claims, owner in (
        ([Claim(True, True, against), Claim(False, True, proven)], 1),
        ([Claim(False, True, proven), Claim(True, True, proven)], 1),
        ([Claim(False, False, nothing), Claim(True, False, untested)], 1),
        ([Claim(True, False, untested), Claim(True, True, against)], 1),
        ([Claim(False, True, nothing)], 0),
    ):
        assert owner_of(claims) == owner


def test_two_splits_of_one_factor_years_apart_are_two() -> None:
    days = (date(2014, 6, 9), date(2020, 8, 31))
    verdicts = judge([Listed(Split("A", day, 1, 4)) for day in days], date(2024, 1, 1))
    assert [verdict.status for verdict in verdicts] == [Status.applied, Status.applied]


@given(counts, counts, st.floats(0.72, 1.39), st.floats(1, 1000))
def test_a_split_fits_its_own_jump_whatever_the_day_brings_and_no_quiet_day(
    old: int, new: int, move: float, price: float
) -> None:
    split = Split("A", FIRST, old, new)
    if 1 / 1.1 < new / old < 1.1:
        assert fits(Listed(split, price, price)) is None
    elif new / old >= 2 or old / new >= 2:
        assert fits(Listed(split, price, price * old / new * move)) is True
        assert fits(Listed(split, price, price * move)) is False
