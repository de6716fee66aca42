"""What flags mean, and that every fault in them is a usage error."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill.cli import arguments
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.errors import UsageError
from backfill.run.job import Job


def job(**flags: Any) -> Job:
    """The job of `backfill run` with these flags and no others."""
    unset: dict[str, Any] = {
        "symbol": None,
        "symbols": None,
        "everything": False,
        "timeframe": None,
        "all_timeframes": False,
        "as_watched": False,
        "incremental": False,
        "reload": False,
        "first": None,
        "last": None,
        "as_of": None,
        "max_calls": None,
        "deadline_s": None,
    }
    return arguments.job(**unset | flags)


def test_one_symbol_alone_has_every_default() -> None:
    assert job(symbol=["AAPL"]) == Job(
        symbols=("AAPL",),
        timeframes=None,
        mode=Mode.default,
        first=None,
        last=None,
        as_of=None,
        max_calls=None,
        deadline_s=None,
    )


@pytest.mark.parametrize(
    ("flags", "symbols"),
    [
        ({"symbol": ["AAPL", "MSFT"]}, ("AAPL", "MSFT")),
        ({"symbols": "AAPL,BRK.B,X:BTCUSD,ETH/USD"}, ("AAPL", "BRK.B", "X:BTCUSD", "ETH/USD")),
        ({"symbols": " AAPL , MSFT\n"}, ("AAPL", "MSFT")),
        ({"symbol": ["AAPL"], "symbols": "MSFT,AAPL"}, ("AAPL", "MSFT")),
        ({"everything": True}, None),
    ],
)
def test_symbols_are_named_in_either_way_and_each_counts_once(
    flags: dict[str, Any], symbols: tuple[str, ...] | None
) -> None:
    assert job(**flags).symbols == symbols


@pytest.mark.parametrize(
    ("flags", "timeframes"),
    [
        ({"timeframe": ["d1"]}, (Timeframe.d1,)),
        ({"timeframe": ["d1", "m1", "d1"]}, (Timeframe.m1, Timeframe.d1)),
        ({"timeframe": ["h1, m5", "mn1"]}, (Timeframe.m5, Timeframe.h1, Timeframe.mn1)),
        ({"all_timeframes": True}, tuple(Timeframe)),
    ],
)
def test_timeframes_are_named_finest_first_and_once(
    flags: dict[str, Any], timeframes: tuple[Timeframe, ...]
) -> None:
    assert job(symbol=["AAPL"], **flags).timeframes == timeframes


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ({}, Mode.default),
        ({"incremental": True}, Mode.incremental),
        ({"reload": True}, Mode.reload),
    ],
)
def test_a_mode_is_named_by_its_flag(flags: dict[str, Any], mode: Mode) -> None:
    assert job(symbol=["AAPL"], **flags).mode is mode


def test_bounds_limits_and_the_clock_are_carried_over() -> None:
    made = job(
        symbol=["AAPL"],
        first="2024-07-03",
        last="2024-07-05T13:30:00Z",
        as_of="2024-07-08T09:00:00-04:00",
        max_calls=0,
        deadline_s=1.5,
    )
    assert made.first == Bound(date(2024, 7, 3))
    assert made.last == Bound(datetime(2024, 7, 5, 13, 30, tzinfo=UTC))
    assert made.as_of == datetime(2024, 7, 8, 13, tzinfo=UTC)
    assert (made.max_calls, made.deadline_s) == (0, 1.5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "backfill run AAPL"),
        ({"symbol": []}, "backfill run AAPL"),
        ({"symbols": ""}, "is not a symbol"),
        ({"symbols": "AAPL,,MSFT"}, "is not a symbol"),
        ({"symbols": "AAPL,"}, "is not a symbol"),
        ({"symbol": ["A APL"]}, "is not a symbol"),
        ({"symbol": ["AAPL; DROP TABLE symbols"]}, "is not a symbol"),
        ({"symbol": ["../../etc"]}, "is not a symbol"),
        ({"symbol": ["A" * 33]}, "is not a symbol"),
        ({"symbol": ["O:AAPL251219C00200000"]}, "only stocks"),
        ({"symbol": ["I:SPX"]}, "only stocks"),
        ({"symbol": ["AAPL"], "everything": True}, "--all"),
        ({"symbols": "AAPL", "everything": True}, "--all"),
        ({"symbol": ["AAPL"], "incremental": True, "reload": True}, "--reload"),
        ({"symbol": ["AAPL"], "timeframe": ["m2"]}, "m1 m5 m15 m30 h1 h4 d1 w1 mn1"),
        ({"symbol": ["AAPL"], "timeframe": ["D1"]}, "'D1'"),
        ({"symbol": ["AAPL"], "timeframe": ["1d"]}, "'1d'"),
        ({"symbol": ["AAPL"], "timeframe": ["d1,"]}, "''"),
        ({"symbol": ["AAPL"], "timeframe": [""]}, "''"),
        ({"symbol": ["AAPL"], "timeframe": ["d1"], "all_timeframes": True}, "--all-timeframes"),
        ({"symbol": ["AAPL"], "first": ""}, "2024-07-03"),
        ({"symbol": ["AAPL"], "first": "yesterday"}, "'yesterday'"),
        ({"symbol": ["AAPL"], "last": "2024-07-03T13:30"}, "no time zone"),
        ({"symbol": ["AAPL"], "as_of": "noon"}, "'noon'"),
        ({"symbol": ["AAPL"], "as_of": "2024-07-03T13:30"}, "no time zone"),
        ({"symbol": ["AAPL"], "max_calls": -1}, "--max-calls"),
        ({"symbol": ["AAPL"], "timeframe": ["d1"], "as_watched": True}, "--as-watched"),
        ({"everything": True, "as_watched": True}, "--as-watched"),
        ({"symbol": ["AAPL"], "deadline_s": -1.0}, "--deadline"),
        ({"symbol": ["AAPL"], "deadline_s": float("nan")}, "--deadline"),
    ],
)
def test_a_fault_in_the_flags_is_a_usage_error_that_says_what_to_mend(
    flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        job(**flags)
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_status_is_a_table_unless_another_format_is_named() -> None:
    assert arguments.status_format(None, as_json=False) == "table"
    assert arguments.status_format(None, as_json=True) == "json"
    assert arguments.status_format("json", as_json=True) == "json"
    assert arguments.status_format("prometheus", as_json=False) == "prometheus"
    for name, as_json in (("yaml", False), ("markdown", True)):
        with pytest.raises(UsageError, match="format"):
            arguments.status_format(name, as_json=as_json)


@pytest.mark.parametrize(
    ("flags", "dry_run", "named"),
    [
        ({"symbol": ["AAPL"]}, False, "--all"),
        ({"everything": True, "reload": True}, False, "--reload"),
        ({"everything": True, "as_of": "2024-11-12"}, False, "--as-of"),
        ({"everything": True}, True, "--dry-run"),
    ],
)
def test_a_flag_that_makes_no_sense_round_after_round_goes_without_watch(
    flags: dict[str, Any], dry_run: bool, named: str
) -> None:
    with pytest.raises(UsageError, match=f"--watch goes .*{named}"):
        arguments.check_watch(job(**flags), dry_run=dry_run)


@pytest.mark.parametrize("flags", [{}, {"incremental": True}, {"max_calls": 9, "deadline_s": 60.0}])
def test_all_can_be_watched(flags: dict[str, Any]) -> None:
    arguments.check_watch(job(everything=True, **flags), dry_run=False)


def test_symbols_behind_a_command_and_those_of_flags_count_alike() -> None:
    found = arguments.symbols_named(["AAPL,MSFT", "X:BTCUSD"], ["BRK.B"])
    assert found == ["AAPL", "MSFT", "X:BTCUSD", "BRK.B"]
    assert arguments.symbols_named(None, None) == []


def test_a_length_back_is_counted_from_the_clock_that_the_flags_fix() -> None:
    asked = job(symbol=["AAPL"], first="1w", last="1d", as_of="2024-11-12T12:00Z")
    assert (asked.first, asked.last) == (Bound(date(2024, 11, 5)), Bound(date(2024, 11, 11)))
