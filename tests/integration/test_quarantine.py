"""Bars in quarantine through the front door: shown once, asked for again, or left at that (R9)."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import Cli, query, stored_bars

pytestmark = pytest.mark.soak

NOW = "2024-12-04T12:00:00Z"
AS_OF = ("--as-of", NOW)
RANGE = ("--from", "2024-10-01", *AS_OF)
TUESDAY = "2024-11-19"


def at(stamp: str) -> tuple[int, int]:
    """The span of one wire stamp."""
    ms = round(datetime.fromisoformat(stamp).timestamp() * 1000)
    return ms, ms + 1


MIDNIGHT = at(f"{TUESDAY}T00:00-05:00")
BAD_DAY = Fault(action=Action.EDIT_BARS, span_ms=MIDNIGHT, bar={"h": 0.01}, ticker="AAPL")
NO_VOLUME = Fault(action=Action.EDIT_BARS, span_ms=MIDNIGHT, bar={"v": -5.0}, ticker="MSFT")
SATURDAY = Fault(action=Action.SATURDAY_BAR, ticker="JPM")


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="free", now=datetime(2024, 12, 4, 12, tzinfo=UTC))


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulator: Simulator) -> Cli:
    return cli(simulator)


def listed(backfill: Cli, *flags: str) -> list[dict[str, Any]]:
    ended = backfill("quarantine", "list", "--json", *flags)
    assert ended.code == 0, ended.err
    bars: list[dict[str, Any]] = ended.json["bars"]
    return bars


def rejected_by_status(backfill: Cli) -> dict[tuple[str, str], int]:
    series = backfill("status", *AS_OF, "--json").json["series"]
    return {(one["symbol"], one["timeframe"]): one["quarantined"] for one in series}


def test_the_list_tells_what_came_why_it_failed_and_whence_and_filters_choose_from_it(
    backfill: Cli, simulator: Simulator
) -> None:
    simulator.inject(NO_VOLUME)
    simulator.inject(BAD_DAY)
    simulator.inject(SATURDAY)
    run = backfill("run", "--symbols", "AAPL,MSFT,JPM", "-t", "d1", *RANGE, "--json")
    assert run.code == 1

    bars = listed(backfill)

    assert [(bar["symbol"], bar["timeframe"], bar["reason"]) for bar in bars] == [
        ("AAPL", "d1", "high_low"),
        ("JPM", "d1", "off_grid"),
        ("MSFT", "d1", "volume"),
    ]
    apple, _, msft = bars
    assert (apple["ts"], apple["raw"]["high"]) == (f"{TUESDAY}T05:00:00+00:00", 0.01)
    assert msft["raw"]["volume"] == -5.0
    assert {bar["run_id"] for bar in bars} == {run.json["run_id"]}
    assert {(bar["accepted_at"], bar["stored"]) for bar in bars} == {(None, False)}

    for flags, symbols in (
        (("--symbol", "AAPL", "--symbol", "JPM"), ["AAPL", "JPM"]),
        (("--timeframe", "d1"), ["AAPL", "JPM", "MSFT"]),
        (("--timeframe", "h1"), []),
        (("--reason", "volume", "--reason", "off_grid"), ["JPM", "MSFT"]),
        (("--reason", "volume", "--symbol", "AAPL"), []),
    ):
        assert [bar["symbol"] for bar in listed(backfill, *flags)] == symbols, flags
    shown = backfill("quarantine", "list").out
    assert "high_low" in shown
    assert "0.01" in shown


def test_a_bar_that_comes_again_as_it_came_is_one_row_and_one_that_came_otherwise_two(
    backfill: Cli, simulator: Simulator
) -> None:
    simulator.inject(BAD_DAY)
    reload = ("run", "--symbol", "AAPL", "-t", "d1", *RANGE, "--reload", "--json")

    runs = [backfill(*reload) for _ in range(3)]

    assert [(run.code, run.json["bars"]["rejected"]) for run in runs] == [(1, 1)] * 3
    [bar] = listed(backfill)
    assert bar["run_id"] == runs[0].json["run_id"]

    simulator.clear_faults()
    simulator.inject(Fault(action=Action.EDIT_BARS, span_ms=MIDNIGHT, bar={"h": 0.02}))
    assert backfill(*reload).code == 1
    assert [bar["raw"]["high"] for bar in listed(backfill)] == [0.01, 0.02]


def test_retry_has_the_next_run_ask_again_and_a_bar_that_passes_is_stored(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    simulator.inject(BAD_DAY)
    run = ("run", "--symbol", "AAPL", "-t", "d1", *AS_OF, "--incremental", "--json")
    assert backfill("run", "--symbol", "AAPL", "-t", "d1", *RANGE).code == 1
    simulator.clear_faults()
    calls = len(simulator.calls)
    assert backfill(*run).json["calls"] == 0
    held = backfill("gaps", *AS_OF, "--json").json["series"][0]["gaps"]
    assert [(gap["slots"], gap["reason"]) for gap in held] == [(1, "quarantined")]

    retried = backfill("quarantine", "retry", "--symbol", "AAPL", "--json")

    assert (retried.code, retried.json) == (
        0,
        {"series": [{"symbol": "AAPL", "timeframe": "d1", "slots": 1}]},
    )
    assert len(simulator.calls) == calls  # it asks nobody itself
    [gap] = backfill("gaps", *AS_OF, "--json").json["series"][0]["gaps"]
    assert "reason" not in gap
    again = backfill(*run)
    assert (again.code, again.json["calls"]) == (0, 1)
    assert again.json["bars"]["inserted"] == 1
    stamps = [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.d1)]
    assert MIDNIGHT[0] in stamps
    assert backfill("gaps", *AS_OF).code == 0

    # It stays in sight until somebody has looked; asking once more would be in vain.
    assert [bar["stored"] for bar in listed(backfill)] == [True]
    assert backfill("quarantine", "retry", "--all", "--json").json == {"series": []}


def test_a_bar_that_fails_again_is_held_again_and_what_is_in_no_slot_is_never_asked_for(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    simulator.inject(BAD_DAY)
    simulator.inject(SATURDAY)
    both = ("--symbols", "AAPL,JPM", "-t", "d1")
    run = ("run", *both, *AS_OF, "--incremental", "--json")
    assert backfill("run", *both, *RANGE).code == 1

    assert backfill("quarantine", "retry", "--reason", "off_grid", "--json").json == {"series": []}
    backfill("quarantine", "retry", "--all")
    again, quiet = backfill(*run), backfill(*run)

    assert (again.code, again.json["bars"]["rejected"]) == (1, 1)
    assert (quiet.code, quiet.json["calls"]) == (0, 0)
    reasons = query(database_url, "SELECT reason FROM known_empty")
    assert [row[0] for row in reasons] == ["quarantined"]
    assert len(listed(backfill, "--symbol", "AAPL")) == 1


def test_retry_reopens_what_was_rolled_up_from_the_bar_too(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    # 10:00 is one of the four hours of the h4 bar of 08:00.
    span = at(f"{TUESDAY}T10:00-05:00")
    simulator.inject(Fault(action=Action.EDIT_BARS, span_ms=span, bar={"h": 0.01}))
    frames = ("-t", "h1", "-t", "h4")
    assert backfill("run", "--symbol", "AAPL", *frames, *RANGE).code == 1
    simulator.clear_faults()
    h4 = at(f"{TUESDAY}T08:00-05:00")[0]
    assert h4 not in [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.h4)]

    retried = backfill("quarantine", "retry", "--all", "--json").json["series"]

    assert [(one["timeframe"], one["slots"]) for one in retried] == [("h1", 1), ("h4", 1)]
    assert backfill("run", "--symbol", "AAPL", *frames, *AS_OF, "--incremental").code == 0
    assert span[0] in [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.h1)]
    assert h4 in [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.h4)]


def test_an_accepted_bar_is_out_of_sight_and_stays_so_and_nothing_is_mended(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    simulator.inject(NO_VOLUME)
    simulator.inject(BAD_DAY)
    assert backfill("run", "--symbols", "AAPL,MSFT", "-t", "d1", *RANGE).code == 1
    before = stored_bars(database_url, "AAPL", Timeframe.d1)
    assert rejected_by_status(backfill) == {("AAPL", "d1"): 1, ("MSFT", "d1"): 1}

    accepted = backfill("quarantine", "accept", "--symbol", "AAPL", "--json")

    assert (accepted.code, accepted.json) == (0, {"accepted": 1})
    assert [bar["symbol"] for bar in listed(backfill)] == ["MSFT"]
    assert rejected_by_status(backfill) == {("AAPL", "d1"): 0, ("MSFT", "d1"): 1}
    everything = listed(backfill, "--accepted")
    assert [(bar["symbol"], bar["accepted_at"] is None) for bar in everything] == [
        ("AAPL", False),
        ("MSFT", True),
    ]
    assert stored_bars(database_url, "AAPL", Timeframe.d1) == before
    raw = query(database_url, "SELECT raw FROM quarantined_bars WHERE reason = 'high_low'")
    assert json.loads(raw[0][0])["high"] == 0.01

    # The same bar once more is the one that was accepted; it is never accepted twice.
    reload = ("run", "--symbol", "AAPL", "-t", "d1", *RANGE, "--reload")
    assert backfill(*reload).code == 1
    assert [bar["symbol"] for bar in listed(backfill)] == ["MSFT"]
    assert backfill("quarantine", "accept", "--all", "--json").json == {"accepted": 1}
    assert listed(backfill) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("retry",), "--all"),
        (("accept",), "--all"),
        (("accept", "--all", "--symbol", "AAPL"), "--all goes without"),
        (("list", "--reason", "ugly"), "'ugly' is not one of: off_grid"),
        (("list", "--timeframe", "2h"), "'2h'"),
        (("list", "--symbol", "A'; DROP"), "A'; DROP"),
    ],
    ids=str,
)
def test_what_names_nothing_or_nothing_known_is_a_usage_error(
    backfill: Cli, arguments: tuple[str, ...], told: str
) -> None:
    ended = backfill("quarantine", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
