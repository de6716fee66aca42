"""JSON objects of the same numbers, in the same order each: read at once, no object made of any.

pysimdjson, the extra ``fast``, reads them: the same doubles as elsewhere, to the last bit, in three
quarters of the time.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]
"""A row of the array for each name: the values that objects have by it."""

DoublesReader: TypeAlias = Callable[[bytes], Doubles | None]
"""Reads a JSON array of objects; None for what it can't read, which may be as good."""

_OF_NUMBERS: Final = b"0123456789+-.eE"
_OBJECT: Final = re.compile(rb'\{"[^"\\]+":(?:,"[^"\\]+":)*\}')
_NAME: Final = re.compile(rb'"([^"]+)":')
# What stands around numbers becomes blanks, but for what makes them an array.
_NUMBERS_ALONE: Final = bytes(
    byte if byte in _OF_NUMBERS + b"[,]" else ord(" ") for byte in range(256)
)


def doubles_reader(names: Sequence[str], may_lack: Sequence[str]) -> DoublesReader | None:
    """Return what reads objects that hold a number by each of some names, None without pysimdjson.

    It reads nothing else, not so much as a blank, nor objects of which one lacks what another has.
    What all of them lack, as they ``may_lack`` it, is NaN. Only a number before its colon passes,
    which no JSON has: it can be meant for nothing else.
    """
    try:
        import simdjson
    except ImportError:
        return None
    parser = simdjson.Parser()

    def read(array: bytes) -> Doubles | None:
        found = _names(array)
        if not set(names) - set(may_lack) <= set(found) <= set(names):
            return None
        try:
            # Between two commas is one number, or this is no array.
            numbers: Any = parser.parse(array.translate(_NUMBERS_ALONE))
            values = np.frombuffer(numbers.as_buffer(of_type="d")).reshape(-1, len(found))
        except (ValueError, RuntimeError):  # a number that it can't hold, too
            return None
        columns = np.full((len(names), len(values)), np.nan)
        for at, name in enumerate(found):
            columns[names.index(name)] = values[:, at]
        return columns

    return read


def _names(array: bytes) -> list[str]:
    """Return the names in each object of an array; none if objects differ, or are none of ours."""
    around = array.translate(None, _OF_NUMBERS)
    if not (first := _OBJECT.match(around, 1)):
        return []
    one = first[0] + b","
    if around != b"[%s]" % (one * (len(around) // len(one)))[:-1]:
        return []
    names = [name.decode() for name in _NAME.findall(one)]
    return names if len(set(names)) == len(names) else []
