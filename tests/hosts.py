"""The servers that the tests run on: embedded, of a named version, behind a pooler.

``BACKFILL_TEST_POSTGRES`` names a folder that holds ``initdb`` and ``postgres``; without it the
server is the embedded one. ``BACKFILL_TEST_PGBOUNCER`` names the program ``pgbouncer``; with it
every URL that a test is given leads through one in transaction mode, and with
``BACKFILL_TEST_PGPOOL`` through a ``pgpool``. What a machine lacks is
skipped, unless ``BACKFILL_TEST_HOSTS=required``.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, NoReturn
from urllib.parse import urlsplit

import pytest

from backfill.store.embedded import embedded_postgres

POSTGRES: Final = "BACKFILL_TEST_POSTGRES"
PGBOUNCER: Final = "BACKFILL_TEST_PGBOUNCER"
PGPOOL: Final = "BACKFILL_TEST_PGPOOL"
POOL_SIZE: Final = 3
"""The pooler's connections to each database for each user: fewer than a run opens."""

_START_S: Final = 20.0
_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 4 << 30
"""In bytes, what is free where servers have their files in memory: they take a tenth of it."""
# No server runs as root.
_AS_USER: Final = "nobody" if os.geteuid() == 0 else None
# asyncpg's own default; the tests tell the database in a URL by the question mark after it.
_ANY: Final = "sslmode=prefer"


def lacking(reason: str) -> NoReturn:
    """Skip a test for want of a server or program; fail where all of them are required."""
    if os.environ.get("BACKFILL_TEST_HOSTS") == "required":
        pytest.fail(f"required, and lacking: {reason}")
    pytest.skip(reason)


@contextmanager
def chosen_server() -> Iterator[str]:
    """Run the server that the environment names and yield its URL, or its pooler's."""
    with _folder() as folder:
        if programs := os.environ.get(POSTGRES):
            serving = _postgres(folder, Path(programs))
        else:
            serving = embedded_postgres(folder)
        with serving as url:
            if program := os.environ.get(PGBOUNCER):
                with _pgbouncer(program, url) as pooled:
                    yield pooled
            elif program := os.environ.get(PGPOOL):
                with _pgpool(program, url) as pooled:
                    yield pooled
            else:
                yield url


@contextmanager
def own_server(*settings: str, owns: Sequence[Path] = ()) -> Iterator[str]:
    """Run a server of the version that the environment names, and yield its URL.

    ``settings`` are such as ``ssl=on``; ``owns`` are files that only the server may read.
    """
    with _folder() as folder:
        for file in owns:
            file.chmod(0o600)
            if _AS_USER:
                shutil.chown(file, _AS_USER)
        with _postgres(folder, Path(os.environ[POSTGRES]), *settings) as url:
            yield url


@contextmanager
def _postgres(folder: Path, programs: Path, *settings: str) -> Iterator[str]:
    """Run a new server on loopback, with settings such as ``ssl=on``, and yield its URL."""
    data, port = folder / "data", _free_port()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"],
        user=_AS_USER,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    for setting in ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *settings):
        command += ["-c", setting]

    def is_ready() -> bool:
        """Whether its status file says so: a server listens before it takes anybody."""
        status = data / "postmaster.pid"
        return status.exists() and "ready" in status.read_text(encoding="utf-8").split()

    with _running(command, folder, _AS_USER, is_ready, ends_on=signal.SIGINT):
        yield f"postgresql://postgres:@127.0.0.1:{port}/postgres?{_ANY}"


@contextmanager
def _pgbouncer(program: str, url: str) -> Iterator[str]:
    """Run a pooler before a server and yield its URL; it knows the roles that the server knows."""
    parts, port = urlsplit(url), _free_port()
    host = parts.hostname or parts.query.removeprefix("host=")
    # The embedded server's socket is its owner's alone.
    user = Path(host).owner() if _AS_USER and host.startswith("/") else _AS_USER
    with _folder(user) as folder:
        users, settings = folder / "users", folder / "pgbouncer.ini"
        users.write_text('"postgres" ""\n', encoding="utf-8")
        settings.write_text(
            f"""
            [databases]
            * = host={host} port={parts.port or 5432} auth_user=postgres

            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            auth_query = SELECT rolname, '' FROM pg_roles WHERE rolname = $1
            pool_mode = transaction
            default_pool_size = {POOL_SIZE}
            max_client_conn = 500
            server_reset_query_always = 0
            """,
            encoding="utf-8",
        )

        command: list[str | Path] = [program, "-q", settings]
        with _running(command, folder, user, partial(_listens, port), ends_on=signal.SIGTERM):
            yield f"postgresql://postgres:@127.0.0.1:{port}/postgres?{_ANY}"


@contextmanager
def _pgpool(program: str, url: str) -> Iterator[str]:
    """Run pgpool-II before a server and yield its URL."""
    parts, port = urlsplit(url), _free_port()
    host = parts.hostname or parts.query.removeprefix("host=")
    user = Path(host).owner() if _AS_USER and host.startswith("/") else _AS_USER
    with _folder(user) as folder:
        settings = folder / "pgpool.conf"
        settings.write_text(
            f"""
            backend_clustering_mode = 'raw'
            listen_addresses = '127.0.0.1'
            port = {port}
            pcp_port = {_free_port()}
            socket_dir = '{folder}'
            pcp_socket_dir = '{folder}'
            pid_file_name = '{folder}/pgpool.pid'
            logdir = '{folder}'
            backend_hostname0 = '{host}'
            backend_port0 = {parts.port or 5432}
            backend_flag0 = 'DISALLOW_TO_FAILOVER'
            enable_pool_hba = off
            num_init_children = 40
            max_pool = 1
            child_max_connections = 20
            """,
            encoding="utf-8",
        )
        command: list[str | Path] = [
            program,
            "-n",
            "-f",
            settings,
            "-a",
            "/dev/null",
            "-F",
            "/dev/null",
        ]
        with _running(command, folder, user, partial(_listens, port), ends_on=signal.SIGINT):
            yield f"postgresql://postgres:@127.0.0.1:{port}/postgres?{_ANY}"


def _listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def _quickest() -> Path | None:
    """Where a database is made in half the time, if there is room; else the usual place."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        return _MEMORY
    return None


@contextmanager
def _folder(user: str | None = _AS_USER) -> Iterator[Path]:
    """Make a folder that the servers may use and everybody may enter; remove it at the end."""
    folder = Path(mkdtemp(prefix="backfill-tests-", dir=_quickest()))
    folder.chmod(0o755)
    if user:
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    command: Sequence[str | Path],
    folder: Path,
    user: str | None,
    is_ready: Callable[[], bool],
    *,
    ends_on: signal.Signals,
) -> Iterator[None]:
    """Run a program for as long as it is needed, from when it is ready."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, user=user, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + _START_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{command[0]} doesn't start: {log.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(ends_on)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
