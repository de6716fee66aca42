"""`gaps --verify`: what the provider corrected after a bar was final is found, and mended."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import Cli, query, stored_bars

NOW = "2024-12-04T12:00:00Z"
RANGE = ("--from", "2024-06-24", "--to", "2024-12-03")
FRAMES = ("m15", "h4", "d1", "w1")

Made = Callable[..., Cli]
Simulate = Callable[..., Simulator]


@pytest.fixture
def simulator(simulate: Simulate) -> Simulator:
    return simulate(plan="free", now=datetime(2024, 12, 4, 12, tzinfo=UTC))


@pytest.fixture
def backfill(cli: Made, simulator: Simulator) -> Cli:
    command = cli(simulator)
    frames = [part for timeframe in FRAMES for part in ("-t", timeframe)]
    loaded = command("run", "--symbol", "AAPL", *frames, *RANGE, "--as-of", NOW)
    assert loaded.code == 0, loaded.err
    return command


def alter(url: str) -> None:
    """Make stored bars differ from the provider's in each way that they can."""
    for timeframe, ts, change in (
        ("d1", "2024-08-14 04:00Z", "UPDATE ohlc_bars SET close = (low + high) / 2"),
        ("h4", "2024-10-10 12:00Z", "UPDATE ohlc_bars SET trade_count = 1"),
        ("m15", "2024-11-19 15:00Z", "DELETE FROM ohlc_bars"),
        # To 22:00 of the night before, where no slot is.
        ("m15", "2024-11-21 20:00Z", "UPDATE ohlc_bars SET ts = ts - interval '17 hours'"),
    ):
        where = "WHERE timeframe = $1::text::timeframe AND ts = $2::text::timestamptz"
        assert len(query(url, f"{change} {where} RETURNING 1", timeframe, ts)) == 1


def test_what_is_stored_as_the_provider_has_it_verifies_within_the_budget(
    backfill: Cli, simulator: Simulator
) -> None:
    calls = len(simulator.calls)
    whole = backfill("gaps", "--verify", "--as-of", NOW, "--json")
    assert whole.code == 0, whole.err
    verified = whole.json["verified"]
    assert (verified["differences"], verified["failures"]) == ([], [])
    assert verified["series"] == 4
    assert verified["bars"] > 7_000
    assert verified["calls"] == len(simulator.calls) - calls == 8

    calls = len(simulator.calls)
    sample = backfill("gaps", "--verify", "--max-calls", "2", "--as-of", NOW, "--json")
    assert (sample.code, sample.json["verified"]["calls"]) == (0, 2)
    assert 0 < sample.json["verified"]["bars"] < verified["bars"]
    assert len(simulator.calls) == calls + 2


def test_corrections_are_found_reported_and_mended(backfill: Cli, database_url: str) -> None:
    before = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in FRAMES}
    alter(database_url)
    changed = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in FRAMES}
    quiet = backfill(
        "run", "--symbol", "AAPL", "-t", "d1", "--incremental", "--as-of", NOW, "--json"
    )
    assert quiet.json["calls"] == 0

    found = backfill("gaps", "--verify", "--as-of", NOW, "--json")
    assert found.code == 4
    differences = found.json["verified"]["differences"]
    kinds = sorted((one["timeframe"], one["kind"]) for one in differences)
    assert kinds == [
        ("d1", "changed"),
        ("h4", "changed"),
        ("m15", "gone"),
        ("m15", "not_stored"),
        ("m15", "not_stored"),
    ]
    [daily] = [one for one in differences if one["timeframe"] == "d1"]
    assert daily["ts"] == "2024-08-14T04:00:00+00:00"
    assert daily["stored"]["close"] != daily["provider"]["close"]
    assert daily["stored"]["open"] == daily["provider"]["open"]
    # It only looks.
    assert changed == {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in FRAMES}

    mended = backfill("gaps", "--verify", "--repair", "--as-of", NOW, "--json")
    assert mended.code == 0, mended.err
    bars = mended.json["run"]["bars"]
    assert (bars["inserted"], bars["updated"], bars["withdrawn"]) == (2, 2, 1)
    assert before == {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in FRAMES}
    again = backfill("gaps", "--verify", "--as-of", NOW)
    assert again.code == 0
    assert "none differs" in again.out


def test_a_scope_bounds_what_is_looked_at(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    alter(database_url)
    narrow = ("-t", "m15", "--from", "2024-11-01", "--to", "2024-11-19")
    found = backfill("gaps", "--symbol", "AAPL", *narrow, "--verify", "--as-of", NOW, "--json")
    [only] = found.json["verified"]["differences"]
    assert (only["kind"], only["timeframe"]) == ("not_stored", "m15")
    assert [len(one["gaps"]) for one in found.json["series"]] == [1]
    elsewhere = ("-t", "m15", "--from", "2024-10-01", "--to", "2024-10-31")
    assert backfill("gaps", *elsewhere, "--as-of", NOW).code == 0
    calls = len(simulator.calls)
    for wrong in (
        ("--symbol", "MSFT"),
        ("-t", "m7"),
        ("--from", "2024-11-02", "--to", "2024-11-01"),
    ):
        refused = backfill("gaps", *wrong, "--verify", "--as-of", NOW)
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
    assert len(simulator.calls) == calls


def test_a_series_that_cannot_be_verified_is_told_and_the_others_are(
    backfill: Cli, simulator: Simulator
) -> None:
    simulator.inject(Fault(action=Action.STATUS, status=403, path="/day/"))
    ended = backfill("gaps", "--verify", "--as-of", NOW, "--json")
    assert ended.code == 1
    verified = ended.json["verified"]
    assert sorted((one["timeframe"], one["outcome"]) for one in verified["failures"]) == [
        ("d1", "not_entitled"),
        ("w1", "not_entitled"),
    ]
    assert verified["series"] == 2
    split = backfill("gaps", "--verify", "--as-of", NOW, "--json", BACKFILL_ADJUSTMENT="split")
    assert split.code == 1
    assert {one["outcome"] for one in split.json["verified"]["failures"]} == {"source_mismatch"}
