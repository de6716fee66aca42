"""Unpacking a gzip file that comes in pieces, in pieces that memory can hold."""

from collections.abc import Iterator
from typing import Final

from isal import isal_zlib

from backfill.errors import BadAnswer

_GZIP: Final = 31
_PIECE: Final = 2**20
"""A piece of text has so many bytes at most."""


class Gunzip:
    """Unpacks the members of a file one after another, as they come.

    It is whole when the last one has come to its end, which tells its checksum. ``limit`` is how
    many bytes the text may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._member = isal_zlib.decompressobj(wbits=_GZIP)
        self._within = False
        self._length = 0

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Unpack the next piece of the file.

        Raises
        ------
        BadAnswer
            If it is broken, or its text exceeds the limit.
        """
        while packed:
            if self._member.eof:
                self._member = isal_zlib.decompressobj(wbits=_GZIP)
            self._within = True
            try:
                text = self._member.decompress(packed, _PIECE)
            except (isal_zlib.error, OSError) as error:  # type: ignore[misc]  # the stub: an instance
                raise BadAnswer(f"the file is broken as gzip: {error}") from None
            self._length += len(text)
            if self._length > self._limit:
                raise BadAnswer(f"the file exceeds {self._limit} bytes")
            packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._within = not self._member.eof
            if text:
                yield text

    def close(self) -> None:
        """See that the file is whole.

        Raises
        ------
        BadAnswer
            If it isn't.
        """
        if self._within or not self._length:
            raise BadAnswer("the file is cut short")
