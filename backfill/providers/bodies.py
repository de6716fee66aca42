"""A body as JSON of one shape: read, or refused in the words that every provider has for that."""

from typing import Final, TypeVar

import msgspec

from backfill.errors import UnreadableAnswer

_T = TypeVar("_T")

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for a body that isn't what it should be."""


def decoded(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw) -> _T:
    """Return what a body holds.

    Raises
    ------
    UnreadableAnswer
        If it isn't JSON of the decoder's shape.
    """
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise UnreadableAnswer(f"the answer can't be read: {error!s}") from None


def decoded_or(decoder: msgspec.json.Decoder[_T], body: bytes, otherwise: _T) -> _T:
    """Return what a body holds, or something else where that can't be read: a refusal's words."""
    try:
        return decoder.decode(body)
    except UNREADABLE:
        return otherwise
