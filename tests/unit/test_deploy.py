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
_MOST_EXPOSED: Final = 15  # tenths; systemd calls what is below 2.0 OK, and most services are at 9


def yaml(*path: str) -> Any:
    """The only document of a file."""
    return YAML(typ="safe").load(ROOT.joinpath(*path))


def container() -> Any:
    """The container of the CronJob."""
    job = yaml("deploy", "kubernetes", "cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    [found] = job["template"]["spec"]["containers"]
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


def test_the_cron_job_is_valid_and_may_do_no_more_than_it_needs() -> None:
    path = ROOT / "deploy" / "kubernetes" / "cronjob.yaml"
    validate = Path(sys.executable).parent / "kubernetes-validate"
    subprocess.run([str(validate), "--strict", str(path)], check=True, capture_output=True)
    assert yaml("deploy", "kubernetes", "cronjob.yaml")["spec"]["concurrencyPolicy"] == "Forbid"
    may = container()["securityContext"]
    assert may == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(one["name"].endswith("_FILE") for one in container()["env"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_units_are_valid_and_the_service_is_hardly_exposed(tmp_path: Path) -> None:
    units = []
    for name in ("backfill.service", "backfill.timer"):
        text = SYSTEMD.joinpath(name).read_text("utf-8")
        copy = tmp_path / name
        copy.write_text(text.replace("/opt/backfill/bin/backfill", "/bin/true"), encoding="utf-8")
        units.append(str(copy))
    verified = _told("verify", "--man=no", *units)
    assert verified.returncode == 0, verified.stderr
    assert [line for line in verified.stderr.splitlines() if "backfill" in line] == []
    judged = _told("security", "--offline=true", f"--threshold={_MOST_EXPOSED}", units[0])
    assert judged.returncode == 0, judged.stdout


def _told(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], check=False, capture_output=True, text=True)
