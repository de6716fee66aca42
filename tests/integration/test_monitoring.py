"""What Prometheus makes of the metrics: they are valid, alerts are raised, a dashboard has data."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from ruamel.yaml import YAML

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli
from tests.hosts import _free_port
from tests.integration.serve_kit import server_in_thread

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
RULES: Final = DEPLOY / "prometheus"
PROMTOOL, SERVER = shutil.which("promtool"), shutil.which("prometheus")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.one_database,
    pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool; Debian's prometheus has it"),
]


@pytest.fixture
def metrics(simulate: Callable[..., Simulator], cli: Callable[..., Cli]) -> str:
    """The metrics of two series, of which bars are due and some are missing."""
    run = cli(simulate())
    assert run("watch", "add", "--offline", "AAPL", "X:BTCUSD", "--since", "30d").code == 0
    assert run("run", "--all", "--as-of", NOW.isoformat()).code == 0
    later = NOW.replace(day=NOW.day + 6)
    shown = run("status", "--format", "prometheus", "--as-of", later.isoformat())
    assert shown.code == 4
    return shown.out


def queries() -> list[str]:
    """Every query of the dashboard."""
    panels = json.loads(DEPLOY.joinpath("grafana", "backfill.json").read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_metrics_are_valid_and_the_rules_and_panels_speak_of_no_others(metrics: str) -> None:
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"],
        input=metrics,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (checked.stdout, checked.stderr) == ("", "")
    told = set(re.findall(r"^# TYPE (\w+) gauge$", metrics, re.M))
    groups = YAML(typ="safe").load(RULES / "alerts.yaml")["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    spoken = set(re.findall(r"\bbackfill_\w+", " ".join([*rules, *queries()])))
    assert spoken <= told


def test_each_alert_is_raised_by_what_it_is_for() -> None:
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        subprocess.run([str(PROMTOOL), *words], cwd=RULES, capture_output=True, check=True)
    tested = RULES.joinpath("alerts_test.yaml").read_text("utf-8")
    groups = YAML(typ="safe").load(RULES / "alerts.yaml")["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {name for name in names if f'alertname="{name}"' in tested} == names


@pytest.mark.skipif(SERVER is None, reason="there is no prometheus")
def test_every_query_of_the_dashboard_finds_something_in_real_metrics(
    metrics: str, tmp_path: Path
) -> None:
    tmp_path.joinpath("metrics").write_text(metrics, encoding="utf-8")
    with _served(tmp_path) as target, _prometheus(tmp_path, target) as ask:
        _until(lambda: bool(_samples(ask, "backfill_bars")))
        assert [query for query in queries() if not _samples(ask, query)] == []


@pytest.mark.skipif(SERVER is None, reason="there is no prometheus")
def test_prometheus_takes_what_is_served_as_openmetrics(
    metrics: str, database_url: str, tmp_path: Path
) -> None:
    with (
        server_in_thread(database_url) as url,
        _prometheus(tmp_path, url.removeprefix("http://")) as ask,
    ):
        _until(lambda: bool(_samples(ask, "backfill_bars")))
        told = ask("metadata")
        served = _samples(ask, '{__name__=~"backfill_.+"}')
    names = {one["metric"]["__name__"] for one in served}
    of_status = set(re.findall(r"^# TYPE (\w+) gauge$", metrics, re.M))
    assert of_status <= names
    assert {name for name in names - of_status if not name.startswith("backfill_queue_")} == set()
    # Only OpenMetrics tells units.
    assert told["backfill_covered_ratio"][0]["unit"] == "ratio"


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield the address."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def guess_type(self, path: Any) -> str:  # noqa: ARG002 - there is one file
        return "text/plain; version=0.0.4"


@contextmanager
def _prometheus(folder: Path, target: str) -> Iterator[Callable[..., Any]]:
    """Run a server that asks a target every second; yield what asks it, by its own API."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "backfill", "static_configs": [{"targets": [target]}]}],
    }
    path, port = folder / "prometheus.yml", _free_port()
    path.write_text(json.dumps(config), encoding="utf-8")
    words = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
    with subprocess.Popen(
        [str(SERVER), *words, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:

        def ask(what: str, **words: str) -> Any:
            url = f"http://127.0.0.1:{port}/api/v1/{what}?{urlencode(words)}"
            try:
                with urlopen(url) as answer:
                    return json.load(answer)["data"]
            except OSError:  # it isn't up yet, or refuses the query
                return None

        try:
            yield ask
        finally:
            process.terminate()


def _samples(ask: Callable[..., Any], query: str) -> list[Any]:
    """What a query finds; nothing while the server isn't up."""
    found: list[Any] = (ask("query", query=query) or {"result": []})["result"]
    return found


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("the metrics were never there")
