"""Files of bars, read as a stream: what each says of itself, and its rows."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from backfill.core.filed import Reading
from backfill.errors import UsageError
from backfill.files.base import BarFile

_BLOCK: Final = 2**20
_REFUSED: Final = {
    b"PK\x03\x04": "it is a zip archive: unpack it",
    b"BZh": "it is packed by bzip2: unpack it",
    b"\xfd7zXZ": "it is packed by xz: unpack it",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
    b"\xd0\xcf\x11\xe0": "it is a workbook: save it as CSV",
    b"ARROW1": "it is an Arrow file: write it as Parquet",
}
"""What some files begin with that aren't read."""


@contextmanager
def opened(path: Path, reading: Reading) -> Iterator[BarFile]:
    """Open a file of bars, by what it begins with: CSV, also gzipped, Parquet, or DBN.

    Raises
    ------
    UsageError
        If it can't be read, or doesn't tell what its bars are, and ``reading`` doesn't either.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with stream:
        yield _of(stream, path, reading)


def checksum(stream: BinaryIO) -> str:
    """Return the SHA-256 of a file, from its beginning."""
    stream.seek(0)
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _of(stream: BinaryIO, path: Path, reading: Reading) -> BarFile:
    # Each is imported when a file is of its kind: what it needs may not be installed.
    try:
        begins = stream.read(8)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not stream.seekable():
        raise UsageError(f"{path} is no file that can be read twice: save it as one")
    for magic, why in _REFUSED.items():
        if begins.startswith(magic):
            raise UsageError(f"{path}: {why}")
    if begins.startswith(b"PAR1"):
        from backfill.files.parquet import ParquetFile

        return ParquetFile(stream, path, reading)
    if begins.startswith((b"DBN", b"\x28\xb5\x2f\xfd")):
        from backfill.files.dbn import DbnFile

        return DbnFile(stream, path, reading)
    from backfill.files.text import TextFile

    return TextFile(stream, path, reading)
