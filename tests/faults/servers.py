"""A Postgres server of a test's own, to restart; a small disk, to fill up."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from time import sleep
from typing import Self

import pytest

from backfill.store.embedded import embedded_postgres
from backfill.store.migrate import migrate
from backfill.store.pool import Database
from backfill.store.programs import programs_for
from tests.conftest import blocking

_START_ATTEMPTS = 50
_AS_USER = "embedded_postgres" if os.geteuid() == 0 else None


@dataclass(frozen=True)
class OwnServer:
    """A server with the schema of today."""

    folder: Path
    url: str

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        """Start one, and stop it at the end."""
        folder = Path(mkdtemp(prefix="backfill-own-"))
        folder.chmod(0o755)  # for pg_ctl, which is told the path
        try:
            with embedded_postgres(folder) as url:
                own = cls(folder / "postgres", url)
                blocking(_migrate(url))
                yield own
                # The package looks for the process that it started, which may be gone by now.
                own.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``fast`` ends every session, ``immediate`` is a crash."""
        self._pg_ctl("-w", "-m", how, "stop")

    def restart(self, how: str = "fast") -> None:
        """Stop it and start it as it was."""
        self._pg_ctl("-w", "-m", how, "-l", str(self.folder / "log"), "restart")

    def kill(self) -> None:
        """Kill it as a power cut would."""
        pid = int((self.folder / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it once the last of the one before is gone."""
        # A server refuses to start while sessions of the dead one still hold its memory.
        for _ in range(_START_ATTEMPTS):
            try:
                self.restart()  # which knows the options that it ran with
            except subprocess.CalledProcessError:
                sleep(0.2)
            else:
                return
        raise AssertionError(f"the server in {self.folder} does not start again")

    def _pg_ctl(self, *arguments: str) -> None:
        subprocess.run(
            [programs_for(None) / "pg_ctl", "-D", self.folder, *arguments],
            cwd=self.folder,  # which is where the options that it ran with say that it is
            user=_AS_USER,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory that can grow."""

    folder: Path

    @classmethod
    @contextmanager
    def mounted(cls, size: str) -> Iterator[Self]:
        """Mount one that Postgres may write to; skip the test where nobody may."""
        folder = Path(mkdtemp(prefix="backfill-disk-"))
        options = f"size={size}"
        try:
            _mount("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            folder.rmdir()
            pytest.skip(f"no file system can be mounted here: {error}")
        if _AS_USER:
            shutil.chown(folder, _AS_USER)
        try:
            yield cls(folder)
        finally:
            _mount("umount", "--lazy", str(folder))
            folder.rmdir()

    def grow(self, size: str) -> None:
        """Make room."""
        _mount("mount", "-o", f"remount,size={size}", str(self.folder))


def _mount(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


async def _migrate(url: str) -> None:
    async with Database.connect(url) as database:
        await migrate(database)
