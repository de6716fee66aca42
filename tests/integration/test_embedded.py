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
from backfill.store import programs
from backfill.store.embedded import embedded_postgres
from tests.conftest import Cli

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
        process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == wanted
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


@pytest.mark.attack(7)
def test_no_folder_but_the_servers_own_is_changed_whoever_starts_it(data_dir: Path) -> None:
    outer = data_dir / "of-mine"
    inner = outer / "deep"
    inner.mkdir(parents=True)
    outer.chmod(0o700)
    # As from a package that was installed where only its owner may enter, and under umask 077.
    folders = [inner, *inner.parents, programs.installed(), *programs.installed().parents]
    before = [(folder, folder.stat().st_mode, folder.stat().st_uid) for folder in folders]
    with embedded_postgres(inner) as url:
        assert _asked(url, "SELECT 1") == 1
        own = (inner / "postgres").stat()
        assert (own.st_mode & 0o777, own.st_uid == 0) == (0o700, False)
    assert [(one, one.stat().st_mode, one.stat().st_uid) for one in folders] == before
    assert _servers(inner) == []


@pytest.mark.attack(7)
@pytest.mark.soak
@pytest.mark.skipif(not programs.ROOT, reason="only root's server has another user")
def test_programs_that_the_servers_user_cannot_reach_are_copied_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(mkdtemp(prefix="backfill-programs-"))
    try:
        closed, cache = folder / "closed", folder / "cache"
        installed = programs.installed()
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(installed / name, closed / name, symlinks=True)
        folder.chmod(0o755)
        closed.chmod(0o700)
        monkeypatch.setattr(programs, "installed", lambda: closed)
        monkeypatch.setattr(programs, "_CACHE", cache)
        for _ in range(2):
            with embedded_postgres(tmp_path) as url:
                assert _asked(url, "SELECT 1") == 1
        assert closed.stat().st_mode & 0o777 == 0o700
        assert len(list(cache.iterdir())) == 1
        cache.chmod(0o777)
        with pytest.raises(UsageError, match="not root's alone"), embedded_postgres(tmp_path):
            pass
    finally:
        shutil.rmtree(folder)


_REFUSED = """
import sys
from pathlib import Path
from backfill.errors import UsageError
from backfill.store.embedded import embedded_postgres
for path in sys.argv[1:]:
    try:
        with embedded_postgres(Path(path)):
            print("taken")
    except UsageError as error:
        print(error)
"""


@pytest.mark.attack(7)
@pytest.mark.skipif(not programs.ROOT, reason="only root can be somebody else")
def test_a_place_of_somebody_elses_is_one_line() -> None:
    parent = Path(mkdtemp(prefix="backfill-"))
    try:
        parent.chmod(0o755)
        (parent / "closed").mkdir(mode=0o700)
        (parent / "taken").mkdir()
        (parent / "taken").chmod(0o777)
        (parent / "taken" / "postgres").mkdir()
        places = [parent, parent / "new", parent / "closed" / "new", parent / "taken"]
        try:
            ended = subprocess.run(
                [sys.executable, "-B", "-c", _REFUSED, *places],
                user=65534,
                group=65534,
                extra_groups=[],
                cwd=Path(__file__).parents[2],
                check=False,
                capture_output=True,
                text=True,
            )
        except PermissionError:
            pytest.skip("nobody but root can run this Python")
        if "No module named" in ended.stderr or "PermissionError" in ended.stderr:
            pytest.skip("nobody but root can read this checkout")
        said = [line.partition(": ")[2] for line in ended.stdout.splitlines()]
        assert said == [*["Permission denied"] * 3, "it is another user's"], ended.stderr
    finally:
        shutil.rmtree(parent)


@pytest.mark.attack(7)
@pytest.mark.parametrize("kind", ["file", "link", "files"])
def test_what_stands_where_the_servers_files_should_is_left_as_it_is(kind: str) -> None:
    folder = Path(mkdtemp(prefix="backfill-"))
    there, elsewhere = folder / "postgres", folder / "elsewhere"
    elsewhere.mkdir()
    try:
        match kind:
            case "file":
                there.touch()
            case "link":
                there.symlink_to(elsewhere)
            case _:
                there.mkdir()
                (there / "PG_VERSION").touch()
        before = [(one.lstat().st_mode, one.lstat().st_uid) for one in (there, elsewhere)]
        if kind == "files" and not programs.ROOT:
            pytest.skip("they are files of one's own")
        with pytest.raises(UsageError, match="can't live in"), embedded_postgres(folder):
            pass
        assert [(one.lstat().st_mode, one.lstat().st_uid) for one in (there, elsewhere)] == before
    finally:
        shutil.rmtree(folder)


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "name",
    ["file", "file/below", "loop", "loop/below", "a b", "a\nb", "a'b", 'a"b', "$(id)", "x" * 120],
)
def test_the_command_says_of_a_data_directory_that_is_none_so_in_one_line(
    name: str,
) -> None:
    folder = Path(mkdtemp(prefix="backfill-", dir="/tmp"))
    try:
        (folder / "file").touch()
        (folder / "loop").symlink_to(folder / "loop")
        ended = Cli({"BACKFILL_DATA_DIR": str(folder / name)})("watch", "list")
        assert (ended.code, ended.out) == (2, "")
        [line] = ended.err.splitlines()
        assert line.startswith("backfill: the embedded Postgres can't live in ")
        assert ("longer than" in line) == (len(name) > 100)
        assert sorted(one.name for one in folder.iterdir()) == ["file", "loop"]
    finally:
        shutil.rmtree(folder)


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
        ("a\nnewline", "holds"),
        ("a'quote", "holds"),
        ('a"quote', "holds"),
        ("$(id)", "holds"),
        ("$HOME", r"holds '\$'"),
        ("x" * 120, "longer than"),
        ("loop", "File exists"),
        ("loop/below", "symbolic links"),
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
            pytest.raises(UsageError, match=f"(?s)the embedded Postgres can't live in .*{said}"),
            embedded_postgres(parent / name),
        ):
            pass
        assert [one.name for one in parent.iterdir()] == ["loop"]
        assert parent.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(parent)
