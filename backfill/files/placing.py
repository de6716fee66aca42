"""Putting a finished file in another's place at once: who reads sees the old one or the new."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PERMISSIONS: Final = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


@contextmanager
def beside(folder: str | Path | None, prefix: str, suffix: str) -> Iterator[Path]:
    """Yield the path of a new file in a folder, or where the system keeps such, to be put in place.

    Only its owner may read it until then. It is gone at the end, if it was not put anywhere.

    Raises
    ------
    OSError
        If it can't be made.
    """
    number, name = tempfile.mkstemp(suffix, prefix, folder)
    os.close(number)
    part = Path(name)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def put(part: Path, place: Path) -> None:
    """Have a file take a place, with the permissions of the one that it replaces.

    They go with its owner and its group, as far as these may be given. Where there is none it may
    be read by whom the umask allows it, as any other new file.

    Raises
    ------
    OSError
        If it can't.
    """
    try:
        replaced = place.stat()
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
    else:
        with suppress(OSError):
            os.chown(part, -1, replaced.st_gid)
        part.chmod(replaced.st_mode & _PERMISSIONS)
        with suppress(OSError):  # last: nobody changes what is another's
            os.chown(part, replaced.st_uid, -1)
    part.replace(place)
