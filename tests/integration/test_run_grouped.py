"""The daily increment: one grouped call for a session of all series, where that is cheaper."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.faults.proxy import Proxy
from tests.integration.truth import Asked, asked, assert_same, midnight_ms, true_bars

SINCE = date(2024, 11, 4)
LOADED = date(2024, 11, 12)
"""A Tuesday: Monday's session is the newest that is final at its noon."""
MANY = tuple(f"SIM{number:03}" for number in range(40))
FIVE = MANY[:5]
STATEMENTS = 32
"""What an increment by one grouped call runs at most, with its lists of splits and dividends."""
BY_TIME = (b"SET alive_until", b"quota_take")
"""What a run's heart says every ten seconds, and a look for pauses, which holds for half of one."""

Incremental = Callable[..., tuple[Ended, list[Asked]]]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def backfill(simulator: Simulator, cli: Callable[..., Cli]) -> Cli:
    return cli(simulator)


@pytest.fixture
def run(simulator: Simulator, backfill: Cli) -> Incremental:
    """Run the watchlist as of a day's noon; with the calls for bars."""

    def one(day: date, *options: str, mode: str = "--incremental") -> tuple[Ended, list[Asked]]:
        simulator.set_now(noon(day))
        calls = len(simulator.calls)
        as_of = ("--as-of", noon(day).isoformat(), "--json")
        ended = backfill("run", "--all", *([mode] if mode else []), *as_of, *options)
        return ended, asked(simulator, calls)

    return one


@pytest.fixture
def load(backfill: Cli, run: Incremental) -> Callable[..., None]:
    """Watch symbols and load them up to a day's noon."""

    def one(*tickers: str, timeframes: tuple[str, ...] = ("d1",)) -> None:
        options = [word for timeframe in timeframes for word in ("-t", timeframe)]
        assert (
            backfill("watch", "add", "--offline", *tickers, *options, "--since", str(SINCE)).code
            == 0
        )
        ended, calls = run(LOADED)
        assert ended.code == 0, ended.err
        assert "grouped" not in {call.unit for call in calls}

    return one


def grouped(*days: str) -> list[Asked]:
    return [Asked("*", "grouped", day, day) for day in days]


def assert_whole(url: str, market: Market, tickers: tuple[str, ...], until: date) -> None:
    for ticker in tickers:
        assert_same(
            stored_bars(url, ticker, Timeframe.d1),
            true_bars(market, ticker, Timeframe.d1, SINCE, until),
        )


def test_the_newest_day_of_forty_symbols_is_one_call_and_nothing_the_second_time(
    market: Market, run: Incremental, load: Callable[..., None], database_url: str
) -> None:
    load(*MANY)
    day = LOADED + timedelta(days=1)
    planned, _ = run(day, "--dry-run")

    ended, calls = run(day)

    assert ended.code == 0, ended.err
    assert calls == grouped("2024-11-12")
    assert (planned.json["calls"], planned.json["calls_grouped"], ended.json["calls"]) == (1, 1, 1)
    assert planned.json["calls_max"] == 1 + len(MANY)
    assert {one["calls"] for one in planned.json["series"]} == {0}
    assert ended.json["series"]["complete"] == ended.json["series"]["total"] == len(MANY)
    assert ended.json["bars"]["inserted"] == len(MANY)
    assert_whole(database_url, market, MANY, day)
    assert run(day)[1] == []
    held = query(
        database_url, "SELECT count(*) FROM backfill_progress WHERE claimed_by IS NOT NULL"
    )
    assert held[0][0] == 0


@pytest.mark.soak
def test_each_of_three_missed_sessions_is_a_call_the_newest_first(
    market: Market, run: Incremental, load: Callable[..., None], database_url: str
) -> None:
    load(*FIVE)

    ended, calls = run(date(2024, 11, 15), mode="")

    assert ended.code == 0, ended.err
    assert calls == grouped("2024-11-14", "2024-11-13", "2024-11-12")
    assert_whole(database_url, market, FIVE, date(2024, 11, 15))


@pytest.mark.soak
def test_two_symbols_that_miss_five_sessions_have_a_call_each(
    market: Market, run: Incremental, load: Callable[..., None], database_url: str
) -> None:
    load(*FIVE[:2])

    ended, calls = run(date(2024, 11, 19))

    assert ended.code == 0, ended.err
    assert sorted(calls) == [
        Asked(ticker, "1 day", "2024-11-12", "2024-11-18") for ticker in FIVE[:2]
    ]
    assert_whole(database_url, market, FIVE[:2], date(2024, 11, 19))


def test_weeks_are_rolled_up_from_grouped_days_and_hours_and_new_symbols_go_their_own_way(
    market: Market, run: Incremental, load: Callable[..., None], backfill: Cli, database_url: str
) -> None:
    load(*FIVE, timeframes=("d1", "w1"))
    assert (
        backfill("watch", "add", "--offline", "AAPL", "-t", "d1", "--since", str(SINCE)).code == 0
    )
    assert (
        backfill(
            "watch", "add", "--offline", FIVE[0], "-t", "d1,w1,h1", "--since", "2024-11-11"
        ).code
        == 0
    )

    ended, calls = run(date(2024, 11, 18))

    assert ended.code == 0, ended.err
    assert calls[:4] == grouped("2024-11-15", "2024-11-14", "2024-11-13", "2024-11-12")
    assert sorted((call.ticker, call.unit) for call in calls[4:]) == [
        ("AAPL", "1 day"),
        (FIVE[0], "1 hour"),
    ]
    assert_whole(database_url, market, (*FIVE, "AAPL"), date(2024, 11, 18))
    for ticker in FIVE:
        assert_same(
            stored_bars(database_url, ticker, Timeframe.w1),
            true_bars(market, ticker, Timeframe.w1, SINCE, date(2024, 11, 18)),
            rolled_up=True,
        )


def test_a_ticker_that_is_not_in_the_answer_or_stamped_on_another_day_has_its_own_call(
    market: Market,
    simulator: Simulator,
    run: Incremental,
    load: Callable[..., None],
    database_url: str,
) -> None:
    load(*FIVE)
    simulator.inject(
        Fault(action=Action.DROP_BARS, path="/grouped/.*11-13", bars_of=FIVE[1], times=1)
    )
    day_before = midnight_ms(date(2024, 11, 11), FIVE[3])
    simulator.inject(
        Fault(
            action=Action.EDIT_BARS, path="/grouped/.*11-12", bars_of=FIVE[3], times=1,
            bar={"t": day_before},
        )
    )  # fmt: skip

    ended, calls = run(date(2024, 11, 14))

    assert ended.code == 0, ended.err
    assert calls[:2] == grouped("2024-11-13", "2024-11-12")
    assert sorted(calls[2:]) == [
        Asked(FIVE[1], "1 day", "2024-11-13", "2024-11-13"),
        Asked(FIVE[3], "1 day", "2024-11-12", "2024-11-12"),
    ]
    assert_whole(database_url, market, FIVE, date(2024, 11, 14))


def test_a_bad_bar_of_an_answer_is_quarantined_alone(
    market: Market,
    simulator: Simulator,
    run: Incremental,
    load: Callable[..., None],
    database_url: str,
) -> None:
    load(*FIVE)
    simulator.inject(
        Fault(action=Action.EDIT_BARS, path="/grouped/.*11-13", bars_of=FIVE[1], bar={"l": -1.0})
    )
    simulator.inject(
        Fault(action=Action.CONFLICT, path="/grouped/.*11-12", bars_of=FIVE[2], bar={"v": 1.0})
    )
    day = date(2024, 11, 14)

    ended, calls = run(day)

    assert ended.code == 1, ended.err
    assert calls == grouped("2024-11-13", "2024-11-12")
    assert [(one["symbol"], one["outcome"]) for one in ended.json["failures"]] == [
        (FIVE[1], "quarantined"),
        (FIVE[2], "quarantined"),
    ]
    held = query(
        database_url,
        "SELECT ticker, reason, count(*) FROM quarantined_bars AS q "
        "JOIN symbols AS s ON s.id = q.symbol_id GROUP BY 1, 2 ORDER BY 1",
    )
    assert [tuple(row) for row in held] == [(FIVE[1], "price", 1), (FIVE[2], "conflict", 2)]
    assert_whole(database_url, market, (FIVE[0], *FIVE[3:]), day)
    for ticker, lacking in ((FIVE[1], day.replace(day=13)), (FIVE[2], day.replace(day=12))):
        true = true_bars(market, ticker, Timeframe.d1, SINCE, day)
        assert_same(
            stored_bars(database_url, ticker, Timeframe.d1),
            [row for row in true if row[0] != midnight_ms(lacking, ticker)],
        )
    assert run(day)[1] == []  # held for thirty days


@pytest.mark.soak
@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (Fault(action=Action.STATUS, status=403, path="/grouped/"), 1),
        pytest.param(
            Fault(action=Action.WRONG_ADJUSTED, path="/grouped/"), 1, marks=pytest.mark.wide
        ),
        (Fault(action=Action.MICROSECONDS, path="/grouped/"), 2),
    ],
)
def test_where_grouped_days_can_not_be_had_every_series_goes_the_usual_way(
    fault: Fault,
    sent: int,
    market: Market,
    simulator: Simulator,
    run: Incremental,
    load: Callable[..., None],
    database_url: str,
) -> None:
    load(*FIVE)
    simulator.inject(fault)

    ended, calls = run(date(2024, 11, 14))

    assert (ended.code, ended.json["failures"]) == (0, []), ended.err
    assert calls[:sent] == grouped("2024-11-13", "2024-11-12")[:sent]
    assert sorted(calls[sent:]) == [
        Asked(ticker, "1 day", "2024-11-12", "2024-11-13") for ticker in FIVE
    ]
    assert ended.json["calls"] == sent + len(FIVE)
    assert_whole(database_url, market, FIVE, date(2024, 11, 14))


@pytest.mark.soak
def test_a_run_that_is_cut_short_leaves_everybody_the_newest_session(
    market: Market, run: Incremental, load: Callable[..., None], database_url: str
) -> None:
    load(*FIVE)
    day = date(2024, 11, 14)

    cut, calls = run(day, "--max-calls", "1")

    assert (cut.code, cut.json["status"]) == (5, "stopped")
    assert calls == grouped("2024-11-13")
    assert cut.json["series"]["partial"] == len(FIVE)
    newest = true_bars(market, FIVE[0], Timeframe.d1, date(2024, 11, 13), day)
    assert stored_bars(database_url, FIVE[0], Timeframe.d1)[-1:] == newest

    ended, calls = run(day)

    assert ended.code == 0, ended.err
    assert calls == grouped("2024-11-12")
    assert_whole(database_url, market, FIVE, day)


@pytest.mark.soak
def test_a_key_that_is_refused_ends_the_run(
    simulator: Simulator, run: Incremental, load: Callable[..., None]
) -> None:
    load(*FIVE)
    simulator.inject(Fault(action=Action.STATUS, status=401))

    ended, calls = run(LOADED + timedelta(days=1))

    assert (ended.code, len(calls)) == (3, 1)
    assert [one["outcome"] for one in ended.json["failures"]] == ["unauthorised"] * len(FIVE)


@pytest.mark.soak
def test_two_runs_at_once_make_one_grouped_call_and_give_the_table_of_one(
    market: Market,
    simulator: Simulator,
    backfill: Cli,
    load: Callable[..., None],
    database_url: str,
) -> None:
    load(*FIVE)
    day = LOADED + timedelta(days=1)
    simulator.set_now(noon(day))
    calls = len(simulator.calls)
    simulator.inject(Fault(action=Action.DRIP, path="/grouped/", bytes_per_s=1e5))

    command = ("run", "--all", "--incremental", "--as-of", noon(day).isoformat(), "--json")
    going = [backfill.start(*command) for _ in range(2)]
    ended = [(one.communicate(timeout=60), one.returncode) for one in going]

    assert [code for _, code in ended] == [0, 0], ended
    assert asked(simulator, calls) == grouped("2024-11-12")
    assert_whole(database_url, market, FIVE, day)


@pytest.mark.soak
def test_the_newest_day_of_a_thousand_symbols_is_one_call_and_two_days_are_two(
    market: Market,
    simulator: Simulator,
    run: Incremental,
    load: Callable[..., None],
    database_url: str,
) -> None:
    everybody = tuple(f"SIM{number:03}" for number in range(1000))
    load(*everybody)

    for day, days in ((13, ("2024-11-12",)), (15, ("2024-11-14", "2024-11-13"))):
        sent = len(simulator.calls)
        ended, calls = run(date(2024, 11, day))

        assert ended.code == 0, ended.err
        assert calls == grouped(*days)
        assert ended.json["bars"]["inserted"] == 1000 * len(days)
        looked_up = [call.path for call in simulator.calls[sent:] if call.kind == "lookup"]
        assert set(looked_up) <= {
            "/stocks/v1/splits",
            "/stocks/v1/dividends",
            "/v3/reference/tickers",
        }
    for ticker in everybody[::25]:
        assert_whole(database_url, market, (ticker,), date(2024, 11, 15))
    rows, series = query(database_url, "SELECT count(*), count(DISTINCT symbol_id) FROM ohlc_bars")[
        0
    ]
    assert (rows, series) == (9 * 1000, 1000)


@pytest.mark.soak
def test_a_grouped_call_that_is_never_answered_does_not_outlast_the_deadline(
    simulator: Simulator, run: Incremental, load: Callable[..., None]
) -> None:
    load(*FIVE)
    simulator.inject(Fault(action=Action.HANG, path="/grouped/"))

    began = time.monotonic()
    ended, calls = run(LOADED + timedelta(days=1), "--deadline", "2")
    took_s = time.monotonic() - began

    assert (ended.code, ended.json["status"]) == (5, "stopped")
    assert calls == grouped("2024-11-12")
    assert 2 <= took_s < 2 + 10


def test_an_increment_asks_as_little_of_the_database_whatever_the_number_of_series(
    simulator: Simulator, cli: Callable[..., Cli], proxy: Proxy, database_url: str
) -> None:
    far = cli(simulator, DATABASE_URL=proxy.url(database_url))

    def watch(*tickers: str) -> None:
        far("watch", "add", "--offline", *tickers, "-t", "d1", "--since", str(SINCE))

    def run(day: date) -> tuple[int, int]:
        """Return how many statements it ran, and how often it waited, but for what goes by time."""
        simulator.set_now(noon(day))
        before = proxy.round_trips
        with proxy.statements() as told:
            ended = far("run", "--all", "--incremental", "--as-of", noon(day).isoformat(), "--json")
        assert ended.code == 0, ended.err
        assert ended.json["bars"]["inserted"] > 0
        by_time = [one for one in told if any(word in one for word in BY_TIME)]
        return len(told) - len(by_time), proxy.round_trips - before - len(by_time)

    introspected: list[bool] = []
    proxy.act_at(b"typeinfo_tree", lambda: introspected.append(True))
    watch(*FIVE)
    run(LOADED)
    run(LOADED + timedelta(days=1))  # in the second run the list of all tickers is read
    few, trips_of_few = run(LOADED + timedelta(days=2))
    watch(*MANY)
    run(LOADED + timedelta(days=2))
    many, trips_of_many = run(LOADED + timedelta(days=3))
    run(LOADED + timedelta(days=4))
    after_weekend, _ = run(LOADED + timedelta(days=7))
    assert few == many == after_weekend <= STATEMENTS
    assert abs(trips_of_many - trips_of_few) <= 10  # a connection more takes some to open
    assert not introspected
