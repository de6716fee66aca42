"""What people were told, by where: who tells of a change claims it first, so one alone does."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from backfill.core.checks import Reason
from backfill.core.plain import storable
from backfill.core.told import Change, Matter, Trouble
from backfill.store.pool import Connection, Database
from backfill.store.quote import bound

CLAIMED_S: Final = 60.0
"""How long a change is nobody else's to tell: longer than telling may take."""

Told: TypeAlias = dict[str, dict[Matter, Trouble]]
"""What each destination was told of matters that aren't well."""

_LEFT_IN_ORDER: Final = [Reason.withdrawn, Reason.source_changed]
"""Why bars are in quarantine that no check failed: nobody has to deal with them."""

# What was told of what isn't well; a scan of the table, which has rows of what ever was not.
_TOLD: Final = """
    SELECT destination, name, timeframe, trouble
    FROM backfill_notices
    WHERE destination = ANY ($1::text[]) AND trouble IS NOT NULL
"""
# Of which of some series somebody could not be told that bars of them are in quarantine; likewise.
_UNHEARD: Final = """
    SELECT DISTINCT name, timeframe
    FROM backfill_notices
    WHERE destination = ANY ($1::text[]) AND claimed_trouble = $2
"""
# Which of these series have bars in quarantine that nobody has dealt with; by the index on series.
_IN_QUARANTINE: Final = """
    SELECT s.ticker::text AS name, k.timeframe
    FROM unnest($1::text[], $2::text[]) AS k (name, timeframe)
    JOIN symbols AS s ON s.ticker = k.name
    WHERE EXISTS (
        SELECT
        FROM quarantined_bars AS q
        WHERE q.symbol_id = s.id AND q.timeframe = k.timeframe::timeframe
            AND q.accepted_at IS NULL AND q.reason <> ALL ($3::text[])
    )
"""
# Which changes are ours to tell: those of which others told nothing since we looked, nor are just
# telling it; by the primary key. In one order, so that two who claim don't wait for one another.
_CLAIM: Final = """
    INSERT INTO backfill_notices AS n (
        destination, name, timeframe, trouble, claimed_by, claimed_until, claimed_trouble
    )
    SELECT c.destination, c.name, c.timeframe, c.was, $1::uuid, now() + make_interval(secs => $2),
        c.trouble
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS c (destination, name, timeframe, was, trouble)
    ORDER BY c.destination, c.name, c.timeframe
    ON CONFLICT (destination, name, timeframe) DO UPDATE
    SET claimed_by = excluded.claimed_by,
        claimed_until = excluded.claimed_until,
        claimed_trouble = excluded.claimed_trouble
    WHERE n.trouble IS NOT DISTINCT FROM excluded.trouble
        AND (
            n.claimed_by IS NULL OR n.claimed_until < now() OR n.claimed_by = excluded.claimed_by
        )
    RETURNING n.destination, n.name, n.timeframe
"""
# What was claimed has been told.
_TOLD_NOW: Final = """
    UPDATE backfill_notices
    SET trouble = claimed_trouble, told_at = now(), claimed_by = NULL, claimed_until = NULL,
        claimed_trouble = NULL
    WHERE claimed_by = $1 AND destination = ANY ($2::text[])
"""
# What was claimed and couldn't be told is anybody's again; it stays to be seen what it was.
_LEFT: Final = """
    UPDATE backfill_notices
    SET claimed_by = NULL, claimed_until = NULL
    WHERE claimed_by = $1
"""


async def told(database: Database, destinations: Sequence[str]) -> tuple[Told, set[Matter]]:
    """Return what some destinations were told of what isn't well, in one round trip.

    With that come the series of which some could not be told that bars of them are in quarantine.
    """
    [rows, unheard] = await database.ask(
        bound(_TOLD, list(destinations)),
        bound(_UNHEARD, list(destinations), str(Trouble.quarantined)),
    )
    found: Told = {destination: {} for destination in destinations}
    for row in rows:
        matter = Matter(row["name"], row["timeframe"])
        found[row["destination"]][matter] = Trouble(row["trouble"])
    return found, {Matter(row["name"], row["timeframe"]) for row in unheard}


async def in_quarantine(database: Database, series: Iterable[Matter]) -> set[Matter]:
    """Return those of some series that have bars in quarantine still to be dealt with."""
    asked = list(series)
    query = bound(
        _IN_QUARANTINE,
        [one.name for one in asked],
        [one.timeframe for one in asked],
        list(map(str, _LEFT_IN_ORDER)),
    )
    [rows] = await database.ask(query)
    return {Matter(row["name"], row["timeframe"]) for row in rows}


async def claim(
    database: Database, token: UUID, wanted: Mapping[str, Sequence[Change]]
) -> dict[str, list[Change]]:
    """Claim changes to be told, and return those that are ours to tell, by destinations with some.

    They are for `CLAIMED_S`; whoever has claimed some ends with `close`.
    """
    flat = [(where, one) for where, changed in wanted.items() for one in changed]

    async def work(connection: Connection) -> set[tuple[str, str, str]]:
        rows = await connection.returned(
            _CLAIM,
            token,
            CLAIMED_S,
            [where for where, _ in flat],
            [storable(one.matter.name) for _, one in flat],
            [one.matter.timeframe for _, one in flat],
            [one.was for _, one in flat],
            [one.now for _, one in flat],
        )
        return {(row["destination"], row["name"], row["timeframe"]) for row in rows}

    ours = await database.run(work)
    found: dict[str, list[Change]] = defaultdict(list)
    for where, one in flat:
        if (where, storable(one.matter.name), one.matter.timeframe) in ours:
            found[where].append(one)
    return found


async def close(database: Database, token: UUID, reached: Iterable[str]) -> None:
    """Note that the destinations that were reached have been told, and leave the rest to others."""

    async def work(connection: Connection) -> None:
        connection.later(_TOLD_NOW, token, list(reached))
        connection.later(_LEFT, token)

    await database.run(work)
