"""What deploy/ has is valid, says command lines that are some, and may do no more than it needs."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from backfill.cli.main import app

ROOT: Final = Path(__file__).resolve().parents[2]
SYSTEMD: Final = ROOT / "deploy" / "systemd"
KUBERNETES: Final = sorted(ROOT.joinpath("deploy", "kubernetes").glob("*.yaml"))
_MOST_EXPOSED: Final = 15  # tenths; systemd calls what is below 2.0 OK, and most services are at 9


def yaml(*path: str) -> Any:
    """The only document of a file."""
    return YAML(typ="safe").load(ROOT.joinpath(*path))


def pod(path: Path) -> Any:
    """The pod that a CronJob or a Deployment makes."""
    spec = yaml(str(path))["spec"]
    return spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]


def container() -> Any:
    """The container of the CronJob."""
    [found] = pod(ROOT / "deploy" / "kubernetes" / "cronjob.yaml")["containers"]
    return found


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """The words behind `backfill`, wherever one is started."""
    service = SYSTEMD.joinpath("backfill.service").read_text("utf-8")
    yield (
        "systemd",
        re.findall(r"^ExecStart=/opt/backfill/bin/backfill (.*)$", service, re.M)[0].split(),
    )
    yield "kubernetes", container()["args"]
    dockerfile = ROOT.joinpath("Dockerfile").read_text("utf-8")
    yield "image", json.loads(re.findall(r"^CMD (.*)$", dockerfile, re.M)[0])


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in command_lines()])
def test_every_command_line_is_one(words: list[str]) -> None:
    name, *rest = words
    context = get_command(app).commands[name].make_context(name, list(rest))  # type: ignore[attr-defined]
    assert context.params["everything"]


def test_what_kubernetes_takes_is_valid_by_the_published_schemas() -> None:
    validate = Path(sys.executable).parent / "kubernetes-validate"
    words = [str(validate), "--strict", *map(str, KUBERNETES)]
    checked = subprocess.run(words, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(" passed ") == len(KUBERNETES) == 3


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_no_pod_may_do_more_than_it_needs(path: Path) -> None:
    found = pod(path)
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [one["securityContext"] for one in found["containers"]] == [
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    ]


def test_the_cron_job_runs_alone_and_reads_its_secrets_from_files() -> None:
    assert yaml("deploy", "kubernetes", "cronjob.yaml")["spec"]["concurrencyPolicy"] == "Forbid"
    assert all(one["name"].endswith("_FILE") for one in container()["env"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_units_are_valid_and_the_services_are_hardly_exposed(tmp_path: Path) -> None:
    units = []
    for path in sorted(SYSTEMD.iterdir()):
        text = path.read_text("utf-8")
        copy = tmp_path / path.name.replace("@", "@1")
        copy.write_text(text.replace("/opt/backfill/bin/backfill", "/bin/true"), encoding="utf-8")
        units.append(str(copy))
    services = [one for one in units if one.endswith(".service")]
    assert (len(units), len(services)) == (3, 2)
    verified = _told("verify", "--man=no", *units)
    assert verified.returncode == 0, verified.stderr
    assert [line for line in verified.stderr.splitlines() if "backfill" in line] == []
    for service in services:
        judged = _told("security", "--offline=true", f"--threshold={_MOST_EXPOSED}", service)
        assert judged.returncode == 0, judged.stdout


def _told(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], check=False, capture_output=True, text=True)
