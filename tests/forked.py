"""Commands from a process that has imported what they import: most of what a short one costs.

Each command is a process of its own, forked from one that has done nothing yet; it reads its
arguments and environment and ends as ``python -m backfill`` does. As a script this module is that
process: one line of JSON asks for a command, one line tells its number, and one its exit code.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Timer
from typing import Any, NoReturn

_SCRIPT = Path(__file__).resolve()
_IMPORTED = (
    "backfill.admin.symbols",
    "backfill.admin.watchlist",
    "backfill.audit.look",
    "backfill.audit.repair",
    "backfill.audit.status",
    "backfill.cli.arguments",
    "backfill.cli.foreground",
    "backfill.cli.main",
    "backfill.fetch.client",
    "backfill.fetch.quota",
    "backfill.notify.report",
    "backfill.present.gaps",
    "backfill.present.listings",
    "backfill.present.show",
    "backfill.present.status",
    "backfill.present.terminal",
    "backfill.providers.massive_bars",
    "backfill.providers.massive_lists",
    "backfill.run.execution",
    "backfill.run.fetching",
    "backfill.store.embedded",
    "backfill.store.quota",
    "exchange_calendars",
    "pydantic.type_adapter",
    "typer._adapters",
)
"""What most commands import, and the calendars, which take longer than all the rest."""


class Forks:
    """Processes that wait for a command to run, as many as commands ran at once."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[str]] = []
        self._lock = Lock()

    def run(
        self, arguments: list[str], environment: dict[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code and what it printed.

        Raises
        ------
        subprocess.TimeoutExpired
            If it takes longer; then it is killed.
        """
        with self.start(arguments, environment) as going:
            return going.end(timeout)

    @contextmanager
    def start(
        self,
        arguments: list[str],
        environment: dict[str, str],
        terminal: str | None = None,
        *,
        quiet: bool = False,
    ) -> Iterator["Forked"]:
        """Start a command, which has to be waited for within the context.

        What it prints goes to files, or to the terminal of a path, which it then reads as well; if
        ``quiet``, what it says on stderr goes nowhere.
        """
        process = self._taken()
        with TemporaryDirectory(prefix="backfill-command-") as folder:
            asked = {
                "arguments": arguments,
                "environment": environment,
                "folder": str(Path.cwd()),
                "in": terminal or os.devnull,
                "out": terminal or str(Path(folder, "out")),
                "err": os.devnull if quiet else terminal or str(Path(folder, "err")),
            }
            for name in ("out", "err"):
                Path(folder, name).touch()  # it may be killed before it has opened them
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            yield Forked(process, int(process.stdout.readline()), arguments, Path(folder))
            if process.poll() is None:
                with self._lock:
                    self._idle.append(process)

    def close(self) -> None:
        """End the processes; none is at work."""
        for process in self._idle:
            process.communicate()

    def _taken(self) -> "subprocess.Popen[str]":
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return subprocess.Popen(
            [sys.executable, str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )


@dataclass(frozen=True)
class Forked:
    """A command under way, in the process of a number."""

    parent: "subprocess.Popen[str]"
    number: int
    arguments: list[str]
    folder: Path

    def kill(self) -> None:
        """Kill it as a power cut would; it is to be waited for all the same."""
        with suppress(ProcessLookupError):
            os.kill(self.number, signal.SIGKILL)

    def end(self, timeout: float) -> tuple[int, str, str]:
        """Wait for the end; return the exit code and what was printed.

        Raises
        ------
        subprocess.TimeoutExpired
            If it takes longer; then it is killed.
        """
        assert self.parent.stdout is not None
        killer = Timer(timeout, _kill, (self.parent,))
        killer.start()
        try:
            answer = self.parent.stdout.readline()
        finally:
            killer.cancel()
        out, err = (self._printed(name) for name in ("out", "err"))
        if not answer:
            self.parent.wait()
            raise subprocess.TimeoutExpired(self.arguments, timeout, out, err)
        return int(answer), out, err

    def _printed(self, name: str) -> str:
        path = Path(self.folder, name)
        return path.read_text("utf-8") if path.exists() else ""


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _serve() -> None:
    """Fork for each line; a fork returns, as the process that was asked for."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
            return
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    os._exit(0)


def _become(asked: dict[str, Any]) -> None:
    os.dup2(os.open(asked["in"], os.O_RDONLY), 0)
    for number, path in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["backfill", *asked["arguments"]]


def _end() -> NoReturn:
    """Run the command and end as an interpreter does, but for freeing what is freed anyhow."""
    code: object = 0
    try:
        runpy.run_module("backfill", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except Exception:  # noqa: BLE001 - the top of the process
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    _serve()
    _end()
