"""``status`` judges freshness by the calendar (R24), and by what came."""

from collections.abc import Callable
from datetime import UTC, date, datetime

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.store.times import to_ms
from tests.conftest import Cli, query
from tests.integration.truth import true_bars

SATURDAY = datetime(2024, 11, 16, 12, tzinfo=UTC)


def test_fridays_bar_is_fresh_all_weekend_and_stale_once_mondays_is_due(
    market: Market, simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate(now=SATURDAY))
    for command in (
        ("watch", "add", "--offline", "AAPL", "--since", "2024-10-01"),
        ("run", "--all", "--incremental", "--as-of", SATURDAY.isoformat()),
    ):
        assert run(*command).code == 0

    # Monday's bar is final at 06:00Z on Tuesday: an hour after New York's midnight.
    judged = [
        run("status", "--json", "--as-of", as_of)
        for as_of in ("2024-11-16T12:00Z", "2024-11-18T23:00Z", "2024-11-19T05:59Z")
    ]
    assert [one.code for one in judged] == [0, 0, 0]
    [series] = judged[-1].json["series"]
    bars = true_bars(market, "AAPL", Timeframe.d1, date(2024, 10, 1), date(2024, 11, 16))
    assert {name: series[name] for name in ("symbol", "timeframe", "bars", "fresh")} == {
        "symbol": "AAPL",
        "timeframe": "d1",
        "bars": len(bars),
        "fresh": True,
    }
    assert datetime.fromisoformat(series["newest"]).timestamp() * 1000 == bars[-1][0]
    assert datetime.fromisoformat(series["oldest"]).timestamp() * 1000 == bars[0][0]
    assert series["coverage"] == [["2024-10-01T04:00:00+00:00", "2024-11-16T05:00:00+00:00"]]

    tuesday = run("status", "--as-of", "2024-11-19T06:00Z", "--json")
    assert (tuesday.code, tuesday.json["series"][0]["fresh"]) == (4, False)


def test_a_watched_series_without_bars_is_never_fresh(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())
    as_of = ("--as-of", SATURDAY.isoformat())
    assert run("status", *as_of).code == 0  # there is nothing to be stale

    run("watch", "add", "--offline", "MSFT", "-t", "d1", "-t", "m5")
    status = run("status", *as_of, "--json")

    assert status.code == 4
    assert [(one["timeframe"], one["bars"], one["fresh"]) for one in status.json["series"]] == [
        ("m5", 0, False),
        ("d1", 0, False),
    ]

    run("watch", "remove", "MSFT")
    assert run("status", *as_of).code == 0


def lacking(ticker: str, *spans: tuple[str, str]) -> list[Fault]:
    """The provider has nothing of a ticker between two instants of each pair."""
    return [
        Fault(
            action=Action.LACKING,
            ticker=ticker,
            span_ms=(to_ms(datetime.fromisoformat(start)), to_ms(datetime.fromisoformat(end))),
        )
        for start, end in spans
    ]


def test_who_was_asked_and_had_nothing_is_silent_until_that_is_confirmed(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    stands = lacking("AAPL", ("2024-11-12T00:00Z", "2024-12-01T00:00Z"))
    simulator = simulate(now=SATURDAY)
    for stand in stands:
        simulator.inject(stand)
    run = cli(simulator)
    as_of = ("--as-of", SATURDAY.isoformat())
    run("watch", "add", "--offline", "AAPL", "MSFT", "--since", "2024-10-01")
    assert run("run", "--all", *as_of).code == 0

    told = run("status", *as_of, "--json")
    standing = {one["symbol"]: one for one in told.json["series"]}
    assert told.code == 4
    assert {name: one["fresh"] for name, one in standing.items()} == {"AAPL": False, "MSFT": True}
    assert standing["AAPL"]["newest"].startswith("2024-11-11")
    names = ("state", "behind", "silent", "usual_silence", "missing", "share")
    assert [standing["AAPL"][name] for name in names] == ["silent", 0, 4, 0, 0, 1.0]

    # What is named, and what is wrong.
    assert run("status", "MSFT", *as_of).code == 0
    assert run("status", "-s", "AAPL", "-t", "d1", *as_of).code == 4
    stale = run("status", "--stale", "--missing", *as_of, "--json")
    assert (stale.code, [one["symbol"] for one in stale.json["series"]]) == (4, ["AAPL"])
    shown = run("status", *as_of).out
    assert "no, 4 silent" in shown
    assert "2 series, 1 stale\n1 silent: the provider was asked" in shown
    metrics = run("status", "--format", "prometheus", *as_of).out.splitlines()
    for sample in ("fresh{symbol=%s} 0", "silent_bars{symbol=%s} 4", "behind_bars{symbol=%s} 0"):
        labels = '"AAPL",timeframe="d1"'
        assert f"backfill_{sample % labels}" in metrics

    # A second answer confirms it: all of it, or it is still silent.
    query(database_url, "UPDATE known_empty SET confirmed_on = asked_on")
    assert run("status", *as_of).code == 0
    query(database_url, "UPDATE known_empty SET confirmed_on = NULL, slots = '{}'")
    assert run("status", *as_of).code == 4


def test_a_silence_that_is_usual_is_fresh_and_one_that_happened_once_is_not_usual(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    hours = [(f"2024-11-{day}T16:00Z", f"2024-11-{day}T17:00Z") for day in ("12", "13")]
    ends = ("2024-11-15T19:30Z", "2024-11-16T02:00Z")
    faults = [*lacking("AAPL", *hours, ends), *lacking("MSFT", hours[0], ends)]
    simulator = simulate(now=SATURDAY)
    for fault in faults:
        simulator.inject(fault)
    run = cli(simulator)
    as_of = ("--as-of", SATURDAY.isoformat())
    job = ("--symbols", "AAPL,MSFT", "-t", "m5", "--from", "2024-11-08")
    assert run("run", *job, *as_of).code == 0

    told = run("status", *as_of, "--json")

    assert told.code == 4
    found = {
        one["symbol"]: (one["state"], one["silent"], one["usual_silence"])
        for one in told.json["series"]
    }
    # An hour and a half to the close; twice an hour, or a quarter of one.
    assert found == {"AAPL": ("fresh", 18, 24), "MSFT": ("silent", 18, 3)}


def test_a_share_of_what_is_wanted_stands_beside_what_is_fresh(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate(now=SATURDAY))
    as_of = ("--as-of", SATURDAY.isoformat())
    run("run", "--symbol", "AAPL", "--from", "2024-10-01", *as_of)
    complete = run("status", *as_of, "--json")
    assert (complete.code, complete.json["series"][0]["share"]) == (0, 1.0)
    assert run("status", "--missing", *as_of).code == 0

    run("watch", "add", "--offline", "AAPL", "--since", "2024-01-02")

    told = run("status", *as_of, "--json")
    [series] = told.json["series"]
    assert (told.code, series["fresh"], series["state"]) == (0, True, "fresh")
    assert series["wanted_since"].startswith("2024-01-02")
    # 34 sessions of 222; a share is never rounded up.
    assert (series["missing"], series["share"]) == (188, 34 / 222)
    shown = run("status", *as_of).out
    assert "  2024-01-02      15%  " in shown
    assert "1 series, all fresh; 1 has only part of what is wanted, 15%" in shown
    assert run("status", "--missing", *as_of).code == 4


def test_what_nobody_watches_any_more_is_listed_apart_and_judged_by_nobody(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate(now=SATURDAY))
    as_of, later = ("--as-of", SATURDAY.isoformat()), ("--as-of", "2024-11-27T12:00Z")
    run("run", "--symbols", "AAPL,MSFT,NVDA", "--from", "2024-10-01", *as_of)

    # Without a watchlist, what was fetched is what is kept.
    assert run("status", *as_of).code == 0
    assert run("status", *later).code == 4
    assert run("gaps", "NVDA", *later).code == 4

    run("watch", "add", "--offline", "AAPL", "MSFT")
    run("watch", "remove", "MSFT")
    told = run("status", *later, "--json")
    assert told.code == 4
    flags = ("watched", "judged", "fresh")
    assert {one["symbol"]: [one[flag] for flag in flags] for one in told.json["series"]} == {
        "AAPL": [True, True, False],
        "MSFT": [False, False, False],
        "NVDA": [False, False, False],
    }
    assert [one["symbol"] for one in run("status", "--stale", *later, "--json").json["series"]] == [
        "AAPL"
    ]
    shown = run("status", *later).out
    assert shown.index("1 series, 1 stale") < shown.index("MSFT") < shown.index("2 series that")
    metrics = run("status", "--format", "prometheus", *later).out
    assert 'backfill_fresh{symbol="AAPL"' in metrics
    assert 'backfill_fresh{symbol="MSFT"' not in metrics
    assert 'backfill_bars{symbol="MSFT"' in metrics
    assert run("gaps", "NVDA", *later).code == 0

    # MSFT was on a list that is no more; NVDA never was on one.
    run("watch", "remove", "AAPL")
    told = run("status", *later, "--json")
    assert {one["symbol"]: one["judged"] for one in told.json["series"]} == {
        "AAPL": False,
        "MSFT": False,
        "NVDA": True,
    }
