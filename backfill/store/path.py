"""Where a session finds what our SQL names: in PostgreSQL's own schema and in that of our tables.

A function or operator of the same name in any other schema is out of reach. One that somebody else
made in the very schema of our tables would still be called where its types fit better than those of
PostgreSQL's own; nothing is done while there is one.
"""

from collections.abc import Sequence
from typing import Final

from backfill.core.dataclass import dataclass
from backfill.errors import SchemaMismatch, UsageError
from backfill.store import quote

_HELD: Final = ("backfill_migrations", "symbols", "ohlc_bars")
# Under the path that the session has or the URL names: which of its schemas hold our tables, or
# where there are none, which comes first; is the first one named there; which isolation is the
# default; what of somebody else's stands in those schemas under the name, but with other arguments,
# of a function or operator of PostgreSQL's own. It runs before any path is set, so it names the
# schema of all it calls.
_LOOK: Final = """
    WITH path AS (
        SELECT
            p.place,
            CASE WHEN p.name OPERATOR(pg_catalog.=) '$user'::pg_catalog.text
                THEN CURRENT_USER::pg_catalog.text ELSE p.name END AS name
        FROM pg_catalog.unnest({path}) WITH ORDINALITY AS p (name, place)
    ),
    usable AS (
        SELECT p.place, n.oid, n.nspname
        FROM path AS p
        JOIN pg_catalog.pg_namespace AS n
            ON n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) p.name
        WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.text
    ),
    ledger AS (
        SELECT u.place
        FROM usable AS u
        JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) u.oid
        WHERE c.relname OPERATOR(pg_catalog.=) 'backfill_migrations'::pg_catalog.name
        ORDER BY u.place LIMIT 1
    ),
    tables AS (
        SELECT DISTINCT ON (c.relname) c.relname, c.relowner, u.place
        FROM ledger AS l
        CROSS JOIN usable AS u
        JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) u.oid
        WHERE c.relname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ({held})
        ORDER BY c.relname, u.place OPERATOR(pg_catalog.=) l.place DESC, u.place
    ),
    ours AS (
        SELECT u.place OPERATOR(pg_catalog.=) l.place AS holds_ledger, u.*
        FROM usable AS u
        JOIN ledger AS l ON EXISTS (
            SELECT FROM tables AS t WHERE t.place OPERATOR(pg_catalog.=) u.place
        )
        UNION ALL
        SELECT true, u.*
        FROM usable AS u
        WHERE NOT EXISTS (SELECT FROM ledger)
            AND u.place OPERATOR(pg_catalog.=) (SELECT pg_catalog.min(f.place) FROM usable AS f)
    ),
    trusted AS (
        SELECT r.oid FROM pg_catalog.pg_roles AS r
        WHERE r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
        UNION ALL SELECT t.relowner FROM tables AS t
        UNION ALL
        SELECT d.datdba FROM pg_catalog.pg_database AS d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
    ),
    callable AS NOT MATERIALIZED (
        SELECT
            'function'::pg_catalog.text AS kind,
            p.oid,
            p.pronamespace AS home,
            p.proname AS name,
            p.proargtypes::pg_catalog.oid[] AS arguments,
            p.proowner AS owner
        FROM pg_catalog.pg_proc AS p
        UNION ALL
        SELECT
            'operator'::pg_catalog.text,
            p.oid,
            p.oprnamespace,
            p.oprname,
            ARRAY[p.oprleft, p.oprright],
            p.oprowner
        FROM pg_catalog.pg_operator AS p
    ),
    shadows AS (
        SELECT
            pg_catalog.format(
                '%s of %s',
                CASE WHEN c.kind OPERATOR(pg_catalog.=) 'function'::pg_catalog.text
                    THEN c.oid::pg_catalog.regprocedure::pg_catalog.text
                    ELSE c.oid::pg_catalog.regoperator::pg_catalog.text END,
                r.rolname
            ) AS told
        FROM ours AS o
        JOIN callable AS c ON c.home OPERATOR(pg_catalog.=) o.oid
        JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) c.owner
        CROSS JOIN LATERAL (
            SELECT
                pg_catalog.count(*) AS names,
                pg_catalog.count(*) FILTER (
                    WHERE s.arguments OPERATOR(pg_catalog.=) c.arguments
                ) AS same
            FROM callable AS s
            WHERE s.home OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
                AND s.kind OPERATOR(pg_catalog.=) c.kind
                AND s.name OPERATOR(pg_catalog.=) c.name
        ) AS theirs
        WHERE theirs.names OPERATOR(pg_catalog.>) 0::pg_catalog.int8
            AND theirs.same OPERATOR(pg_catalog.=) 0::pg_catalog.int8
            AND NOT EXISTS (
                SELECT FROM trusted AS t WHERE t.oid OPERATOR(pg_catalog.=) c.owner
            )
    )
    SELECT
        pg_catalog.current_setting('default_transaction_isolation'),
        (
            SELECT pg_catalog.string_agg(
                pg_catalog.encode(pg_catalog.convert_to(o.nspname::pg_catalog.text, 'UTF8'), 'hex'),
                ','::pg_catalog.text ORDER BY o.holds_ledger DESC, o.place
            )
            FROM ours AS o
        ),
        (
            SELECT pg_catalog.count(*) FROM usable AS u
            WHERE u.place OPERATOR(pg_catalog.=) 1::pg_catalog.int8
        ),
        (
            SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.min(s.told), 'UTF8'), 'hex')
            FROM shadows AS s
        ),
        EXISTS (SELECT FROM ledger)
"""
_NULL: Final = "\\N"  # as COPY writes it
_SESSIONS_OWN: Final = "pg_catalog.current_schemas(false)::pg_catalog.text[]"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session is like before we set anything.

    ``schemas`` are those that hold our tables, the one of the ledger of migrations first (more than
    one only where tables were adopted from others); where no table is, the one to make them in.
    ``isolation`` is that of a statement that stands alone; ``has_ledger`` tells whether there is a
    ledger of migrations.
    """

    schemas: tuple[str, ...]
    isolation: str
    has_ledger: bool


def look(named: Sequence[str]) -> str:
    """Return the query for what a session is like; ``named`` is the URL's path, if it has one."""
    return _LOOK.format(
        path=quote.texts(named) if named else _SESSIONS_OWN, held=quote.texts(_HELD)
    )


def seen(row: str, named: Sequence[str]) -> Surroundings:
    """Return what `look` has found, from its only row as COPY writes it.

    Raises
    ------
    UsageError
        If the URL names a schema that isn't there, or isn't this login's to use.
    SchemaMismatch
        If somebody else's function or operator would be called instead of PostgreSQL's own.
    """
    isolation, schemas, first, shadow, ledger = row.split("\t")
    if named and named[0] != "$user" and first == "0":
        raise UsageError(
            f"DATABASE_URL names the schema {named[0]}, which isn't there or isn't this login's to "
            f"use: CREATE SCHEMA {quote.identifier(named[0])}"
        )
    names = () if schemas == _NULL else tuple(map(_text, schemas.split(",")))
    if shadow != _NULL:
        raise SchemaMismatch(
            f"{_text(shadow)} would be called instead of PostgreSQL's own: drop it, and revoke "
            f"CREATE on the schema {', '.join(names)} from whoever may not change our tables"
        )
    return Surroundings(names, isolation, ledger == "t")


def setting(schemas: Sequence[str]) -> str:
    """Return the statement that sets the path for a transaction.

    PostgreSQL's own schema goes first unless it is named; tables of the session go last.
    """
    return f"SET LOCAL search_path = {', '.join([*map(quote.identifier, schemas), 'pg_temp'])};"


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode()
