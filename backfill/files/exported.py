"""Where an export lies: a folder or a prefix of a bucket, whose files are replaced as a whole."""

import re
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backfill.core.export import File, Manifest
from backfill.core.timeframe import Timeframe
from backfill.errors import BackfillError, UsageError
from backfill.files.columnar import Rows, schema, see_installed, writer_of
from backfill.files.placing import beside, put

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_MANIFEST: Final = "_export.json"
_FOLDER: Final = re.compile(rf"timeframe=({'|'.join(Timeframe)})/month=\d{{4}}-\d\d")
# Whose file it is can be seen: others' end in .part as well.
_BESIDE: Final = ".backfill-export-"
_PART: Final = ".part"
_LEFT_AFTER_S: Final = 3600.0
"""A file that nobody has written to for so long is not another export's that is under way."""


@dataclass(slots=True)
class Replacement:
    """What writes a partition, and then the file that it has become; None without rows."""

    rows: Rows
    file: File | None = None


class Destination:
    """The files of an export, of one format.

    A file is written beside its place, or on this machine for a bucket, and then put there whole:
    who reads meets the old one or the new one. Every method blocks.
    """

    def __init__(self, files: "FileSystem", root: str, form: str) -> None:
        self._files = files
        self._root = root
        self._is_local = files.type_name == "local"
        self._name = f"bars.{form}"
        self._form = form

    @classmethod
    def at(cls, out: str, form: str) -> "Destination":
        """Open a folder, which is made where it is missing, or ``s3://bucket/prefix``.

        A bucket's keys and region are read as Amazon's own tools read them; its address may say
        ``?endpoint_override=`` and ``&scheme=``.

        Raises
        ------
        UsageError
            If pyarrow lacks, or it can't be written there.
        """
        see_installed("an export")
        from pyarrow import fs

        if "://" not in out:
            root = Path(out).expanduser().absolute()
            with _told(f"{out} can't be written to", UsageError):
                root.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=root).close()
            return cls(fs.LocalFileSystem(), str(root), form)
        address = urlsplit(out)
        if address.scheme != "s3":
            raise UsageError(f"{address.scheme}:// is no place for an export: a folder, or s3://")
        if address.username is not None:
            raise UsageError("keys in s3:// would be seen: set AWS_ACCESS_KEY_ID and its secret")
        if not address.netloc:
            raise UsageError(f"{out} names no bucket: s3://bucket/prefix")
        with _told(f"{out} can't be opened", UsageError):
            files, root_path = fs.FileSystem.from_uri(out)
            files.get_file_info(fs.FileSelector(root_path, allow_not_found=True))
        return cls(files, root_path, form)

    def manifest(self) -> Manifest | None:
        """Return what an earlier export says it wrote; None where there is none.

        Raises
        ------
        UsageError
            If it can't be read, or what it tells of is another kind of export.
        """
        path = self._path(_MANIFEST)
        try:
            with self._files.open_input_stream(path) as stream:
                found = msgspec.json.decode(stream.read(), type=Manifest)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(
                f"{path} can't be read: {error}; without it everything is exported anew"
            ) from None
        return found

    def keep(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        path = self._path(_MANIFEST)
        with self._beside(path) as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
            self._put(part, path)

    def files(self) -> dict[str, File]:
        """Return the files of partitions, by folder."""
        from pyarrow import fs

        with _told(f"{self._root} can't be read"):
            every = self._files.get_file_info(
                fs.FileSelector(self._root, recursive=True, allow_not_found=True)
            )
        found = {}
        for one in every:
            folder, _, name = one.path.removeprefix(f"{self._root}/").rpartition("/")
            if name == self._name and _FOLDER.fullmatch(folder):
                found[folder] = File(one.size, one.mtime_ns if self._is_local else 0)
        return found

    def clear(self) -> None:
        """Remove what an export that was killed has left beside the partitions."""
        if not self._is_local:
            return
        left_before_s = time.time() - _LEFT_AFTER_S
        with _told(f"{self._root} can't be cleared"):
            for one in Path(self._root).glob(f"{_BESIDE}*{_PART}"):
                with suppress(FileNotFoundError):  # by now it has taken its place
                    if one.stat().st_mtime < left_before_s:
                        one.unlink()

    def remove(self, folders: Collection[str]) -> None:
        """Remove partitions."""
        with _told("a part of the export can't be removed"):
            for folder in folders:
                self._files.delete_file(self._path(folder, self._name))
                if self._is_local:
                    _remove_empty(Path(self._path(folder)), Path(self._root))

    @contextmanager
    def partition(self, folder: str) -> Iterator[Replacement]:
        """Yield what writes a partition; it is replaced at the end, if all went well.

        One without rows is left as it is.

        Raises
        ------
        BackfillError
            If it can't be written.
        """
        import pyarrow as pa

        path = self._path(folder, self._name)
        with self._beside(path) as part:
            with pa.OSFile(str(part), "wb") as stream:
                rows = Rows(writer_of(self._form, stream, schema(names_symbol=True)))
                replacement = Replacement(rows)
                try:
                    yield replacement
                finally:
                    rows.close()  # also of what nobody wants: it would complain when collected
            if rows.written:
                told = part.stat()
                replacement.file = File(told.st_size, told.st_mtime_ns if self._is_local else 0)
                self._put(part, path)

    @contextmanager
    def _beside(self, path: str) -> Iterator[Path]:
        """Yield the path of a new file on this machine, which may be moved to a place."""
        with (
            _told(f"{path} can't be written"),
            beside(self._root if self._is_local else None, _BESIDE, _PART) as part,
        ):
            yield part

    def _put(self, part: Path, path: str) -> None:
        """Have a file take another's place."""
        if self._is_local:
            place = Path(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            put(part, place)
            return
        from pyarrow import fs

        fs.copy_files(str(part), path, fs.LocalFileSystem(), self._files)

    def _path(self, *parts: str) -> str:
        return "/".join([self._root, *filter(None, parts)])


@contextmanager
def _told(what: str, kind: type[BackfillError] = BackfillError) -> Iterator[None]:
    """Tell in a line what failed."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error}") from None


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder in which nothing is left, and those above it, up to a root."""
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
