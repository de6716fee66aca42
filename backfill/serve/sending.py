"""Answers as they are sent: told apart by their content, compressed, or a block at a time."""

from hashlib import blake2b
from typing import Final

from aiohttp import ETag, hdrs, web

from backfill.core.plain import json_text

JSON: Final = "application/json"
_WORTH_PACKING: Final = 1_000
"""From so many bytes on an answer is compressed for who takes it."""


def sent(request: web.Request, body: bytes, content_type: str = JSON) -> web.Response:
    """Return an answer; one without a body for who has it already (``If-None-Match``)."""
    version = blake2b(body, digest_size=12).hexdigest()
    if is_held(request, version):
        return unchanged(version)
    response = web.Response(body=body, content_type=content_type, charset="utf-8")
    tag(response, version)
    if len(body) >= _WORTH_PACKING:
        pack(response)
    return response


def sent_json(request: web.Request, value: object, status: int = 200) -> web.Response:
    """Return a value as an answer."""
    response = sent(request, json_text(value).encode())
    if status != 200:
        response.set_status(status)
    return response


def is_held(request: web.Request, version: str) -> bool:
    """Whether who asks has a version already."""
    held = request.if_none_match or ()
    return any(one.value in {version, "*"} for one in held)


def unchanged(version: str) -> web.Response:
    """Return the answer for who has it already."""
    response = web.Response(status=304)
    tag(response, version)
    return response


def tag(response: web.StreamResponse, version: str) -> None:
    """Say which version an answer is; packed or not it is the same, so the tag is a weak one."""
    response.etag = ETag(version, is_weak=True)


def pack(response: web.StreamResponse) -> None:
    """Compress an answer as who asks takes it."""
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    response.enable_compression()
