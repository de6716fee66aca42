"""The workflows of .github: what their steps run is run here, as it stands.

The command is that of this checkout, or the one in the folder that ``BACKFILL_TEST_BIN`` names:
`make package` has installed the wheel there.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from backfill.core.timeframe import Timeframe
from backfill.simulator import Simulator
from tests.conftest import Cli, query

FOLDER = Path(__file__).resolve().parents[2] / ".github" / "workflows"
WORKFLOWS: dict[str, Any] = {
    path.stem: YAML(typ="safe", pure=True).load(path) for path in FOLDER.glob("*.yml")
}
OCTOBER = {"FROM": "2024-10-01", "TO": "2024-10-31", "BACKFILL_PLAN": "unlimited"}
INPUTS = ("SCHEDULE", "SYMBOLS", "TIMEFRAMES", "MODE", "FROM", "TO", "PROVIDER")
INSTALLED: Final = os.environ.get("BACKFILL_TEST_BIN")


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, values in workflow["jobs"].items():
            yield f"{name}: {job}", values


def script(workflow: str, job: str, step: str) -> str:
    """What a step runs."""
    [found] = [one for one in WORKFLOWS[workflow]["jobs"][job]["steps"] if one.get("name") == step]
    run: str = found["run"]
    return run


def values(job: str, contexts: dict[str, Any]) -> Callable[[str], str]:
    """What the expressions of a job stand for, by its contexts: ``secrets``, ``inputs``, …"""
    contexts = contexts | {"env": WORKFLOWS[job].get("env", {})}

    def term(text: str) -> str:
        if text.startswith("'"):
            return text.strip("'")
        if table := re.fullmatch(r"fromJSON\((.+)\)\[(.+)\]", text):
            found: str = json.loads(term(table[1])).get(term(table[2]), "")
            return found
        at: Any = contexts
        for name in text.split("."):
            at = at.get(name, {})
        return at or ""

    def value(text: str) -> str:
        return re.sub(
            r"\$\{\{ (.*?) \}\}",
            lambda one: next(filter(None, map(term, one[1].split(" || "))), ""),
            str(text),
        )

    return value


@pytest.fixture
def step(
    cli: Callable[..., Cli], tmp_path: Path
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a script as a runner does: by bash, with the command on the path."""
    folder = Path(INSTALLED) if INSTALLED else tmp_path / "bin"
    checkout = {} if INSTALLED else {"PYTHONPATH": str(FOLDER.parents[1])}
    if not INSTALLED:
        folder.mkdir()
        command = folder / "backfill"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backfill "$@"\n')
        command.chmod(0o755)
    here = tmp_path / "workspace"
    here.mkdir()

    def run(
        text: str, simulator: Simulator, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        given = dict.fromkeys(INPUTS, "") | {"DEADLINE_S": "60"}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
            env=os.environ
            | cli(simulator).environment
            | given
            | {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_ACTIONS": "true"}
            | checkout
            | environment,
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def job(
    step: Callable[..., "subprocess.CompletedProcess[str]"],
    cli: Callable[..., Cli],
    tmp_path: Path,
) -> Callable[..., dict[str, "subprocess.CompletedProcess[str]"]]:
    """Run what a job's steps run, but for what installs, until one fails; by their names."""
    files = {
        name: tmp_path / name for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }

    def run(
        simulator: Simulator, workflow: str, name: str, **contexts: Any
    ) -> dict[str, "subprocess.CompletedProcess[str]"]:
        given = cli(simulator).environment
        secrets = {one: given[one] for one in ("DATABASE_URL", "MASSIVE_API_KEY")}
        value = values(workflow, {"secrets": secrets, "vars": given} | contexts)
        told = {one: str(path) for one, path in files.items()} | {"RUNNER_TEMP": str(tmp_path)}
        for path in files.values():
            path.touch()
        found: dict[str, subprocess.CompletedProcess[str]] = {}
        for one in WORKFLOWS[workflow]["jobs"][name]["steps"]:
            failed = any(ended.returncode for ended in found.values())
            if "run" not in one or one["name"] == "Install" or (failed and "if" not in one):
                continue
            # What a step isn't given, it hasn't: the address of the simulator alone comes besides.
            own = WORKFLOWS[workflow].get("env", {}) | one.get("env", {})
            lacking = dict.fromkeys((*secrets, "BACKFILL_PLAN", "BACKFILL_QUOTA"), "")
            environment = lacking | {key: value(text) for key, text in own.items()}
            found[one["name"]] = step(one["run"], simulator, **told, **environment)
        return found

    return run


def stored(url: str) -> set[tuple[str, str]]:
    rows = query(
        url,
        "SELECT DISTINCT ticker, timeframe::text FROM ohlc_bars JOIN symbols ON id = symbol_id",
    )
    return {(row["ticker"], row["timeframe"]) for row in rows}


def test_no_workflow_writes_an_input_into_a_script() -> None:
    scripts = [step["run"] for _, job in jobs() for step in job["steps"] if "run" in step]
    assert len(scripts) > 10
    assert not [script for script in scripts if "${{" in script]


RELEASING: Final = {
    "release: attest": {"attestations": "write", "id-token": "write"},
    "release: publish": {"id-token": "write"},
    "release: release": {"contents": "write"},
}
"""What the jobs of a release may do instead: keep what they sign, say who they are, publish."""


def test_every_action_is_pinned_and_every_job_but_that_of_a_release_may_only_read() -> None:
    for name, job in jobs():
        for one in job["steps"]:
            if "uses" in one:
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one["uses"]), name
        workflow = WORKFLOWS[name.partition(":")[0]]
        may = RELEASING.get(name, {"contents": "read"})
        assert job.get("permissions", workflow["permissions"]) == may, name


def test_every_job_that_meets_the_database_trusts_the_authority_of_a_secret(tmp_path: Path) -> None:
    name = "Trust the database's authority"
    meeting = [
        (job, any("DATABASE_URL" in step.get("env", {}) for step in values["steps"]))
        for job, values in jobs()
    ]
    meets = [job.split(": ") for job, met in meeting if met]
    texts = {script(workflow, job, name) for workflow, job in meets}
    assert len(texts) == 1

    def run(text: str, authority: str) -> str:
        told = tmp_path / "environment"
        told.touch()
        given = {"DATABASE_CA": authority, "RUNNER_TEMP": str(tmp_path), "GITHUB_ENV": str(told)}
        subprocess.run(["bash", "-eo", "pipefail", "-c", text], env=os.environ | given, check=True)
        return told.read_text()

    [text] = texts
    assert run(text, "") == ""
    file = tmp_path / "database-ca.pem"
    assert not file.exists()
    assert run(text, "-----BEGIN $(id)\nb") == f"PGSSLMODE=verify-full\nPGSSLROOTCERT={file}\n"
    assert file.read_text() == "-----BEGIN $(id)\nb\n"


def test_a_run_ends_by_itself_before_its_job_is_killed() -> None:
    deadlines = 0
    for name, job in jobs():
        for one in job["steps"]:
            deadline_s = one.get("env", {}).get("DEADLINE_S")
            if deadline_s is not None:
                assert deadline_s + 180 < job["timeout-minutes"] * 60, name
                deadlines += 1
    assert deadlines == 2


def test_every_schedule_has_its_timeframes() -> None:
    workflow = WORKFLOWS["backfill"]
    table = json.loads(workflow["env"]["TIMEFRAMES_OF"])
    assert list(table) == [one["cron"] for one in workflow["on"]["schedule"]]
    assert table["0 */6 * * *"] == ""
    for cron, names in table.items():
        assert set(filter(None, names.split(","))) <= set(Timeframe), cron


@pytest.mark.soak
def test_a_schedule_keeps_its_timeframes_of_those_that_are_watched(
    step: Callable[..., "subprocess.CompletedProcess[str]"],
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
) -> None:
    simulator = simulate()
    for added in (("AAPL",), ("MSFT", "-t", "h1", "-t", "d1")):
        assert cli(simulator)("watch", "add", "--offline", *added).code == 0

    script_ = script("backfill", "backfill", "Run")
    scheduled = {"SCHEDULE": "25 14-21 * * 1-5", "MODE": "incremental"} | OCTOBER
    hourly = step(script_, simulator, TIMEFRAMES="m5,h1", **scheduled)
    assert (hourly.returncode, stored(database_url)) == (0, {("MSFT", "h1")}), hourly.stderr
    nothing = step(script_, simulator, TIMEFRAMES="m1", **scheduled)
    assert nothing.returncode == 0, nothing.stderr
    assert stored(database_url) == {("MSFT", "h1")}

    by_hand = step(script_, simulator, TIMEFRAMES="w1", MODE="missing", **OCTOBER)
    assert by_hand.returncode == 0, by_hand.stderr
    assert stored(database_url) == {("MSFT", "h1"), ("MSFT", "w1"), ("AAPL", "w1")}


def test_an_input_is_never_run_nor_read_as_a_flag(
    step: Callable[..., "subprocess.CompletedProcess[str]"],
    simulate: Callable[..., Simulator],
    tmp_path: Path,
) -> None:
    simulator = simulate()
    hostile = '"; touch pwned; "$(touch pwned)`touch pwned`'
    names = ("SYMBOLS", "TIMEFRAMES", "FROM", "TO", "PROVIDER")
    for inputs in (dict.fromkeys(names, hostile), {"SYMBOLS": "--help"}):
        ended = step(script("backfill", "backfill", "Run"), simulator, MODE="missing", **inputs)
        assert ended.returncode == 2, ended.stdout
    assert list((tmp_path / "workspace").iterdir()) == []
    assert simulator.calls == []


def test_a_stop_at_the_deadline_is_green_and_a_refused_key_is_red(
    step: Callable[..., "subprocess.CompletedProcess[str]"], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate()
    run = {"SYMBOLS": "AAPL", "MODE": "missing"} | OCTOBER
    stopped = step(script("backfill", "backfill", "Run"), simulator, DEADLINE_S="0", **run)
    assert stopped.returncode == 0, stopped.stderr
    refused = step(script("backfill", "backfill", "Run"), simulator, MASSIVE_API_KEY="no", **run)
    assert refused.returncode == 3


@pytest.mark.soak
def test_a_reload_deals_the_watchlist_out_and_each_share_is_fetched_again(
    step: Callable[..., "subprocess.CompletedProcess[str]"],
    cli: Callable[..., Cli],
    simulate: Callable[..., Simulator],
    database_url: str,
    tmp_path: Path,
) -> None:
    simulator = simulate()
    assert cli(simulator)("watch", "add", "--offline", "AAPL", "MSFT", "X:BTCUSD").code == 0
    output = tmp_path / "output"

    dealt = step(
        script("reload", "shards", "Deal the symbols out"),
        simulator,
        SHARDS="2",
        GITHUB_OUTPUT=str(output),
    )
    assert dealt.returncode == 0, dealt.stderr
    [line] = output.read_text().splitlines()
    shards = json.loads(line.removeprefix("shards="))
    assert shards == ["AAPL,X:BTCUSD", "MSFT"]

    for shard in shards:
        done = step(script("reload", "reload", "Run"), simulator, SYMBOLS=shard, **OCTOBER)
        assert done.returncode == 0, done.stderr
    assert stored(database_url) == {(one, "d1") for one in ("AAPL", "MSFT", "X:BTCUSD")}

    named = step(
        script("reload", "shards", "Deal the symbols out"),
        simulator,
        SHARDS="4",
        SYMBOLS="BRK.B,$(id)",
        GITHUB_OUTPUT=str(output),
    )
    assert named.returncode == 0
    assert output.read_text().splitlines()[-1] == 'shards=["BRK.B","$(id)"]'


@pytest.mark.soak
def test_the_workflows_keep_a_database_as_their_steps_stand(
    job: Callable[..., dict[str, "subprocess.CompletedProcess[str]"]],
    step: Callable[..., "subprocess.CompletedProcess[str]"],
    simulate: Callable[..., Simulator],
    database_url: str,
    tmp_path: Path,
) -> None:
    simulator = simulate(now=None)

    def codes(*names: str, **contexts: Any) -> dict[str, int]:
        ended = job(simulator, *names, **contexts)
        assert not any("Traceback" in one.stderr for one in ended.values())
        return {name: one.returncode for name, one in ended.items()}

    def bars() -> list[Any]:
        return query(database_url, "SELECT * FROM ohlc_bars ORDER BY symbol_id, timeframe, ts")

    # Nothing is watched yet: that is a mistake, and the report is written all the same.
    trusted = {"Trust the database's authority": 0}
    schedule = {"github": {"event": {"schedule": "0 */6 * * *"}}}
    assert codes("backfill", "backfill", **schedule) == trusted | {"Run": 2, "Write the report": 0}

    watched = step("backfill watch add --offline AAPL MSFT --since 30d -t d1", simulator)
    assert watched.returncode == 0, watched.stderr
    assert codes("backfill", "backfill", **schedule) == trusted | {"Run": 0, "Write the report": 0}
    before = bars()
    assert len(before) > 30
    workspace = tmp_path / "workspace"
    assert "AAPL" in (workspace / "report.html").read_text("utf-8")
    assert json.loads((workspace / "badge.json").read_text("utf-8"))["schemaVersion"] == 1

    query(database_url, "DELETE FROM ohlc_bars WHERE ts = $1", before[5]["ts"])
    assert len(bars()) == len(before) - 2
    found = codes("gaps", "gaps", inputs={"calls": "5"})
    assert len(found) == 6
    assert set(found.values()) == {0}
    assert bars() == before
    assert "| AAPL" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text("utf-8")

    dealt = codes("reload", "shards", inputs={"shards": "2"})
    assert set(dealt.values()) == {0}
    output = (tmp_path / "GITHUB_OUTPUT").read_text("utf-8").splitlines()[-1]
    calls = len(simulator.calls)
    for symbols in json.loads(output.removeprefix("shards=")):
        again = codes("reload", "reload", matrix={"symbols": symbols})
        assert set(again.values()) == {0}
    assert len(simulator.calls) > calls
    assert bars() == before
