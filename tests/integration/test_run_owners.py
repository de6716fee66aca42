"""A ticker that now belongs to another company: never joined, refused, set aside."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.integration.truth import assert_same, midnight_ms, true_bars

LAST = date(2024, 6, 28)
"""The last session of the first owner of REUSE; the second is listed on 2025-01-15."""
RETIRED = "REUSE@2024-06-28"

Run = Callable[..., Ended]

ADJUSTED = """
    SELECT (extract(epoch FROM a.ts) * 1000)::bigint, a.close, b.close AS raw
    FROM ohlc_bars_adjusted AS a
    JOIN ohlc_bars AS b USING (symbol_id, timeframe, ts)
    JOIN symbols AS s ON s.id = a.symbol_id
    WHERE s.ticker = $1 AND a.timeframe = 'd1'
    ORDER BY a.ts
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def backfill(simulator: Simulator, cli: Callable[..., Cli]) -> Cli:
    return cli(simulator, BACKFILL_PLAN="unlimited")


@pytest.fixture
def run(simulator: Simulator, backfill: Cli) -> Run:
    """Run the command as of a day's noon."""

    def one(day: str, *options: str) -> Ended:
        now = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
        simulator.set_now(now)
        return backfill("run", *options, "--as-of", now.isoformat(), "--json")

    return one


def factors(url: str, ticker: str) -> list[tuple[int, float]]:
    """The day and the split factor of each stored day."""
    return [(row[0], row["raw"] / row["close"]) for row in query(url, ADJUSTED, ticker)]


def test_a_ticker_with_a_new_owner_stops_and_is_not_paid_for_again_until_it_is_retired(
    market: Market, simulator: Simulator, backfill: Cli, run: Run, database_url: str
) -> None:
    watch = ("watch", "add", "--offline", "REUSE", "-t", "d1", "-t", "w1", "--since", "2024-01-02")
    assert backfill(*watch).code == 0
    assert run("2024-06-28", "--all").code == 0

    noticed = run("2025-03-12", "--all")

    assert noticed.code == 1, noticed.err
    assert {one["outcome"] for one in noticed.json["failures"]} == {"source_mismatch"}
    message = noticed.json["failures"][0]["message"]
    [figi] = query(database_url, "SELECT successor_figi FROM symbols")[0]
    assert figi == market.listing("REUSE").figi
    assert figi in message
    assert "backfill symbols retire REUSE" in message
    old = true_bars(market, "REUSE~", Timeframe.d1, date(2024, 1, 2), date(2024, 6, 28))
    assert_same(stored_bars(database_url, "REUSE", Timeframe.d1), old)

    calls = len(simulator.calls)
    again = run("2025-03-12", "--all")
    assert (again.code, again.json["calls"], len(simulator.calls)) == (1, 0, calls)

    retired = backfill("symbols", "retire", "REUSE", "--json")
    assert (retired.code, retired.err) == (0, "")
    name = "REUSE@2024-06-27"  # the last that is stored: the run of the 28th came before its end
    assert retired.json == {"ticker": "REUSE", "retired_as": name, "watched": True}
    new = run("2025-03-12", "--all")

    assert new.code == 0, new.err
    assert_same(stored_bars(database_url, name, Timeframe.d1), old)
    assert_same(
        stored_bars(database_url, "REUSE", Timeframe.d1),
        true_bars(market, "REUSE", Timeframe.d1, date(2025, 1, 15), date(2025, 3, 12)),
    )
    # The splits of each are its own.
    for ticker, day, factor in (
        (name, date(2024, 3, 11), 4.0),
        ("REUSE", date(2025, 3, 10), 5.0),
    ):
        for ts, held in factors(database_url, ticker):
            assert held == pytest.approx(factor if ts < midnight_ms(day, "REUSE") else 1.0)
    listed = backfill("symbols", "list", "--json").json["symbols"]
    assert [(one["ticker"], one["retired_on"] is not None) for one in listed] == [
        ("REUSE", False),
        (name, True),
    ]
    as_of = ("--as-of", "2025-03-12T12:00:00Z", "--json")
    for command in ("gaps", "status"):
        series = backfill(command, *as_of).json["series"]
        assert {one["symbol"] for one in series} <= {"REUSE"}
    assert backfill("symbols", "retire", "REUSE").code == 2  # its new owner is alive
    assert backfill("symbols", "retire", "REUSE", "--yes").code == 0  # who knows better


@pytest.mark.soak
def test_bars_of_the_new_owner_that_were_stored_leave_when_it_is_noticed(
    market: Market, run: Run, database_url: str
) -> None:
    options = ("--symbol", "REUSE", "-t", "d1,w1,mn1")
    assert run("2024-07-10", *options, "--from", "2024-01-02").code == 0
    theirs = run("2025-04-10", *options, "--from", "2025-02-03", "--to", "2025-03-31")
    assert theirs.code == 0, theirs.err
    count = query(database_url, "SELECT count(*) FROM ohlc_bars WHERE ts > '2025-01-01'")[0][0]
    assert count > 40

    noticed = run("2025-04-10", *options, "--from", "2024-01-02")

    assert noticed.code == 1, noticed.err
    assert noticed.json["bars"]["withdrawn"] == count
    held = query(database_url, "SELECT reason, count(*) FROM quarantined_bars GROUP BY 1")
    assert [tuple(row) for row in held] == [("source_changed", count)]
    assert_same(
        stored_bars(database_url, "REUSE", Timeframe.d1),
        true_bars(market, "REUSE~", Timeframe.d1, date(2024, 1, 2), date(2025, 1, 1)),
    )
    covered = query(database_url, "SELECT max(upper(coverage)) FROM backfill_progress")
    assert covered[0][0] < datetime(2025, 1, 16, tzinfo=UTC)


def test_a_symbol_that_nobody_marked_can_be_retired_and_is_not_fetched_any_more(
    backfill: Cli, run: Run, database_url: str
) -> None:
    assert run("2024-07-10", "--symbol", "REUSE", "--from", "2024-01-02").code == 0
    told = backfill("symbols", "retire", "REUSE")

    assert (told.code, told.out) == (0, f"REUSE is {RETIRED} now\n")
    rows = query(database_url, "SELECT ticker, valid_until FROM symbol_aliases")
    assert [tuple(row) for row in rows] == [("REUSE", LAST + timedelta(days=1))]
    refused = run("2024-07-10", "--symbol", RETIRED)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "retired" in refused.err


@pytest.mark.parametrize(
    ("ticker", "said"),
    [
        ("NOSUCH", "NOSUCH is not known"),
        ("AAPL", "nothing is stored of AAPL"),
        ("AAPL@2024-01-02", "retired"),
    ],
)
def test_what_can_not_be_retired_is_told_in_one_line(backfill: Cli, ticker: str, said: str) -> None:
    assert backfill("symbols", "add", "AAPL").code == 0

    refused = backfill("symbols", "retire", ticker)

    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert said in refused.err


def test_a_symbol_that_a_run_is_working_on_is_not_retired(
    backfill: Cli, run: Run, database_url: str
) -> None:
    assert run("2024-07-10", "--symbol", "REUSE", "--from", "2024-06-03").code == 0
    query(
        database_url,
        "UPDATE backfill_progress "
        "SET claimed_by = gen_random_uuid(), claimed_until = now() + interval '30 s'",
    )

    refused = backfill("symbols", "retire", "REUSE")

    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "a run is working on REUSE" in refused.err
    held: list[Any] = query(database_url, "SELECT ticker FROM symbols WHERE retired_on IS NULL")
    assert [row[0] for row in held] == ["REUSE"]


def listed(simulator: Simulator, since: int) -> list[str]:
    """From where on each page of the list of tickers was asked for, after some calls."""
    return [
        call.query["ticker.gte"]
        for call in simulator.calls[since:]
        if call.path == "/v3/reference/tickers"
    ]


def confirmed(url: str, day: str) -> None:
    """Have every symbol confirmed on a day, on the run's clock."""
    query(url, "UPDATE symbols SET confirmed_at = $1", datetime.fromisoformat(f"{day}T12:00Z"))


@pytest.mark.soak
def test_the_list_of_tickers_is_read_once_in_thirty_days_and_marks_a_new_owner(
    market: Market, simulator: Simulator, backfill: Cli, run: Run, database_url: str
) -> None:
    def lists(day: str) -> tuple[Ended, list[str]]:
        calls = len(simulator.calls)
        ended = run(day, "--symbols", "AAPL,REUSE", "--from", "2024-06-03")
        return ended, listed(simulator, calls)

    ended, asked = lists("2024-06-24")
    assert (ended.code, asked) == (0, [])  # there is nothing to notice on the first day
    confirmed(database_url, "2024-06-24")
    assert lists("2024-06-25")[1] == ["AAPL"]
    figis = query(database_url, "SELECT ticker, figi FROM symbols ORDER BY 1")
    assert [tuple(row) for row in figis] == [
        ("AAPL", market.listing("AAPL").figi),
        ("REUSE", market.listing("REUSE~").figi),
    ]
    assert lists("2024-06-26")[1] == []
    assert lists("2024-07-24")[1] == []
    query(database_url, "UPDATE symbols SET delisted_on = '2024-06-28' WHERE ticker = 'REUSE'")
    assert lists("2024-07-26")[1] == ["AAPL"]  # REUSE is not active any more

    ended, asked = lists("2025-02-12")

    assert (ended.code, asked) == (0, ["AAPL"])
    [event] = [one for one in ended.events if one["event"] == "symbol.new_owner"]
    assert (event["symbol"], event["successor_figi"]) == ("REUSE", market.listing("REUSE").figi)
    refused = run("2025-02-13", "--symbols", "AAPL,REUSE")
    assert [one["symbol"] for one in refused.json["failures"]] == ["REUSE"]
    assert refused.code == 1


@pytest.mark.soak
def test_a_list_that_is_refused_or_cut_short_costs_no_series_and_goes_on_another_day(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    def lists(day: str, *options: str) -> list[str]:
        calls = len(simulator.calls)
        ended = run(day, "--symbols", "AAPL,TSLA", "--from", "2024-06-03", *options)
        assert (ended.code, ended.json["failures"]) == (0, [])
        return listed(simulator, calls)

    lists("2024-06-12")
    confirmed(database_url, "2024-06-03")
    simulator.inject(Fault(action=Action.STATUS, status=404, path=r"/v3/reference/tickers\?"))
    assert lists("2024-06-13") == ["AAPL"]
    simulator.clear_faults()

    # One call for bars, two for actions, and one for the list.
    assert lists("2024-06-14", "--max-calls", "4") == ["AAPL"]
    assert lists("2024-06-18") == ["TSLA"]  # a thousand tickers lie between them
    assert lists("2024-06-20") == []


def test_the_views_give_each_split_to_who_had_the_name_that_day(
    run: Run, database_url: str
) -> None:
    assert run("2024-08-14", "--symbol", "NEWNM", "--from", "2023-03-01").code == 0

    held = factors(database_url, "NEWNM")

    # NEWNM split 3 for 1 in 2023, when it was another company; OLDNM 2 for 1 in 2024.
    split = midnight_ms(date(2024, 2, 12), "NEWNM")
    assert {round(factor, 9) for ts, factor in held if ts < split} == {2.0}
    assert {round(factor, 9) for ts, factor in held if ts >= split} == {1.0}
