"""What a provider's failures cost: retries by class, and nobody but the series they hit (R17)."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from backfill.simulator import Action, Fault, Market, Simulator
from tests.faults import tables
from tests.faults.command import Command, eventually

pytestmark = pytest.mark.soak

PASSING = {
    "AAPL": Fault(action=Action.STATUS, status=500, ticker="AAPL", times=2),
    "MSFT": Fault(action=Action.STATUS, status=503, ticker="MSFT", times=1),
    "NVDA": Fault(action=Action.STATUS, status=504, ticker="NVDA", times=1),
    "TSLA": Fault(action=Action.STATUS, status=408, ticker="TSLA", times=1),
    "AMZN": Fault(action=Action.STATUS, status=425, ticker="AMZN", times=1),
    "GOOGL": Fault(action=Action.RESET, ticker="GOOGL", times=1),
    "META": Fault(action=Action.RESET_MID_BODY, ticker="META", times=1),
    "SPY": Fault(action=Action.TRUNCATE, ticker="SPY", times=1),
    "QQQ": Fault(action=Action.RANDOM_BYTES, ticker="QQQ", times=1),
    "JPM": Fault(action=Action.HTML, ticker="JPM", times=1),
    "BRK.B": Fault(action=Action.BAD_GZIP, ticker="BRK.B", times=1),
    "SIM300": Fault(action=Action.CHARSET, ticker="SIM300", times=1),
    "JUMPY": Fault(action=Action.NESTED, ticker="JUMPY", times=1),
    "RVRS": Fault(action=Action.NAN, ticker="RVRS", times=1),
}
SINCE = ("--from", "2024-06-03")


def asked_for(simulator: Simulator, ticker: str) -> int:
    return sum(f"/{ticker}/" in f"{call.path}/" for call in simulator.calls)


def test_what_passes_is_asked_again_and_nothing_is_lost(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    for fault in PASSING.values():
        simulator.inject(fault)

    # Two that answer stand between any two that don't: the provider is never down for all.
    symbols = [
        symbol
        for number, ticker in enumerate(PASSING)
        for symbol in (f"SIM{number:03}", ticker, f"SIM{number + 100}")
    ]

    ended = command(simulator)("--symbols", ",".join(symbols), *SINCE)

    assert ended.code == 0, ended.err
    assert ended.json["series"]["complete"] == len(symbols)
    assert {ticker: asked_for(simulator, ticker) for ticker in PASSING} == {
        ticker: (fault.times or 0) + 1 for ticker, fault in PASSING.items()
    }
    assert ended.json["calls"] + ended.json["lookups"] == len(simulator.calls)
    assert ended.json["retries"] == ended.json["calls"] - len(symbols)
    assert tables.covered_bars(database_url, market) == len(symbols) * 113


def test_what_stays_is_not_asked_again_and_a_500_for_ever_fails_its_series_alone(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    for ticker, status in (("AAPL", 400), ("MSFT", 403), ("NVDA", 404), ("TSLA", 500)):
        simulator.inject(Fault(action=Action.STATUS, status=status, ticker=ticker))

    ended = command(simulator)("--symbols", "TSLA,AAPL,MSFT,NVDA,AMZN,META", *SINCE)

    assert ended.code == 1, ended.err
    assert {one["symbol"]: one["outcome"] for one in ended.json["failures"]} == {
        "AAPL": "provider_error",
        "MSFT": "not_entitled",
        "NVDA": "provider_error",
        "TSLA": "provider_error",
    }
    assert ended.json["series"] == {
        "total": 6,
        "complete": 2,
        "partial": 0,
        "failed": 4,
        "skipped": 0,
    }
    assert [asked_for(simulator, one) for one in ("AAPL", "MSFT", "NVDA", "AMZN")] == [1] * 4
    assert asked_for(simulator, "TSLA") == 4
    assert tables.covered_bars(database_url, market) == 2 * 113


def test_one_symbol_that_fails_in_every_timeframe_does_not_stop_the_others(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.STATUS, status=500, ticker="AAPL"))

    ended = command(simulator)("--symbols", "AAPL,MSFT", "--all-timeframes", "--from", "2024-10-01")

    assert ended.code == 1, ended.err
    assert ended.json["series"]["complete"] == 9
    assert {one["symbol"] for one in ended.json["failures"]} == {"AAPL"}
    assert tables.covered_bars(database_url, market) > 20_000


TICKERS = ",".join(f"SIM{number:03}" for number in range(20))


def test_a_provider_that_is_down_for_everyone_ends_the_run_after_few_calls(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.STATUS, status=503))

    ended = command(simulator)("--symbols", TICKERS)

    assert ended.code == 3, ended.err
    assert len(simulator.calls) <= 12
    assert ended.lasted_s < 30
    assert ended.json["status"] == "failed"
    assert "provider is down" in ended.json["failures"][0]["message"]
    assert tables.leases(database_url) == 0
    assert tables.ledger(database_url)[0][1] == "failed"


@pytest.mark.parametrize(
    ("symbols", "most"),
    [("AAPL", 4), pytest.param(TICKERS, 12, marks=pytest.mark.soak)],
    ids=["one", "twenty"],
)
def test_a_provider_that_refuses_connections_is_a_cause_that_all_share(
    symbols: str,
    most: int,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = command(provider())("--symbols", symbols, BACKFILL_PROVIDER_URL=nobody)
    assert ended.code == 3, ended.err
    assert 0 < ended.json["calls"] <= most
    assert ended.lasted_s < 30
    assert ended.json["failures"]
    assert tables.leases(database_url) == 0


def test_one_series_that_gets_only_500s_is_that_series_failure(
    provider: Callable[..., Simulator], command: Callable[..., Command]
) -> None:
    simulator = provider()
    simulator.inject(Fault(action=Action.STATUS, status=500))

    ended = command(simulator)("--symbol", "AAPL")

    assert ended.code == 1, ended.err
    assert len(simulator.calls) == 4
    assert [one["outcome"] for one in ended.json["failures"]] == ["provider_error"]


@pytest.mark.attack(5)
def test_a_key_that_an_answer_repeats_goes_no_further(
    provider: Callable[..., Simulator], command: Callable[..., Command]
) -> None:
    simulator = provider()
    echo = f'{{"status":"ERROR","error":"no such thing for {simulator.key}"}}'
    simulator.inject(Fault(action=Action.STATUS, status=400, ticker="AAPL", body=echo))
    simulator.inject(Fault(action=Action.STATUS, status=401, ticker="MSFT", body=echo))

    one = command(simulator)("--symbol", "AAPL")
    all_ = command(simulator)("--symbols", "AAPL,MSFT,NVDA")

    assert (one.code, all_.code) == (1, 3)
    assert "no such thing" in one.json["failures"][0]["message"]


@pytest.mark.parametrize("spelled", ["seconds", "date"])
def test_a_429_pauses_every_process_that_shares_the_key_and_fails_nothing(
    spelled: str,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator, BACKFILL_QUOTA="10/1s")
    halves = [[f"SIM{number:03}" for number in range(at, at + 15)] for at in (0, 15)]
    going = [run.start("--symbols", ",".join(half), *SINCE) for half in halves]

    def seen(since: int = 0) -> set[int]:
        bars = [call for call in simulator.calls[since:] if call.kind == "bars"]
        asked = {call.path.split("/")[4] for call in bars}
        return {number for number, half in enumerate(halves) if asked & set(half)}

    eventually(lambda: seen() == {0, 1})
    pause_s = 3.0
    until = datetime.now(UTC) + timedelta(seconds=pause_s + 1)
    wait = str(int(pause_s)) if spelled == "seconds" else format_datetime(until, usegmt=True)
    simulator.inject(
        Fault(action=Action.STATUS, status=429, headers={"Retry-After": wait}, times=1)
    )
    ended = [one.end() for one in going]

    assert [one.code for one in ended] == [0, 0], ended[0].err + ended[1].err
    assert sum(one.json["rate_limited"] for one in ended) == 1
    bars = [call for call in simulator.calls if call.kind == "bars"]
    assert sum(one.json["calls"] for one in ended) == len(bars) == 31
    (at,) = [number for number, call in enumerate(simulator.calls) if call.status == 429]
    refused = simulator.calls[at]
    # What was on its way already arrives; then there is silence, in both processes.
    later = [call for call in simulator.calls[at + 1 :] if call.at_s > refused.at_s + 0.5]
    if spelled == "seconds":
        assert later[0].at_s - refused.at_s >= pause_s
    else:
        assert later[0].at >= until.replace(microsecond=0)
    assert seen(len(simulator.calls) - len(later)) == {0, 1}
    assert tables.covered_bars(database_url, market) == 30 * 113
