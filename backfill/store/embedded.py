"""A real Postgres in the user's data directory, for a machine that has none.

A package brings the server and `postmaster` starts it; who uses it is kept here. Everybody holds a
lock for as long as they do, which the kernel takes back from one that was killed: whoever leaves
and finds no other lock stops the server, whoever started it.
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backfill.errors import DatabaseError, UsageError
from backfill.store.programs import installed

_START_S: Final = 30.0
_POLL_S: Final = 0.05
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
    installed()
    _see_path(data_dir.absolute())
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        _see_path(data_dir)
        with _in_process:
            user = _users.get(data_dir) or _User(data_dir)
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


def is_made(data_dir: Path) -> bool:
    """Whether there is a server to start in a folder; nothing is made or started for the answer.

    Raises
    ------
    UsageError
        If the extra ``embedded`` isn't installed, or none can live there.
    """
    installed()
    _see_path(data_dir.absolute())
    return (data_dir / "postgres" / "PG_VERSION").is_file()


def _see_path(data_dir: Path) -> None:
    """Refuse a path that a server's socket can't have, or that is easily taken for another.

    No path is passed through a shell; what means something to one is refused all the same, for
    whoever copies the path out of a message or a setting into one.
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

    def __init__(self, data_dir: Path) -> None:
        import fasteners  # type: ignore[import-untyped]  # it ships no types

        self.url = ""
        self._server = _Server(data_dir)
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

    def __init__(self, data_dir: Path) -> None:
        from backfill.store.postmaster import Postmaster

        self._postmaster = Postmaster(data_dir / "postgres")
        self._unfinished = data_dir / ".postgres.unfinished"

    def start(self) -> str:
        """Take over the server that runs, or start one; return its URL."""
        from backfill.store.postmaster import DidNotStart

        server = self._postmaster
        if self._unfinished.exists():  # who made the files was killed: they hold nothing yet
            server.end_makers()
            shutil.rmtree(server.folder, ignore_errors=True)
        if not server.has_files:
            self._unfinished.touch()
        until = time.monotonic() + _START_S
        while not self._is_up(until):
            try:
                server.start()
            except DidNotStart:
                # The last processes of a server that was killed may still hold its memory.
                if self._unfinished.exists() or time.monotonic() > until - _START_S / 2:
                    raise
                time.sleep(_POLL_S * 5)
        self._unfinished.unlink(missing_ok=True)
        return server.url

    def stop(self) -> None:
        """Stop the server if it runs."""
        self._postmaster.stop()

    def _is_up(self, until: float) -> bool:
        """Wait while a server starts or stops; clear away the file of one that is gone."""
        while self._postmaster.process() is not None:
            with suppress(FileNotFoundError):
                if self._postmaster.is_ready:
                    return True
            if time.monotonic() > until:
                raise DatabaseError("the embedded Postgres doesn't get ready")
            time.sleep(_POLL_S)
        self._postmaster.forget()
        return False
