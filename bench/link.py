"""A link to a database far away: each byte is under way for half of a round trip."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit, urlunsplit

_BLOCK = 2**18


class Link:
    """Passes bytes on to a server behind a delay; what follows another is under way with it.

    ``round_trips`` counts the turns of its clients: what they send with no answer between is one.
    """

    def __init__(self, url: str, round_trip_s: float) -> None:
        parts = urlsplit(url)
        self.round_trips = 0
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._path = parts.path
        self._delay_s = round_trip_s / 2
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of the database, by way of the link."""
        return urlunsplit(("postgresql", f"postgres@127.0.0.1:{self._port}", self._path, "", ""))

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Take connections until it is to stop."""
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as listener:
            self._port = listener.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_unix_connection(self._socket)
        answered = True

        def asks() -> None:
            nonlocal answered
            self.round_trips += answered
            answered = False

        def answers() -> None:
            nonlocal answered
            answered = True

        await asyncio.gather(
            self._pass_on(reader, onward, asks), self._pass_on(back, writer, answers)
        )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
    ) -> None:
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            data = b"-"
            with suppress(ConnectionError):
                while data:
                    arrives_s, data = await under_way.get()
                    await asyncio.sleep(arrives_s - clock())
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            data = b"-"
            while data:
                try:
                    data = await reader.read(_BLOCK)
                except ConnectionError:
                    data = b""
                note()
                under_way.put_nowait((clock() + self._delay_s, data))


@contextmanager
def far(url: str, round_trip_s: float) -> Iterator[Link]:
    """Run a link to the database of a URL, whose server listens on a socket."""
    link, ready, stop = Link(url, round_trip_s), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await link.serve(ready, stop)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield link
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
