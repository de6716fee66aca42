"""Unpacking the body of an answer, within a limit."""

from dataclasses import replace
from typing import Final

from isal import isal_zlib

from backfill.core.wire import Response
from backfill.errors import UnreadableAnswer

ACCEPTED: Final = "gzip"
"""What the ``Accept-Encoding`` of a request names."""

_GZIP: Final = 31
"""The window of zlib with a gzip header around it."""


def unpacked(response: Response, limit: int) -> Response:
    """Return a response whose body is as it was before it was sent.

    ``limit`` is how many bytes that may be.

    Raises
    ------
    UnreadableAnswer
        If the body isn't what its ``Content-Encoding`` says, isn't whole, or exceeds the limit.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return response
    if encoding != ACCEPTED:
        raise UnreadableAnswer(f"the answer came as {encoding[:40]!r}, not as {ACCEPTED}")
    unpacking = isal_zlib.decompressobj(wbits=_GZIP)
    try:
        body = unpacking.decompress(response.body, limit + 1)
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub types it as an instance
        raise UnreadableAnswer(f"the answer is broken as gzip: {error}") from None
    if len(body) > limit:
        raise too_long(limit)
    if not unpacking.eof:
        raise UnreadableAnswer("the answer is cut short")
    return replace(response, body=body)


def too_long(limit: int) -> UnreadableAnswer:
    """Return the fault of an answer that exceeds the limit, in bytes."""
    return UnreadableAnswer(f"the answer exceeds {limit} bytes")
