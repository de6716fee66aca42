"""What becomes of a watched symbol is announced, with the command to type."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backfill.simulator import Simulator
from tests.conftest import Cli, Ended, query

Run = Callable[..., Ended]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of GitHub Actions."""
    return tmp_path / "summary.md"


@pytest.fixture
def backfill(simulator: Simulator, cli: Callable[..., Cli], page: Path) -> Cli:
    return cli(simulator, BACKFILL_PLAN="unlimited", GITHUB_STEP_SUMMARY=str(page))


@pytest.fixture
def run(simulator: Simulator, backfill: Cli) -> Run:
    """Run a command as of a day's noon."""

    def one(day: str, *words: str) -> Ended:
        now = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
        simulator.set_now(now)
        return backfill(*words, "--as-of", now.isoformat())

    return one


def test_a_watched_ticker_that_was_renamed_is_told_of_with_the_command_to_type(
    simulator: Simulator, backfill: Cli, run: Run, page: Path, database_url: str
) -> None:
    added = ("watch", "add", "--offline", "OLDNM", "-t", "h1,d1", "--since", "2024-04-01")
    assert backfill(*added).code == 0
    assert run("2024-05-18", "run", "--all", "--json").json["symbol_events"] == []
    assert query(database_url, "SELECT figi FROM symbols") == [(None,)]

    noticed = run("2024-05-22", "run", "--all", "--json")

    message, follow = "OLDNM is NEWNM since 2024-05-18", "backfill watch add NEWNM -t h1,d1"
    [event] = noticed.json["symbol_events"]
    assert (noticed.code, event) == (
        0,
        {
            "symbol": "OLDNM",
            "event": "renamed",
            "on": "2024-05-18",
            "name": "NEWNM",
            "message": message,
            "commands": [f"{follow} --since 2024-04-01", "backfill watch remove OLDNM"],
            "is_new": True,
        },
    )
    assert message in page.read_text()
    assert follow in page.read_text()

    calls = len(simulator.calls)
    again = run("2024-06-03", "run", "--all")
    status = run("2024-06-03", "status")
    assert (again.code, status.code, len(simulator.calls)) == (0, 0, calls)
    line = f"{message}: {follow} --since 2024-04-01 && backfill watch remove OLDNM"
    for told in (again, status, backfill("symbols", "list")):
        assert line in told.out.splitlines()
    [known] = run("2024-06-03", "status", "--json").json["symbol_events"]
    assert known == event | {"is_new": False}

    for command in event["commands"]:
        typed = backfill(*command.split()[1:])
        assert typed.code == 0, typed.err
    after = run("2024-06-03", "run", "--all", "--json")
    assert (after.code, after.json["symbol_events"]) == (0, [])
    assert "symbol_events" not in run("2024-06-03", "status", "--json").json


@pytest.mark.soak
def test_a_delisting_is_told_of_and_nothing_is_due_after_it(
    backfill: Cli, run: Run, simulator: Simulator
) -> None:
    backfill("watch", "add", "--offline", "DEADCO", "--since", "2024-08-01")
    assert run("2024-08-31", "run", "--all", "--json").json["symbol_events"] == []

    noticed = run("2024-09-05", "run", "--all")

    line = "DEADCO was delisted on 2024-08-30; its bars stay: backfill watch remove DEADCO"
    assert noticed.code == 0, noticed.err
    calls = len(simulator.calls)
    status = run("2024-10-01", "status")
    assert (status.code, run("2024-10-01", "run", "--all").code, len(simulator.calls)) == (
        0,
        0,
        calls,
    )
    for told in (noticed, status, backfill("symbols", "list")):
        assert line in told.out.splitlines()


@pytest.mark.soak
def test_a_new_owner_is_told_of_and_a_ticker_that_is_gone_without_a_word(
    backfill: Cli, run: Run, simulator: Simulator, database_url: str
) -> None:
    backfill("watch", "add", "--offline", "REUSE", "SIM001", "--since", "2024-06-03")
    assert run("2024-06-29", "run", "--all").code == 0
    query(database_url, "UPDATE symbols SET ticker = 'NOSUCH' WHERE ticker = 'SIM001'")

    noticed = run("2025-03-12", "run", "--all", "--json")

    events = {one["symbol"]: one for one in noticed.json["symbol_events"]}
    assert (events["REUSE"]["event"], events["REUSE"]["on"]) == ("new_owner", "2025-01-15")
    assert events["REUSE"]["commands"] == ["backfill symbols retire REUSE"]
    assert events["NOSUCH"]["event"] == "gone"
    assert events["NOSUCH"]["commands"] == ["backfill watch remove NOSUCH"]

    query(database_url, "UPDATE backfill_progress SET newest_bar = now() + interval '1 day'")
    status = run("2025-03-12", "status", "--json")  # it trades again
    assert [one["symbol"] for one in status.json["symbol_events"]] == ["REUSE"]


def test_what_stayed_unknown_for_three_runs_is_set_aside_until_it_is_resumed(
    backfill: Cli, run: Run, simulator: Simulator, page: Path
) -> None:
    backfill("watch", "add", "--offline", "APPL", "AAPL", "--since", "2024-11-01")
    day = "2024-11-12"
    for before in range(3):
        asked = run(day, "run", "--all", "--json")
        assert (asked.code, asked.json["failures"][0]["outcome"]) == (1, "unknown_symbol")
        assert [one["event"] for one in asked.json["symbol_events"]] == ["unknown"] * (before == 2)
    assert "backfill watch resume APPL" in page.read_text()
    calls = len(simulator.calls)

    later = run(day, "run", "--all")

    assert (later.code, len(simulator.calls)) == (0, calls)
    line = (
        "APPL (did you mean AAPL?) is set aside: the provider didn't know it in 3 runs, and `run "
        "--all` asks for it no more; to have it asked for again: backfill watch resume APPL"
    )
    status = run(day, "status")
    assert status.code == 0
    for told in (later, status, backfill("watch", "list")):
        assert line in told.out.splitlines()
    listed = backfill("watch", "list", "--json").json["watchlist"]
    assert [one.get("set_aside") for one in listed] == [None, "unknown_symbol"]
    assert run(day, "run", "--symbol", "AAPL", "--json").json["symbol_events"] == []

    assert "set_aside" not in backfill("watch", "resume", "APPL", "--json").out
    assert run(day, "run", "--all").code == 1
    assert len(simulator.calls) > calls
