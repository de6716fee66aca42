"""Whether a login sees the rows of our tables, which row-level security hides without a word."""

from typing import Final

from backfill.errors import LoginRefused
from backfill.store.pool import Database

# Whether the login finds the table c empty, because no policy lets it see a row.
IS_HIDDEN: Final = """row_security_active(c.oid) AND NOT EXISTS (
            SELECT
            FROM pg_policy AS p
            CROSS JOIN unnest(p.polroles) AS r (role)
            WHERE p.polrelid = c.oid
                AND p.polpermissive
                AND p.polcmd IN ('r', '*')
                AND CASE WHEN r.role = 0 THEN true ELSE pg_has_role(r.role, 'USAGE') END
        )"""
# Which of our tables the login may not read, or finds empty.
_LOOKED_FOR: Final = """
    SELECT c.relname
    FROM unnest($1::text[]) AS t (name)
    JOIN pg_class AS c ON c.oid = to_regclass(t.name)
    WHERE NOT has_table_privilege(c.oid, 'SELECT') OR {is_hidden}
    ORDER BY c.relname
"""
_HIDDEN: Final = _LOOKED_FOR.format(is_hidden=IS_HIDDEN)
_LOOKED_AT: Final = (
    *("symbols", "symbol_aliases", "provider_symbols", "watchlist"),
    *("ohlc_bars", "backfill_progress", "known_empty", "quarantined_bars"),
    *("splits", "dividends", "market_sessions", "market_hours"),
    *("backfill_migrations", "backfill_runs", "backfill_changes"),
)


async def check_sight(database: Database) -> None:
    """See that the login reads what there is: an empty table would pass for one without rows.

    Raises
    ------
    LoginRefused
        If some table is hidden from it.
    """
    rows = await database.run(lambda connection: connection.fetch(_HIDDEN, list(_LOOKED_AT)))
    if rows:
        hidden = ", ".join(row["relname"] for row in rows)
        raise LoginRefused(
            f"the login of DATABASE_URL doesn't see the rows of {hidden}: each table takes "
            "GRANT SELECT and a policy (docs/database.md, a login that only reads)"
        )
