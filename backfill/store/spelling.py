"""How providers spell symbols, and whose bars symbols hold: no two share one at a provider."""

from collections.abc import Iterable, Sequence
from typing import Final

from backfill.core.series import Symbol, SymbolId
from backfill.store.pool import Connection

# One that no series is from, and no run is about to fill, is another symbol's to have; by the
# unique key.
_FREE: Final = """
    DELETE FROM provider_symbols AS h
    USING unnest($1::symbol_id[], $2::text[], $3::text[]) AS n (symbol_id, provider, spelling)
    WHERE h.provider = n.provider AND h.spelling = n.spelling AND h.symbol_id <> n.symbol_id
        AND NOT EXISTS (
            SELECT FROM backfill_progress AS p
            WHERE p.symbol_id = h.symbol_id
                AND (p.provider = h.provider OR p.claimed_until > now())
        )
"""
# Spellings that no symbol has at a provider yet; by either key.
_NOTE: Final = """
    INSERT INTO provider_symbols (symbol_id, provider, spelling)
    SELECT * FROM unnest($1::symbol_id[], $2::text[], $3::text[])
    ON CONFLICT DO NOTHING
"""
# Who has those of them that another symbol has; by the unique key.
_TAKEN: Final = """
    SELECT n.symbol_id, n.provider, s.ticker
    FROM unnest($1::symbol_id[], $2::text[], $3::text[]) AS n (symbol_id, provider, spelling)
    JOIN provider_symbols AS h
        ON h.provider = n.provider AND h.spelling = n.spelling AND h.symbol_id <> n.symbol_id
    JOIN symbols AS s ON s.id = h.symbol_id
"""
# Of which providers symbols hold series; by the primary key, of which it is the beginning.
_HOLDERS: Final = """
    SELECT symbol_id, array_agg(DISTINCT provider ORDER BY provider) AS providers
    FROM backfill_progress
    WHERE symbol_id = ANY ($1::symbol_id[]) AND provider IS NOT NULL
    GROUP BY symbol_id
"""


async def spell(
    connection: Connection, spellings: Sequence[tuple[SymbolId, str, str]]
) -> dict[tuple[SymbolId, str], str]:
    """Note how providers spell symbols: each a symbol, a provider and its spelling.

    Returns whose a spelling is, by symbol and provider, where another symbol has it already: the
    same bars would be kept twice, or those of another instrument than was meant.
    """
    columns = [list(column) for column in zip(*spellings, strict=True)]
    await connection.execute(_FREE, *columns)
    await connection.execute(_NOTE, *columns)
    rows = await connection.fetch(_TAKEN, *columns)
    return {(row["symbol_id"], row["provider"]): row["ticker"] for row in rows}


async def holders(connection: Connection, symbols: Iterable[Symbol]) -> dict[SymbolId, list[str]]:
    """Return of which providers symbols hold series; one without is missing from the result."""
    rows = await connection.fetch(_HOLDERS, [one.id for one in symbols])
    return {row["symbol_id"]: row["providers"] for row in rows}
