"""Who else hears of a run: GitHub Actions, and a dead-man's switch."""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backfill import api
from backfill.settings import Settings
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import NOW, Cli, Ended, blocking, first_of, query
from tests.integration.store_kit import database_name

AS_OF = ("--as-of", NOW.isoformat())
HOSTILE = (
    "50%\r\n::add-mask::x | <img src=y> [z](http://evil.test) `##[error]old` @you __b__ "
    "me@mail.example"
)


def obeyed(ended: Ended) -> list[tuple[str, str, str]]:
    """What GitHub's runner would obey of both streams, as (command, title, message)."""
    found = []
    for line in re.split(r"[\r\n]+", ended.out + "\n" + ended.err):
        order = re.match(r"\s*::([\w-]+)(?: title=(.*?))?::(.*)", line)
        if order:
            found.append((order[1], order[2] or "", order[3]))
        assert "##[" not in line
    return found


def plain(escaped: str) -> str:
    for code, character in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        escaped = escaped.replace(code, character)
    return escaped


@pytest.mark.attack(4)
@pytest.mark.parametrize("form", first_of("console", "json"))
def test_in_actions_a_run_writes_a_page_and_annotations_that_nobody_can_forge(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], tmp_path: Path, form: str
) -> None:
    simulator = simulate()
    told = json.dumps({"status": "ERROR", "error": HOSTILE})
    simulator.inject(Fault(action=Action.STATUS, status=400, ticker="MSFT", body=told))
    page = tmp_path / "page.md"
    page.write_text("before\n")
    run = cli(simulator, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(page), BACKFILL_LOG=form)
    as_json = ("--json",) if form == "json" else ()
    ended = run("run", "--symbols", "AAPL,X:BTCUSD,MSFT,NOSUCH", *as_json, *AS_OF)

    assert ended.code == 1
    if as_json:
        assert ended.json["exit_code"] == 1
    [refused, unknown] = sorted(obeyed(ended))
    assert (refused[0], plain(refused[1])) == ("error", "MSFT d1: provider_error")
    safe = HOSTILE.replace("\r\n", " ").replace("##[", "# #[")
    assert plain(refused[2]).endswith(safe)
    assert (unknown[0], plain(unknown[1])) == ("error", "NOSUCH d1: unknown_symbol")

    before, text = page.read_text().split("\n", 1)
    assert before == "before"
    assert "## backfill: partial (exit 1)" in text
    [counts] = [line for line in text.splitlines() if line.startswith("| d1 |")]
    assert counts.split(" | ")[1:6] == ["4", "2", "0", "2", "0"]
    rows = sorted(line for line in text.splitlines() if line.startswith(("| MSFT", "| NOSUCH")))
    assert "<code>backfill run --symbol MSFT --timeframe d1</code>" in rows[0]
    assert "<code>backfill watch remove NOSUCH</code>" in rows[1]
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)
    for markup in ("<img", "[z]", "http:", "`", "@you", "me@", "&#64;mail", "__", "%"):
        assert markup not in text
    assert "me<span>&#64;</span>mail.example" in text


def test_a_page_that_cannot_be_written_is_a_warning(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], tmp_path: Path
) -> None:
    run = cli(simulate(), GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(tmp_path))
    ended = run("run", "--symbol", "AAPL", "--max-calls", "0", *AS_OF)
    assert ended.code == 5
    warned = [plain(message) for level, _, message in obeyed(ended) if level == "warning"]
    assert warned == [
        "the summary of the run can't be written: Is a directory",
        "--max-calls 0 is used up; the next run goes on",
    ]


def test_a_fault_of_all_is_one_annotation_and_outside_of_actions_there_is_none(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], tmp_path: Path
) -> None:
    simulator = simulate()
    run = cli(simulator)
    page = tmp_path / "page.md"
    inside = cli(
        simulator,
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(page),
        MASSIVE_API_KEY="no",
    )
    refused = inside("run", "--symbol", "AAPL", *AS_OF)
    [(level, _, message)] = obeyed(refused)
    assert (refused.code, level) == (3, "error")
    assert "MASSIVE_API_KEY" in message
    assert page.read_text().count("## backfill: failed (exit 3)") == 1
    for secret in ("DATABASE_URL", "MASSIVE_API_KEY"):
        unset: dict[str, Any] = {secret: ""}
        empty = inside("run", "AAPL", **unset)
        [(level, _, message)] = obeyed(empty)
        assert (empty.code, level) == (2, "error")
        assert f"{secret} is empty" in message
        assert f"{secret.replace('_', '&#95;')} is empty" in page.read_text()
        assert run("run", "AAPL", **unset).err == f"backfill: {message}\n"
    wrong = inside("run", "AAPL", "-t", "h2")
    assert (wrong.code, obeyed(wrong), wrong.err.count("\n")) == (2, [], 1)
    assert page.read_text().count("## backfill: exit 2") == 3
    assert obeyed(run("run", "--symbol", "NOSUCH", *AS_OF)) == []


def test_a_repair_writes_a_page_of_its_run(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str, tmp_path: Path
) -> None:
    run = cli(simulate())
    assert run("run", "--symbol", "AAPL", "--from", "2024-10-01", *AS_OF).code == 0
    query(database_url, "DELETE FROM ohlc_bars WHERE ts = '2024-10-08T04:00Z'")
    page = tmp_path / "page.md"
    assert run("gaps", "--repair", *AS_OF, GITHUB_STEP_SUMMARY=str(page)).code == 0
    assert "repair run" in page.read_text()
    assert "| d1 | 1 | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 0 |" in page.read_text()


@dataclass
class Watcher:
    """Somebody who waits for pings."""

    url: str = ""
    status: int = 200
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """A server on loopback that hears pings."""
    watcher = Watcher()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            watcher.heard.append((self.path, body))
            watcher.headers.append(dict(self.headers))
            self.send_response(watcher.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        watcher.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield watcher
        server.shutdown()


SECRET = "5ec4e7-f0r-those-who-wait"


def signals(watcher: Watcher) -> list[str]:
    return [path.removeprefix(f"/{SECRET}") for path, _ in watcher.heard]


def test_a_run_pings_at_its_start_and_again_by_how_it_ended(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], watcher: Watcher
) -> None:
    simulator = simulate()
    run = cli(simulator, BACKFILL_PING_URL=watcher.url)

    done = run("run", "--symbol", "AAPL", "--json", *AS_OF)
    assert (done.code, signals(watcher)) == (0, ["/start", ""])
    assert json.loads(watcher.heard[-1][1]) == done.json | {"error": None}
    assert done.json["calls"] + done.json["lookups"] == len(simulator.calls)
    assert not [one for one in watcher.headers if "Authorization" in one]
    watcher.heard.clear()

    failed = run("run", "--symbol", "NOSUCH", *AS_OF)
    assert (failed.code, signals(watcher)) == (1, ["/start", "/fail"])
    [failure] = json.loads(watcher.heard[-1][1])["failures"]
    assert failure["outcome"] == "unknown_symbol"
    watcher.heard.clear()

    # Nothing was verified: it stopped before its first call.
    stopped = run("run", "--symbol", "MSFT", "--max-calls", "0", *AS_OF)
    assert (stopped.code, signals(watcher)) == (5, ["/start", "/fail"])
    watcher.heard.clear()
    partly = run("run", "--symbols", "TSLA,AMZN", "--max-calls", "1", "-t", "m15", *AS_OF)
    assert (partly.code, signals(watcher)) == (5, ["/start", ""])
    watcher.heard.clear()

    assert run("run", "--symbol", "AAPL", "--dry-run", *AS_OF).code == 0
    assert watcher.heard == []


def test_a_run_that_cannot_begin_pings_the_fault_in_one_line(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], watcher: Watcher, empty_url: str
) -> None:
    nowhere = empty_url.replace(database_name(empty_url), "nowhere")
    run = cli(simulate(), BACKFILL_PING_URL=watcher.url, DATABASE_URL=nowhere)
    ended = run("run", "--symbol", "AAPL", *AS_OF)
    assert (ended.code, signals(watcher)) == (3, ["/start", "/fail"])
    [line] = [line for line in ended.err.splitlines() if line.startswith("backfill: ")]
    assert watcher.heard[-1][1].decode() == line.removeprefix("backfill: ")


@pytest.mark.wide
def test_every_round_of_a_watch_pings_and_so_does_its_end(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], watcher: Watcher
) -> None:
    simulator = simulate(now=None)
    run = cli(simulator, BACKFILL_PING_URL=watcher.url)
    assert run("watch", "add", "AAPL", "--since", "30d", "--offline").code == 0
    watching = run.start("run", "--all", "--watch", "--json")
    assert watching.stdout is not None
    round_ = json.loads(watching.stdout.readline())
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=60)

    assert watching.returncode == 130
    assert signals(watcher) == ["/start", "", "/fail"]
    told, ended = (json.loads(body) for _, body in watcher.heard[1:])
    assert told["run_id"] == round_["run_id"]
    assert (ended["watch"], ended["exit_code"]) == ("ended", 130)


@pytest.mark.attack(5)
def test_a_ping_that_fails_is_a_warning_that_holds_no_address(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], watcher: Watcher
) -> None:
    watcher.status = 500
    unheard = f"http://127.0.0.1:1/{SECRET}"
    for url, why in ((watcher.url, "status 500"), (unheard, "ClientConnectorError")):
        run = cli(simulate(), BACKFILL_PING_URL=url)
        ended = run("run", "--symbol", "AAPL", *AS_OF)
        warned = [event for event in ended.events if event["event"] == "ping.failed"]
        assert ended.code == 0
        assert [(event["signal"], event["error"]) for event in warned] == [
            ("start", why),
            ("success", why),
        ]
        assert SECRET not in ended.out + ended.err
    wrong = cli(simulate(), BACKFILL_PING_URL=SECRET)("run", "--symbol", "AAPL", *AS_OF)
    assert wrong.code == 2
    assert "BACKFILL_PING_URL" in wrong.err
    assert SECRET not in wrong.err


def test_as_a_library_a_run_tells_nobody(
    simulate: Callable[..., Simulator],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    watcher: Watcher,
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    for name, value in {
        "DATABASE_URL": database_url,
        "MASSIVE_API_KEY": "wrong",
        "BACKFILL_PROVIDER_URL": simulate().url,
        "BACKFILL_PING_URL": watcher.url,
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(page),
    }.items():
        monkeypatch.setenv(name, value)
    job = api.Job(symbols=("AAPL",), as_of=NOW)
    assert blocking(api.run(Settings.load(), job)).exit_code == 3
    assert (page.exists(), watcher.heard) == (False, [])
    assert "::error" not in capfd.readouterr().err
