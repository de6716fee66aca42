"""Time stamps that come as texts: RFC 3339, to the second or the millisecond, in UTC."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from backfill.core.bars import IntColumn
from backfill.errors import UnreadableAnswer

_STAMP: Final = re.compile(r"(\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,3})0*)?(?:Z|\+00:00)")
_WHOLE_SECOND: Final = len("2021-10-13T04:00:00Z")


def stamps_ms(texts: Sequence[str]) -> IntColumn:
    """Return stamps in epoch ms. One that is finer is refused: it would be put on a slot.

    Raises
    ------
    UnreadableAnswer
        If one is no such stamp, or of another zone.

    >>> stamps_ms(["1970-01-01T00:00:01Z", "1970-01-01T00:00:00.250+00:00"]).tolist()
    [1000, 250]
    """
    plain = all(len(text) == _WHOLE_SECOND for text in texts)
    read = [text[:-1] if plain and text[-1] == "Z" else _to_the_ms(text) for text in texts]
    try:
        return np.array(read, "M8[ms]").astype(np.int64)
    except ValueError as error:
        raise UnreadableAnswer(f"the time stamp of a bar can't be read: {error!s}") from None


def _to_the_ms(text: str) -> str:
    match = _STAMP.fullmatch(text)
    if match is None:
        raise UnreadableAnswer(f"the time stamp of a bar can't be read: {text[:40]!r}")
    return f"{match[1]}.{match[2] or '0':0<3}"
