"""Unpacking the body of an answer, within a limit."""

from dataclasses import replace
from io import BytesIO
from typing import Final

from isal import igzip, isal_zlib

from backfill.core.wire import Response
from backfill.errors import UnreadableAnswer

ACCEPTED: Final = "gzip"
"""What the ``Accept-Encoding`` of a request names."""

_GZIPS: Final = {ACCEPTED, "x-gzip"}
"""The names of gzip (RFC 9110, 8.4.1.3)."""

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
    if encoding not in _GZIPS:
        raise UnreadableAnswer(f"the answer came as {encoding[:40]!r}, not as {ACCEPTED}")
    try:
        body = _gunzipped(response.body, limit)
    except EOFError:
        raise UnreadableAnswer("the answer is cut short") from None
    except (isal_zlib.error, OSError) as error:  # type: ignore[misc]  # the stub: an instance
        raise UnreadableAnswer(f"the answer is broken as gzip: {error}") from None
    if len(body) > limit:
        raise too_long(limit)
    return replace(response, body=body)


def refusal_unpacked(response: Response, limit: int) -> Response:
    """Return an answer that refuses with its body unpacked, or without one that can't be.

    A status and its ``Retry-After`` mean what they mean, whatever comes with them.
    """
    try:
        return unpacked(response, limit)
    except UnreadableAnswer:
        return replace(response, body=b"")


def _gunzipped(packed: bytes, limit: int) -> bytes:
    """Return what a stream of gzip members holds, or its beginning, longer than the limit.

    Raises
    ------
    EOFError
        If the stream isn't whole.
    """
    member = isal_zlib.decompressobj(wbits=_GZIP)
    body = member.decompress(packed, limit + 1)
    if len(body) > limit:
        return body
    if not member.eof:
        raise EOFError
    if not member.unused_data:
        return body
    # Of several members each is read where it lies: the object above would copy all the rest.
    members = igzip.IGzipFile(fileobj=BytesIO(packed))  # type: ignore[no-untyped-call]  # isal 1.9
    return bytes(members.read(limit + 1))


def too_long(limit: int) -> UnreadableAnswer:
    """Return the fault of an answer that exceeds the limit, in bytes."""
    return UnreadableAnswer(f"the answer exceeds {limit} bytes")
