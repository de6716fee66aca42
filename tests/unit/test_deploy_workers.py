"""The examples that run workers are what systemd and Kubernetes take, and let workers leave."""

import configparser
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_LEAVES_S = 10


def read(name: str) -> Any:
    return YAML(typ="safe").load((DEPLOY / "kubernetes" / name).read_text())


def container_of(found: Any) -> Any:
    """The only container of a Deployment or a CronJob."""
    spec = found["spec"]["jobTemplate"]["spec"] if found["kind"] == "CronJob" else found["spec"]
    [one] = spec["template"]["spec"]["containers"]
    return one


def test_the_unit_runs_a_worker_and_lets_it_hand_its_jobs_back() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # options keep their case
    unit.read(DEPLOY / "systemd" / "backfill-worker@.service")
    assert set(unit) - {"DEFAULT"} == {"Unit", "Service", "Install"}
    service = unit["Service"]
    assert service["ExecStart"].startswith("/opt/backfill/bin/backfill worker ")
    run = (DEPLOY / "systemd" / "backfill.service").read_text()
    assert f"LoadCredential={service['LoadCredential']}\n" in run
    assert int(service["TimeoutStopSec"]) > _LEAVES_S
    assert service["SuccessExitStatus"] == "130"


def test_the_deployment_runs_workers_and_lets_them_hand_their_jobs_back() -> None:
    found = read("workers.yaml")
    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "Deployment")
    template = found["spec"]["template"]
    assert found["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert template["spec"]["terminationGracePeriodSeconds"] > _LEAVES_S
    [container] = template["spec"]["containers"]
    assert container["args"][0] == "worker"


@pytest.mark.parametrize("name", ["workers", "enqueue"])
def test_they_take_the_secret_and_the_image_that_the_run_takes(name: str) -> None:
    container, run = container_of(read(f"{name}.yaml")), container_of(read("cronjob.yaml"))
    assert container["image"] == run["image"]
    keys = [Path(one["value"]).name for one in run["env"]]
    refs = [one["valueFrom"]["secretKeyRef"] for one in container["env"]]
    assert [one["key"] for one in refs] == keys
    assert [one["name"].lower() for one in container["env"]] == keys
    assert {one["name"] for one in refs} == {"backfill"}


def test_the_cron_job_enqueues_one_at_a_time() -> None:
    found = read("enqueue.yaml")
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "CronJob")
    assert found["spec"]["concurrencyPolicy"] == "Forbid"
    template = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert template["restartPolicy"] == "Never"
    assert template["containers"][0]["args"][0] == "enqueue"


@pytest.mark.parametrize(
    "arguments",
    [
        container_of(read("workers.yaml"))["args"],
        container_of(read("enqueue.yaml"))["args"],
    ],
)
def test_their_commands_are_ones_that_there_are(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from backfill.cli import main

    monkeypatch.setattr("sys.argv", ["backfill", *arguments])
    for name in ("DATABASE_URL", "MASSIVE_API_KEY"):
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "DATABASE_URL is empty" in capsys.readouterr().err
