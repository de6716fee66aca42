"""The embedded server: who leaves last stops it, and what a killed user left is no hindrance."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import psutil
import pytest

from backfill.errors import UsageError
from backfill.store.embedded import embedded_postgres

# No machine has this locale.
_STRANGE = {
    **dict.fromkeys(("LC_ALL", "LANG"), "xx_XX.UTF-8"),
    "TZ": "Asia/Kolkata",
    "PGTZ": "Asia/Tokyo",
    "PGPORT": "5999",
    "PGDATA": "/nowhere",
}
_USE = """
import sys
from pathlib import Path
from backfill.store.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory that the tests of this file take turns with, as a stranger made it."""
    folder = Path(mkdtemp(prefix="backfill-embedded-"))
    folder.chmod(0o755)
    _user(folder, **_STRANGE).communicate()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """The data directory; no process is left of its server after each test."""
    yield made
    assert _servers(made) == []


def _servers(data_dir: Path) -> list[int]:
    """The processes that were started on a data directory."""
    wanted = str(data_dir / "postgres")
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and wanted in process.info["cmdline"]
    ]


def _user(data_dir: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start a process that uses the server until its stdin ends."""
    user = subprocess.Popen(
        [sys.executable, "-c", _USE, str(data_dir)],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert user.stdout is not None
    assert user.stdout.readline().startswith("postgresql://")
    return user


def _asked(url: str, question: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_killed_user_leaves_a_server_that_the_next_one_takes_over_and_stops(
    data_dir: Path,
) -> None:
    user = _user(data_dir)
    user.kill()
    user.communicate()
    left = _servers(data_dir)
    assert left
    with embedded_postgres(data_dir) as url:
        assert _servers(data_dir) == left
        assert _asked(url, "SELECT 1") == 1


def test_the_server_stays_until_the_last_user_leaves_whoever_started_it(data_dir: Path) -> None:
    first = _user(data_dir)
    with embedded_postgres(data_dir) as url:
        with embedded_postgres(data_dir) as again:
            assert again == url
        first.communicate()
        assert _asked(url, "SELECT 1") == 1
    assert _servers(data_dir) == []


@pytest.mark.parametrize("number", ["own", "nobody's", "no number"])
def test_a_pid_file_that_outlived_its_server_is_cleared_away(data_dir: Path, number: str) -> None:
    with embedded_postgres(data_dir):
        [pid_file] = data_dir.glob("postgres/postmaster.pid")
        lines = pid_file.read_text().split("\n")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lines[0] = {"own": str(os.getpid()), "nobody's": str(gone.pid), "no number": ""}[number]
    pid_file.write_text("\n".join(lines[:8]))
    with embedded_postgres(data_dir) as url:
        assert _asked(url, "SELECT 1") == 1


@pytest.mark.soak
def test_a_server_that_was_killed_is_started_again(data_dir: Path) -> None:
    with embedded_postgres(data_dir) as url:
        os.kill(min(_servers(data_dir)), signal.SIGKILL)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            _asked(url, "SELECT 1")
    with embedded_postgres(data_dir) as url:
        assert _asked(url, "SELECT 1") == 1


def test_locale_time_zone_and_port_are_the_servers_own_whoever_comes_first(data_dir: Path) -> None:
    user = _user(data_dir, **_STRANGE)
    with embedded_postgres(data_dir) as url:
        shown = [_asked(url, f"SHOW {name}") for name in ("TimeZone", "lc_messages", "port")]
        user.communicate()
    assert shown == ["UTC", "C", "5432"]


@pytest.mark.soak
def test_files_whose_maker_was_killed_are_made_anew() -> None:
    folder = Path(mkdtemp(prefix="backfill-embedded-"))
    folder.chmod(0o755)
    try:
        maker = subprocess.Popen(
            [sys.executable, "-c", _USE, str(folder)], stdin=subprocess.PIPE, text=True
        )
        while not list(folder.glob("postgres/PG_VERSION")):
            assert maker.poll() is None
        maker.kill()
        maker.communicate()
        with embedded_postgres(folder) as url:
            assert _asked(url, "SELECT 1") == 1
        assert _servers(folder) == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_data_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(UsageError, match="can't live in"), embedded_postgres(folder):
            pass


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a space", "holds ' '"),
        ("a'quote", "holds"),
        ("$HOME", r"holds '\$'"),
        ("x" * 120, "longer than"),
        ("loop", "File exists"),
    ],
)
def test_a_data_directory_that_a_server_cannot_live_in_is_refused_before_it_is_made(
    name: str, said: str
) -> None:
    parent = Path(mkdtemp(prefix="backfill-", dir="/tmp"))
    try:
        parent.chmod(0o700)
        (parent / "loop").symlink_to(parent / "loop")
        with (
            pytest.raises(UsageError, match=f"the embedded Postgres can't live in .*{said}"),
            embedded_postgres(parent / name),
        ):
            pass
        assert [one.name for one in parent.iterdir()] == ["loop"]
        assert parent.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(parent)
