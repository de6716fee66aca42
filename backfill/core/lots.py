"""Things of different sizes, taken together until they are enough for one go."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

_Thing = TypeVar("_Thing")


def lots(sized: Iterable[tuple[_Thing, int]], most: int) -> Iterator[list[_Thing]]:
    """Yield things in their order, as many at once as are ``most`` together; a larger one alone.

    >>> list(lots([("a", 2), ("b", 1), ("c", 9), ("d", 1)], 3))
    [['a', 'b'], ['c'], ['d']]
    """
    lot: list[_Thing] = []
    total = 0
    for one, size in sized:
        if lot and total + size > most:
            yield lot
            lot, total = [], 0
        lot.append(one)
        total += size
    if lot:
        yield lot
