"""The table of bars as it is: our own, or one that was there before and was adopted."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from backfill.core.dataclass import dataclass
from backfill.core.precision import Decimals, Precision
from backfill.errors import RowsDropped
from backfill.store.pool import Connection
from backfill.store.session import Asks

VALUES: Final = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
_DOUBLE: Final = "double precision"
_NUMERIC: Final = re.compile(r"numeric\((\d+),(\d+)\)")
# The columns of the table of bars, their types, whether it has partitions, and whether anything but
# our own count and constraints may have a word in what is written.
COLUMNS: Final = """
    SELECT
        attname AS name,
        CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
            ELSE format_type(atttypid, atttypmod) END AS type,
        attlen AS width,
        (SELECT relkind = 'p' FROM pg_class WHERE oid = 'ohlc_bars'::regclass) AS partitioned,
        EXISTS (
            SELECT
            FROM pg_trigger
            WHERE tgrelid = 'ohlc_bars'::regclass AND NOT tgisinternal AND tgenabled <> 'D'
                AND tgname <> 'backfill_uncounted'
        ) AS triggered
    FROM pg_attribute
    JOIN pg_type AS t ON t.oid = atttypid
    WHERE attrelid = 'ohlc_bars'::regclass AND attnum > 0 AND NOT attisdropped
"""
# Which triggers that are not of a constraint may have a word in what is written?
_TRIGGERS: Final = """
    SELECT string_agg(tgname, ', ' ORDER BY tgname)
    FROM pg_trigger
    WHERE tgrelid = 'ohlc_bars'::regclass AND NOT tgisinternal AND tgenabled <> 'D'
        AND tgname <> 'backfill_uncounted'
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """The SQL types of the columns of ``ohlc_bars``, and how many bytes its ``symbol_id`` has.

    ``provider`` is the type of a column that names where a bar is from, if there is one: an adopted
    table has it. ``partitioned`` says whether its rows lie in partitions, ``triggered`` whether
    somebody's trigger may drop rows; one of a partition's own may as well.
    """

    types: tuple[str, ...]
    id_width: int
    provider: str | None
    partitioned: bool
    triggered: bool

    @property
    def keeps_all(self) -> bool:
        """Whether rows that it takes without an error are all there."""
        return not (self.partitioned or self.triggered)

    @property
    def is_own(self) -> bool:
        """Whether the table holds doubles, as the migrations make it, and takes them unchanged."""
        doubles = (_DOUBLE,) * 6
        return self.provider is None and self.types == (*doubles, "bigint")

    @property
    def precision(self) -> Precision:
        """What its decimal columns can hold."""
        found = zip(VALUES, map(_NUMERIC.fullmatch, self.types), strict=True)
        return Precision(
            tuple(
                Decimals(name, int(kind[1]) - int(kind[2]), int(kind[2]))
                for name, kind in found
                if kind
            )
        )


async def bars_shape(asks: Asks) -> Shape:
    """Return the shape of the table of bars."""
    (rows,) = await asks.ask(COLUMNS)
    return read_shape(rows)


def read_shape(rows: Iterable[Mapping[str, Any]]) -> Shape:
    """Return the shape of the table that the rows of `COLUMNS` tell of."""
    columns = {row["name"]: row for row in rows}
    return Shape(
        types=tuple(columns[name]["type"] for name in VALUES),
        id_width=columns["symbol_id"]["width"],
        provider=columns["provider"]["type"] if "provider" in columns else None,
        partitioned=columns["symbol_id"]["partitioned"],
        triggered=columns["symbol_id"]["triggered"],
    )


def rows_told(status: str) -> int:
    """Return how many rows a statement says that it wrote, such as ``INSERT 0 10``."""
    return int(status.rpartition(" ")[2])


async def rows_dropped(connection: Connection, meant: int, kept: int) -> RowsDropped:
    """Return the error to raise where the table didn't do with all rows what it was told."""
    triggers = await connection.fetchval(_TRIGGERS)
    why = f"by its trigger(s) {triggers}" if triggers else "by a rule of its own"
    return RowsDropped(
        f"the table ohlc_bars dropped {meant - kept} of {meant} bars {why}: "
        "nothing of the page is stored or counts as covered"
    )
