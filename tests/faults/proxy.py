"""A TCP proxy before Postgres that cuts, stalls and slows the connections through it."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

_BLOCK: Final = 16 * 1024
_NOTICE: Final = b"A"
_HEAD: Final = 5
"""A message's type and its length."""
_RUNS: Final = {b"Q", b"E"}
"""The messages that run a statement: a whole string, or one that was prepared."""
_PROTOCOL: Final = b"\x00\x03"
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class _Statements:
    """Reads what a client sends of the protocol, and tells of each statement that it runs."""

    def __init__(self, told: list[bytes]) -> None:
        self._told = told
        self._unread = b""
        self._is_connecting = True

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""
        self._unread += data
        while (end := self._end()) is not None:
            message, self._unread = self._unread[:end], self._unread[end:]
            if self._is_connecting:
                self._is_connecting = message[4:6] != _PROTOCOL
            elif message[:1] in _RUNS:
                self._told.append(message[_HEAD:])

    def _end(self) -> int | None:
        """Where the first message ends that is not read; None while it isn't there as a whole."""
        begins = 0 if self._is_connecting else 1
        if len(self._unread) < begins + 4:
            return None
        end = begins + int.from_bytes(self._unread[begins : begins + 4], "big")
        return end if len(self._unread) >= end else None


class Proxy:
    """Passes bytes both ways between whoever connects and a Postgres server.

    It runs in a thread of its own; its methods may be called from any other. `stall` holds bytes
    back and loses none: `resume` lets them go on. `cut` resets the connections that there are; new
    ones are taken all the same, unless `refuse` was called. ``sent`` counts the blocks that clients
    sent: a query is one or two, as they happen to arrive, and more if its values are many.
    ``round_trips`` counts their turns: blocks of a client with no answer between them are one.
    """

    def __init__(self, host: str, port: int) -> None:
        self.connections = 0
        self.sent = 0
        self.round_trips = 0
        self._target = (host, port)
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._notices = True
        self._delay_s = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._watch: Callable[[bytes], bool] | None = None
        self._told: list[bytes] | None = None

    @classmethod
    @contextmanager
    def before(cls, url: str) -> Iterator[Self]:
        """Run a proxy before the server of a URL."""
        parts = urlsplit(url)
        host = parts.hostname or parse_qs(parts.query)["host"][0]
        proxy = cls(host, parts.port or 5432)
        ready, stop = threading.Event(), asyncio.Event()

        async def serve() -> None:
            proxy._loop = asyncio.get_running_loop()
            async with await asyncio.start_server(proxy._connected, "127.0.0.1", 0) as listener:
                proxy._port = listener.sockets[0].getsockname()[1]
                ready.set()
                await stop.wait()
                listener.close()
                # Readers that were reset end by themselves, in a turn of the loop each; one whose
                # client was taken just before has not begun yet.
                while True:
                    proxy._abort()
                    proxy._flowing.set()
                    await asyncio.sleep(0.01)
                    if len(asyncio.all_tasks()) == 1:
                        break

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy")
        thread.start()
        ready.wait()
        try:
            yield proxy
        finally:
            proxy._call(stop.set)
            thread.join()

    def url(self, url: str) -> str:
        """Return the URL of a database, by way of the proxy."""
        parts = urlsplit(url)
        user = parts.username or "postgres"
        return urlunsplit(("postgresql", f"{user}@127.0.0.1:{self._port}", parts.path, "", ""))

    def cut(self) -> None:
        """Reset every connection."""
        self._call(self._abort)

    def cut_at(self, sent: bytes) -> None:
        """Reset every connection, once, when a client sends these bytes, which don't arrive."""
        self.act_at(sent, self._abort)

    def act_at(
        self, sent: bytes, act: Callable[[], object], times: int = 1, *, arrives: bool = False
    ) -> None:
        """Act, once, when clients send these bytes for that many times, before the last arrive.

        They may not.
        """
        seen = 0

        def watch(data: bytes) -> bool:
            nonlocal seen
            seen += sent in data
            if seen < times or sent not in data:
                return False
            self._watch = None
            act()
            return not arrives

        self._watch = watch

    @contextmanager
    def statements(self) -> Iterator[list[bytes]]:
        """Yield a list to which each statement is added that comes by connections of meanwhile.

        Of one that was prepared it tells the name and how many rows are asked for.
        """
        self._told = told = list[bytes]()
        try:
            yield told
        finally:
            self._told = None

    def stall_at(self, sent: bytes) -> None:
        """Hold every byte back, once a client has sent these, which still arrive."""
        self.act_at(sent, self._flowing.clear, arrives=True)

    def at_block(self, number: int, act: Callable[[], object], *, arrives: bool) -> None:
        """Act when clients send so many blocks more, before that block arrives; it may not."""
        last = self.sent + number

        def watch(_: bytes) -> bool:
            if self.sent < last:
                return False
            self._watch = None
            act()
            return not arrives

        self._watch = watch

    def stall(self) -> None:
        """Hold every byte back."""
        self._call(self._flowing.clear)

    def resume(self) -> None:
        """Let the bytes go on that were held back."""
        self._call(self._flowing.set)

    def slow(self, delay_s: float) -> None:
        """Hold every block back for so long."""
        self._delay_s = delay_s

    def refuse(self, *, refusing: bool = True) -> None:
        """Hear out whoever connects from now on and close, as a server does that starts up."""
        self._refusing = refusing

    def drop_notices(self) -> None:
        """Pass no notice of the server on from now on, as a pooler in transaction mode does."""
        self._notices = False

    def _call(self, action: Callable[[], object]) -> None:
        assert self._loop is not None
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait(10)

    def _abort(self) -> None:
        for writer in self._open:
            connection: socket.socket = writer.get_extra_info("socket")
            if not writer.transport.is_closing() and connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            await reader.read(_BLOCK)
            writer.close()
            return
        host, port = self._target
        onward, back = await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        self._open |= {writer, back}
        answered = True
        statements = None if self._told is None else _Statements(self._told)

        def asks(data: bytes) -> bool:
            nonlocal answered
            self.sent += 1
            if statements is not None:
                statements.feed(data)
            self.round_trips += answered
            answered = False
            return self._watch is not None and self._watch(data)

        def answers(_: bytes) -> bool:
            nonlocal answered
            answered = True
            return False

        try:
            await asyncio.gather(
                self._pass_on(reader, back, asks), self._pass_on(onward, writer, answers)
            )
        finally:
            self._open -= {writer, back}

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        swallow: Callable[[bytes], bool],
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_BLOCK):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if swallow(data):
                    break
                if data[:1] == _NOTICE and not self._notices:
                    continue  # it comes alone on a connection that is idle
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
