"""The image: what its lines do in an empty place, and how its health is judged."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from ruamel.yaml import YAML

from backfill.simulator import Simulator
from tests.conftest import Cli, query

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALLED: Final = "/opt/backfill"


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions, each a word and what is said of it."""
    text = re.sub(r"\\\n\s*", "", ROOT.joinpath("Dockerfile").read_text("utf-8"))
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, said = line.strip().partition(" ")
            yield word, said


def only(word: str) -> str:
    """What is said by the only instruction of a word."""
    [said] = [said for one, said in instructions() if one == word]
    return said


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, behind its FROM."""
    found: list[list[tuple[str, str]]] = []
    for word, said in instructions():
        if word == "FROM":
            found.append([])
        else:
            found[-1].append((word, said))
    return found


def health_check() -> list[str]:
    """The command that judges the health, as it is passed."""
    command: list[str] = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    assert command.pop(0) == "backfill"
    return command


@pytest.mark.one_database
def test_the_ledger_tells_health(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    run = cli(simulate())
    assert run(*health_check()).code != 0
    query(
        database_url,
        "INSERT INTO backfill_runs (run_id, mode, provider, started_at) "
        "VALUES (gen_random_uuid(), 'incremental', 'massive', now() - interval '6 days')",
    )
    assert run(*health_check()).code != 0
    query(database_url, "UPDATE backfill_runs SET started_at = now() - interval '4 days'")
    assert run(*health_check()).code == 0


def test_the_image_and_its_service_may_do_no_more_than_they_need() -> None:
    user = only("USER").partition(":")[0]
    assert user.isdigit()
    assert int(user) > 0
    service = YAML(typ="safe").load(ROOT.joinpath("compose.yaml"))["services"]["backfill"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    files = [name for name in service["environment"] if name.endswith("_FILE")]
    assert files == list(service["environment"])


@pytest.mark.soak
def test_the_lines_that_build_the_image_run_in_an_empty_place(tmp_path: Path) -> None:
    build, last = stages()
    folder = tmp_path
    environment = {"HOME": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}:/bin"}
    for word, said in build:
        if word == "WORKDIR":
            folder = tmp_path / said.lstrip("/")
            folder.mkdir(parents=True)
        elif word == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(said))
            environment |= {name: value for name, _, value in pairs}
            environment["VIRTUAL_ENV"] = f"{tmp_path}{INSTALLED}"
        elif word == "COPY":
            *sources, into = said.split()
            for source in sources:
                here = ROOT / source
                if here.is_dir():
                    shutil.copytree(here, folder / into, ignore=shutil.ignore_patterns("__pyc*"))
                else:
                    (folder / into).mkdir(parents=True, exist_ok=True)
                    shutil.copy(here, folder / into)
        else:
            assert word == "RUN"
            subprocess.run(
                ["/bin/sh", "-c", said], cwd=folder, env=environment, check=True, timeout=600
            )
    assert ("COPY", f"--from=build {INSTALLED} {INSTALLED}") in last
    installed = tmp_path / INSTALLED.lstrip("/") / "bin"
    entry = json.loads(dict(last)["ENTRYPOINT"])
    told = subprocess.run(
        [installed / entry[0], "--version"],
        cwd=tmp_path / "home" if (tmp_path / "home").is_dir() else tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith("backfill ")
    assert not installed.joinpath("pip").exists()
