"""One request on its way out: written once, in its slot, or not at all.

aiohttp (3.14) sends a GET again by itself when a kept-alive connection drops under it. That second
request would be one that no slot was taken for.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.connector import AddrInfoType, Connection

from backfill.errors import BackfillError, ProviderUnavailable

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_UNACKNOWLEDGED_MS: Final = 25_000
"""How long the system sends again what nobody acknowledges: a call arrives within 30 s, or never,
and is written within the first 5."""


class Late(BackfillError):
    """A call was not written in time: it has to ask for another slot."""


@dataclass(slots=True)
class Sending:
    """The call that goes out in one slot.

    ``late`` tells whether it may not be written any more, ``written`` whether any of it was.
    """

    late: Callable[[], bool]
    written: bool = False

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Take the request that is sent now as this call."""
        token = _SENDING.set(self)
        try:
            yield
        finally:
            _SENDING.reset(token)

    def leave(self) -> None:
        """Note that the request is written now.

        Raises
        ------
        Late
            If it may not be; nothing is.
        """
        if self.late():
            raise Late("a call took too long to be written")
        self.written = True


_SENDING: Final[ContextVar[Sending | None]] = ContextVar("sending", default=None)


class OneRequest(aiohttp.ClientRequest):
    """A request that is written only while its slot holds."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request, once there is a connection."""
        sending = _SENDING.get()
        if sending is not None:
            sending.leave()
        return await super().send(conn)


async def once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once: an error that aiohttp answers by sending again becomes another."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ProviderUnavailable(f"no answer from the provider: {error}") from None


def aborting_socket(address: AddrInfoType) -> socket.socket:
    """Return a socket that takes back what it hasn't delivered, however its connection ends.

    That holds when the process is killed, too: the system resets its connections then.
    """
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    _set(made, "SO_LINGER", _NO_LINGER, level=socket.SOL_SOCKET)
    _set(made, "TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS, level=socket.IPPROTO_TCP)
    return made


def _set(made: socket.socket, name: str, value: Any, *, level: int) -> None:
    """Set an option where the system has it."""
    option: int | None = getattr(socket, name, None)
    if option is not None:
        made.setsockopt(level, option, value)
