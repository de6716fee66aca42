"""Several statements in one round trip, one of which is a COPY.

asyncpg's own doors to COPY take one query or one table; behind them (0.32) stands a protocol that
sends whatever string it is given, and passes over what the statements around the COPY say. That is
no promise: the version is pinned, and ``tests/integration/test_store_trips.py`` fails where it
changes.
"""

from collections.abc import AsyncIterator
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import asyncpg

Session: TypeAlias = "asyncpg.pool.PoolConnectionProxy"
"""A connection of the pool."""

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": signature, flags, and the
# length of what else a header may hold; then of each row how many fields, of each field its length.
_HEADER: Final = Struct(">11sii")
_ROW: Final = Struct(">hi")


async def copied_out(session: Session, statements: str) -> bytes:
    """Run statements, one of them a COPY to here, and return what that copied."""
    parts: list[bytes] = []

    async def collect(part: bytes) -> None:
        parts.append(part)

    await session._con._copy_out(statements, collect, None)  # noqa: SLF001
    return b"".join(parts)


async def copied_in(session: Session, statements: str, rows: AsyncIterator[bytes]) -> str:
    """Run statements, one of them a COPY of these rows, which leave before the server asks.

    Returns how the server calls what the last of them did.
    """
    return str(await session._con._copy_in(statements, rows, None))  # noqa: SLF001


def only_value(copied: bytes) -> bytes:
    """Return the only field of the only row of a binary COPY; that of NULL is empty."""
    *_, more = _HEADER.unpack_from(copied)
    _, length = _ROW.unpack_from(copied, _HEADER.size + more)
    begins = _HEADER.size + more + _ROW.size
    return copied[begins : begins + max(length, 0)]
