"""What a server says of itself and of our login: whether a run could work there, and where."""

from dataclasses import dataclass
from typing import Final

from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.sight import IS_HIDDEN

# Which server is it, who are we there, may anything be written, how much is stored, what does its
# clock say, and which of its processes is asked?
_SERVER: Final = """
    SELECT
        current_setting('server_version') AS version,
        current_setting('server_version_num')::integer AS version_number,
        current_user::text AS role,
        current_database()::text AS database,
        current_setting('TimeZone') AS time_zone,
        current_setting('transaction_read_only')::boolean AS read_only,
        pg_database_size(current_database()) AS bytes,
        extract(epoch FROM clock_timestamp()) AS clock_s,
        pg_backend_pid() AS pid
"""
# Of the tables that runs write: which may this login not write, and of which does row security show
# it nothing, since no policy is for it?
_ACCESSIBLE: Final = """
    SELECT
        c.relname::text AS name,
        has_table_privilege(c.oid, 'SELECT') AS readable,
        has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AS writable,
        {is_hidden} AS hidden
    FROM unnest($1::text[]) AS n (name)
    JOIN pg_class AS c ON c.oid = to_regclass(n.name)
    ORDER BY c.relname
"""
_ACCESS: Final = _ACCESSIBLE.format(is_hidden=IS_HIDDEN)
_WRITTEN: Final = (
    *("backfill_progress", "backfill_runs", "known_empty", "market_sessions", "ohlc_bars"),
    *("quarantined_bars", "symbols"),
)
# Which calendars do symbols trade by?
_CALENDARS: Final = "SELECT DISTINCT calendar FROM symbols ORDER BY calendar"


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a login of ours sees it.

    ``version_number`` is as PostgreSQL counts: 140005 is 14.5. ``bytes`` is what the database takes
    on the disk, ``clock_s`` what the server's clock showed, in seconds since the epoch. A pooler
    stands between where the server process that is asked isn't the one that was told of.
    """

    version: str
    version_number: int
    role: str
    database: str
    time_zone: str
    is_read_only: bool
    bytes: int
    clock_s: float
    is_pooled: bool


@dataclass(frozen=True, slots=True)
class Access:
    """Tables of ours that a login may not read or write, or whose rows a policy hides from it."""

    unreadable: tuple[str, ...]
    unwritable: tuple[str, ...]
    hidden: tuple[str, ...]


async def server(connection: Connection) -> Server:
    """Return what the server says of itself."""
    ((row,),) = await connection.ask(_SERVER)
    return Server(
        version=row["version"].partition(" ")[0],
        version_number=row["version_number"],
        role=row["role"],
        database=row["database"],
        time_zone=row["time_zone"],
        is_read_only=row["read_only"],
        bytes=row["bytes"],
        clock_s=float(row["clock_s"]),
        is_pooled=connection.told_pid != row["pid"],
    )


async def access(connection: Connection) -> Access:
    """Return what of our tables the login can't use."""
    (rows,) = await connection.ask(bound(_ACCESS, list(_WRITTEN)))
    return Access(
        tuple(row["name"] for row in rows if not row["readable"]),
        tuple(row["name"] for row in rows if not row["writable"]),
        tuple(row["name"] for row in rows if row["hidden"]),
    )


async def calendars(connection: Connection) -> list[str]:
    """Return the calendars of all symbols."""
    (rows,) = await connection.ask(_CALENDARS)
    return [row["calendar"] for row in rows]
