"""What every file of bars tells."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from backfill.core.cells import BadRow
from backfill.core.coverage import Span
from backfill.core.filed import Rows
from backfill.errors import UsageError


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of itself.

    ``counted_in`` is what its rows are called where one is named. ``feed`` and ``adjustment`` are
    those of its bars, None where it doesn't tell. ``covers`` is the range that it proves to be all
    of, None for a file that proves nothing.
    """

    form: str
    counted_in: str
    feed: str | None = None
    adjustment: str | None = None
    covers: Span | None = None


class BarFile(Protocol):
    """An open file of bars."""

    @property
    def facts(self) -> Facts:
        """What it says of itself."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def stream(self) -> BinaryIO:
        """Its bytes."""

    def blocks(self) -> Iterator[list[Rows]]:
        """Read it from its beginning, some rows at a time; each series is named once a block.

        Raises
        ------
        UsageError
            If a row can't be read, which it names.
        """


def refused(file: BarFile, bad: BadRow, number: int) -> UsageError:
    """Return what to tell of a row that can't be read, by its number in the file."""
    return UsageError(f"{file.path}, {file.facts.counted_in} {number:,}: {bad}")


def version_of(file: BarFile) -> tuple[int, int]:
    """Return the size of a file in bytes, and when it was last written: another for another."""
    found = os.fstat(file.stream.fileno())
    return found.st_size, found.st_mtime_ns
