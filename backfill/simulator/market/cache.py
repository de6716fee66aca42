"""A cache that is bounded by the bytes it holds."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Cache(Generic[_T]):
    """Values by key; those used longest ago go when they would hold more bytes than the limit.

    Safe to use from any thread.
    """

    def __init__(self, limit: int, size_of: Callable[[_T], int]) -> None:
        self._limit = limit
        self._size_of = size_of
        self._held: OrderedDict[Hashable, _T] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the value of a key, made anew if it isn't held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        value = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = value
                self._bytes += self._size_of(value)
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._size_of(self._held.popitem(last=False)[1])
        return value

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._bytes
