"""The embedded server's processes: its files are made, it is started, stopped and recognised.

Root may run no server, so where root runs the command the server has a user of its own. That user
need not be able to reach the files by their path, and nobody's permissions are widened for it: the
server is started inside its folder and knows it as the folder that it is in. So no path of a user's
is on a command line either, where pg_ctl and initdb would pass it through a shell.
"""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psutil

from backfill.errors import DatabaseError, UsageError
from backfill.store.programs import ROOT, Account, account_of, programs_for

TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.01
# What a server is made and run with must not depend on who comes first.
_FOREIGN: Final = ("PG", "LC_", "LANG", "TZ")
_OWN: Final = {"LC_ALL": "C", "TZ": "UTC"}
_STATUS_LINE: Final = 7
_HERE: Final = "/proc/self/cwd"
"""A path of the folder that a process is in, whoever may enter the folders above it."""


class DidNotStart(DatabaseError):
    """A server that was started isn't there."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The server on a folder of files; the folder need not be there."""

    folder: Path

    @property
    def url(self) -> str:
        """Where the server listens: on a socket among its files."""
        return f"postgresql://postgres:@/postgres?host={self.folder}"

    @property
    def has_files(self) -> bool:
        """Whether there are files of a server, be they whole or not."""
        return (self.folder / "PG_VERSION").exists()

    def start(self) -> None:
        """Make the files where there are none, and start the server on them.

        Raises
        ------
        DidNotStart
            If it doesn't start.
        UsageError
            If it can't run here, or the files are somebody's for whom it can't.
        OSError
            If the folder can't be one.
        """
        account = self._account()
        programs = programs_for(account)
        here = _HERE if ROOT else "."
        if not self.has_files:
            make = ("-D", here, "-U", "postgres", "--auth=trust", "--encoding=utf8")
            self._run((programs / "initdb", *make, "--set", self._mark), account)
        start = ("-D", here, "-w", "-t", f"{TIMEOUT_S:.0f}", "-l", "log")
        options = f"-h '' -k . -c {self._mark}"
        self._run((programs / "pg_ctl", *start, "-o", options, "start"), account)

    def stop(self) -> None:
        """Stop the server, if it runs, and wait until it has."""
        process = self.process()
        if process is not None:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
                _await_end(process)

    @property
    def is_ready(self) -> bool:
        """Whether the server says so."""
        lines = self._pid_file.read_text(encoding="utf-8").splitlines()
        return bool(lines[_STATUS_LINE:]) and lines[_STATUS_LINE].strip() == "ready"

    def forget(self) -> None:
        """Clear away the pid file of a server that is gone."""
        self._pid_file.unlink(missing_ok=True)

    def process(self) -> psutil.Process | None:
        """Return the server's process; another may have got the number that its file tells."""
        try:
            process = psutil.Process(int(self._pid_file.read_text(encoding="utf-8").split("\n")[0]))
            is_ours = process.name().startswith("postgres") and self._is_of(process.cmdline())
            return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def end_makers(self) -> None:
        """End whatever is at work on the files that a killed user was making."""
        for process in psutil.process_iter(["name", "cmdline"]):
            is_maker = (process.info["name"] or "").startswith(("initdb", "pg_ctl", "postgres"))
            if is_maker and self._is_of(process.info["cmdline"] or ()):
                with suppress(psutil.Error):
                    process.kill()
                    _await_end(process)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "postmaster.pid"

    @property
    def _mark(self) -> str:
        """A setting that tells the processes on these files from those on others."""
        return f"cluster_name=backfill-{sha256(os.fsencode(self.folder)).hexdigest()[:16]}"

    def _is_of(self, command: Sequence[str]) -> bool:
        # Servers that were started before they were marked have the path.
        return self._mark in command or str(self.folder) in command

    def _account(self) -> Account | None:
        """Make the folder where there is none; return whom the server runs as, None for oneself."""
        with suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)
        there = self.folder.lstat()
        if not stat.S_ISDIR(there.st_mode):
            raise self._refused("it is no folder")
        if not ROOT:
            if there.st_uid != os.geteuid():
                raise self._refused("it is another user's")
            return None
        if there.st_uid:
            return account_of(there.st_uid)
        if any(self.folder.iterdir()):
            raise self._refused("it holds files of root's, as whom no Postgres runs")
        account = account_of()
        os.chown(self.folder, account.uid, account.gid, follow_symlinks=False)
        return account

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"the embedded Postgres can't live in {self.folder}: {why}")

    def _run(self, command: Sequence[str | Path], account: Account | None) -> None:
        """Run a program inside the folder.

        What it says is read by nobody: a server that it starts would hold a pipe open.
        """
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)
        }
        options: dict[str, Any] = {} if account is None else account.options()
        try:
            subprocess.run(  # noqa: S603 - our own programs, their options our own
                command,
                cwd=self.folder,
                env=environment | _OWN,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=2 * TIMEOUT_S,
                **options,
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise DidNotStart(
                f"the embedded Postgres in {self.folder} didn't start: {self._why(error)}"
            ) from None

    def _why(self, error: Exception) -> str:
        log = self.folder / "log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        return next((line for line in reversed(lines) if "FATAL" in line), str(error))


def _await_end(process: psutil.Process) -> None:
    """Wait until a process has ended; one that nobody has reaped yet has, too.

    It is no child of ours: where the first process of a container reaps late, or never, psutil's
    own wait would last until then.
    """
    until = time.monotonic() + TIMEOUT_S
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(_POLL_S)
