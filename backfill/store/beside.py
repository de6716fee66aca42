"""What is known beside the bars of a series, to be marked where it lies: quarantine, actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from backfill.core.coverage import Span
from backfill.core.series import Series
from backfill.core.splits import Ratio
from backfill.store.keys import key_of
from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.times import day_of, to_time

# The bars of a series in quarantine that nobody has accepted, within a span: the newest so many,
# by the index on the series.
_QUARANTINED: Final = """
    SELECT q.ts, q.reason, q.raw
    FROM quarantined_bars AS q
    WHERE q.symbol_id = $1 AND q.timeframe = $2::text::timeframe AND q.ts >= $3 AND q.ts < $4
        AND q.accepted_at IS NULL
    ORDER BY q.ts DESC, q.id DESC
    LIMIT $5
"""
# The splits of a symbol within some days that weren't dropped: those that prices have shown to be
# its, or its instrument's, under whatever name; the others under the name of that day.
_SPLITS: Final = """
    SELECT x.execution_date, x.split_from, x.split_to, x.status
    FROM symbols AS s
    JOIN splits AS x
        ON CASE WHEN x.symbol_id IS NULL
            THEN EXISTS (
                SELECT
                FROM symbol_names AS n
                WHERE n.symbol_id = s.id AND n.ticker = x.ticker
                    AND x.execution_date >= n.valid_from AND x.execution_date < n.valid_until
            )
            ELSE x.symbol_id = coalesce(s.listing_of, s.id)
        END
    WHERE s.id = $1 AND x.execution_date BETWEEN $2 AND $3 AND x.status <> 'dropped'
    ORDER BY x.execution_date, x.ticker
"""
# Its dividends within those days, by the index on the day.
_DIVIDENDS: Final = """
    SELECT d.ex_dividend_date, d.cash_amount, d.currency, d.dividend_type
    FROM dividends AS d
    WHERE d.ex_dividend_date BETWEEN $2 AND $3
        AND EXISTS (
            SELECT
            FROM symbol_names AS n
            WHERE n.symbol_id = $1 AND n.ticker = d.ticker
                AND d.ex_dividend_date >= n.valid_from AND d.ex_dividend_date < n.valid_until
        )
    ORDER BY d.ex_dividend_date, d.cash_amount
"""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A bar in quarantine: its stamp as the provider had it, why it is there, its values."""

    ts: datetime
    reason: str
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Split:
    """A split, by the day from which on prices are of new shares; only an applied one adjusts."""

    on: date
    ratio: Ratio
    status: str


@dataclass(frozen=True, slots=True)
class Dividend:
    """A dividend, by the first day without it; the amount is per share of that day."""

    on: date
    amount: float
    currency: str
    kind: str


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside the bars of a series, oldest first."""

    rejected: tuple[Rejected, ...] = ()
    splits: tuple[Split, ...] = ()
    dividends: tuple[Dividend, ...] = ()


async def beside(
    connection: Connection, series: Series, span: Span, days: tuple[date, date], most: int
) -> Beside:
    """Return what lies beside a series' bars within a span and its days, in one round trip.

    Of bars in quarantine these are the newest ``most``.
    """
    key, symbol_id = key_of(series), series.symbol.id
    within = to_time(span.start_ms), to_time(span.end_ms)
    rejected, splits, dividends = await connection.ask(
        bound(_QUARANTINED, *key, *within, most),
        bound(_SPLITS, symbol_id, *days),
        bound(_DIVIDENDS, symbol_id, *days),
    )
    return Beside(
        tuple(_rejected(row) for row in reversed(rejected)),
        tuple(_split(row) for row in splits),
        tuple(_dividend(row) for row in dividends),
    )


def _rejected(row: Mapping[str, Any]) -> Rejected:
    return Rejected(datetime.fromisoformat(row["ts"]), row["reason"], row["raw"])


def _split(row: Mapping[str, Any]) -> Split:
    ratio = Ratio(new=row["split_to"], old=row["split_from"])
    return Split(day_of(row["execution_date"]), ratio, row["status"])


def _dividend(row: Mapping[str, Any]) -> Dividend:
    return Dividend(
        day_of(row["ex_dividend_date"]), row["cash_amount"], row["currency"], row["dividend_type"]
    )
