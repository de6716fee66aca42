"""The bars that failed a check: counted, listed, marked once somebody has looked at them."""

# Over 300 lines: one table: its statements, how they choose and how they are read belong together.

import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.checks import Reason
from backfill.core.coverage import Span
from backfill.core.lots import lots
from backfill.core.plain import json_text
from backfill.core.series import Series, SymbolId
from backfill.core.ticker import stored_spellings
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of
from backfill.store.pool import Connection, Database
from backfill.store.quote import bound
from backfill.store.times import to_ms, to_time

# How many of the chosen bars each series holds for each reason, and between which stamps.
_COUNT: Final = """
    SELECT q.symbol_id, s.ticker, q.timeframe::text AS timeframe, q.reason, count(*) AS bars,
        min(q.ts) AS first, max(q.ts) AS last
    FROM quarantined_bars AS q
    JOIN symbols AS s ON s.id = q.symbol_id
    WHERE ($1::text[] IS NULL OR s.spelling = ANY ($1))
        AND ($2::text[] IS NULL OR q.timeframe::text = ANY ($2))
        AND ($3::text[] IS NULL OR q.reason = ANY ($3))
        AND ($4 OR q.accepted_at IS NULL)
    GROUP BY q.symbol_id, s.ticker, q.timeframe, q.reason
    ORDER BY s.ticker, q.timeframe, q.reason
"""
# The next of the chosen bars of a few series, each by the index on the series.
_NEXT: Final = """
    SELECT q.*
    FROM unnest($1::symbol_id[], $2::text[]::timeframe[])
        WITH ORDINALITY AS k (symbol_id, timeframe, number)
    CROSS JOIN LATERAL (
        SELECT k.symbol_id, k.timeframe, k.number, q.id, q.ts, q.reason, q.raw,
            q.run_id::text, q.quarantined_at, q.accepted_at
        FROM quarantined_bars AS q
        WHERE q.symbol_id = k.symbol_id AND q.timeframe = k.timeframe
            AND q.ts >= $5 AND (q.ts, q.id) > ($5, $6)
            AND ($3::text[] IS NULL OR q.reason = ANY ($3))
            AND ($4 OR q.accepted_at IS NULL)
        ORDER BY q.ts, q.id
        LIMIT $7
    ) AS q
    ORDER BY q.number, q.ts, q.id
    LIMIT $7
"""
# The same, held for the statement.
_OF_PAGE: Final = f"WITH page AS MATERIALIZED ({_NEXT})"
# Whether the table holds a bar there by now, by the primary key: looked up for each, or, of one
# series, read from the first to the last.
_BY_KEY: Final = """
    EXISTS (
        SELECT FROM ohlc_bars AS b
        WHERE b.symbol_id = page.symbol_id AND b.timeframe = page.timeframe AND b.ts = page.ts
    )
"""
_BY_RANGE: Final = """
    page.ts IN (
        SELECT b.ts
        FROM ohlc_bars AS b
        WHERE b.symbol_id = ($1::symbol_id[])[1] AND b.timeframe = ($2::text[])[1]::timeframe
            AND b.ts >= (SELECT min(ts) FROM page) AND b.ts <= (SELECT max(ts) FROM page)
    )
"""
_AS_ROWS: Final = """
    {page}
    SELECT number, ts, reason, raw, run_id, quarantined_at, accepted_at, {stored} AS stored, id
    FROM page
"""
_PAGE: Final = _AS_ROWS.format(page=_OF_PAGE, stored=_BY_KEY)
# The same bars as JSON, one value a page: no Python object is made for a bar. $8 has how an object
# begins for each series. Times are written by the session's zone, which is UTC then; the bars are
# in order as the page holds them.
_AS_JSON: Final = """
    {page}
    SELECT count(*) AS bars,
        (SELECT (ts, id) FROM page ORDER BY number DESC, ts DESC, id DESC LIMIT 1) AS last,
        string_agg(
            ($8::text[])[number]
            || ', "ts": ' || to_json(ts)::text
            || ', "reason": ' || to_json(reason)::text
            || ', "raw": ' || raw::text
            || ', "run_id": "' || run_id
            || '", "quarantined_at": ' || to_json(quarantined_at)::text
            || ', "accepted_at": ' || coalesce(to_json(accepted_at)::text, 'null')
            || CASE WHEN {stored} THEN ', "stored": true}}' ELSE ', "stored": false}}' END,
            ', '
        ) AS objects
    FROM page
"""
_PAGE_JSON: Final = _AS_JSON.format(page=_OF_PAGE, stored=_BY_KEY)
_DENSE_PAGE_JSON: Final = _AS_JSON.format(page=_OF_PAGE, stored=_BY_RANGE)
# Times are written as of UTC until the transaction ends.
_IN_UTC: Final = "SET LOCAL TimeZone = 'UTC'"
# What failed a check of each series within a span, not what left the table later.
_REJECTED: Final = """
    SELECT DISTINCT k.number, q.ts
    FROM unnest(
        $1::symbol_id[], $2::text[]::timeframe[], $3::timestamptz[], $4::timestamptz[]
    ) WITH ORDINALITY AS k (symbol_id, timeframe, starts, ends, number)
    JOIN quarantined_bars AS q
        ON q.symbol_id = k.symbol_id AND q.timeframe = k.timeframe
        AND q.ts >= k.starts AND q.ts < k.ends
    WHERE q.reason <> ALL ($5::text[])
"""
# The next of the chosen bars to be marked, by the primary key, and which is the last of them.
_ACCEPT: Final = """
    WITH chosen AS (
        SELECT q.id
        FROM quarantined_bars AS q
        JOIN symbols AS s ON s.id = q.symbol_id
        WHERE q.id > $4 AND q.accepted_at IS NULL
            AND ($1::text[] IS NULL OR s.spelling = ANY ($1))
            AND ($2::text[] IS NULL OR q.timeframe::text = ANY ($2))
            AND ($3::text[] IS NULL OR q.reason = ANY ($3))
        ORDER BY q.id
        LIMIT $5
    ),
    accepted AS (
        UPDATE quarantined_bars AS q
        SET accepted_at = now()
        FROM chosen AS c
        WHERE q.id = c.id AND q.accepted_at IS NULL
        RETURNING q.id
    )
    SELECT
        (SELECT count(*) FROM accepted) AS accepted,
        count(*) AS chosen,
        max(id) AS last
    FROM chosen
"""
_PAGE_BARS: Final = 10_000
_DENSE: Final = 16
"""Where so many slots hold one of the bars in quarantine, a range is read sooner than each key."""
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
_ACCEPTED_AT_ONCE: Final = 50_000

_Page = TypeVar("_Page")
_Place: TypeAlias = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which bars in quarantine: of these tickers, timeframes and reasons; None stands for any."""

    tickers: Sequence[str] | None = None
    timeframes: Sequence[Timeframe] | None = None
    reasons: Sequence[Reason] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """How many bars of a series are in quarantine for a reason, from which stamp to which."""

    symbol_id: SymbolId
    symbol: str
    timeframe: Timeframe
    reason: str
    bars: int
    first: datetime
    last: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "symbol": self.symbol,
            "timeframe": str(self.timeframe),
            "reason": self.reason,
            "bars": self.bars,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
        }


class QuarantinedBar(NamedTuple):
    """One bar in quarantine, with its values as they came, in JSON.

    ``ts`` is the provider's stamp, in UTC. ``stored`` tells that the table holds a bar with that
    stamp by now: another answer has brought one that passed.
    """

    symbol: str
    timeframe: Timeframe
    ts: datetime
    reason: str
    raw_json: str
    run_id: str
    quarantined_at: datetime
    accepted_at: datetime | None
    stored: bool

    @property
    def raw(self) -> dict[str, Any]:
        """The values by name."""
        values: dict[str, Any] = json.loads(self.raw_json)
        return values


async def held_bars(
    connection: Connection, choice: Choice, *, accepted: bool = False
) -> list[Held]:
    """Count the chosen bars by series and reason, with those that were accepted only if asked."""
    return [
        Held(
            row["symbol_id"],
            row["ticker"],
            Timeframe(row["timeframe"]),
            row["reason"],
            row["bars"],
            row["first"],
            row["last"],
        )
        for row in await connection.fetch(_COUNT, *values_of(choice), accepted)
    ]


async def quarantined_bars(
    database: Database,
    choice: Choice,
    held: Sequence[Held],
    *,
    accepted: bool = False,
    limit: int | None = None,
) -> AsyncIterator[list[QuarantinedBar]]:
    """Yield the chosen bars by series and stamp, some thousand at a time, ``limit`` at most.

    ``held`` are their counts, as `held_bars` returns them. Each lot is read in a transaction of its
    own: bars that come or leave meanwhile may be missing.
    """
    async for page in _pages(database, _bars, choice, held, accepted=accepted, limit=limit):
        yield page


async def quarantined_json(
    database: Database,
    choice: Choice,
    held: Sequence[Held],
    *,
    accepted: bool = False,
    limit: int | None = None,
) -> AsyncIterator[str]:
    """Yield the same as objects of JSON with commas between them, as the database writes them."""
    async for page in _pages(database, _objects, choice, held, accepted=accepted, limit=limit):
        yield page


async def _pages(
    database: Database,
    read: Callable[..., Awaitable[tuple[_Page, int, _Place]]],
    choice: Choice,
    held: Sequence[Held],
    *,
    accepted: bool,
    limit: int | None,
) -> AsyncIterator[_Page]:
    left = sum(one.bars for one in held) if limit is None else limit
    for series in _lots(held):
        after: _Place = (_BEFORE_ALL, 0)
        more = True
        while more and left > 0:
            most = min(left, _PAGE_BARS)
            _, _, reasons = values_of(choice)
            ids, timeframes = (
                [one.symbol_id for one in series],
                [str(one.timeframe) for one in series],
            )
            values = ids, timeframes, reasons, accepted, *after, most
            page, bars, after = await database.run(partial(read, series=series, values=values))
            if bars:
                yield page
            left -= bars
            more = len(series) == 1 and bars == most


def _lots(held: Sequence[Held]) -> Iterator[list[Held]]:
    """Return series, of all reasons together, joined as they fit into one page."""
    by_series = groupby(held, key=lambda one: (one.symbol_id, one.timeframe))
    series = (_together(list(counts)) for _, counts in by_series)
    return lots(((one, one.bars) for one in series), _PAGE_BARS)


def _together(counts: Sequence[Held]) -> Held:
    """Return the counts of a series for all reasons as one."""
    return replace(
        counts[0],
        bars=sum(one.bars for one in counts),
        first=min(one.first for one in counts),
        last=max(one.last for one in counts),
    )


def _is_dense(held: Held) -> bool:
    """Whether reading all bars of a series costs less than looking for those in quarantine."""
    if not held.timeframe.is_intraday:
        return True
    slots = (held.last - held.first) / timedelta(milliseconds=held.timeframe.length_ms)
    return slots <= _DENSE * held.bars


async def _bars(
    connection: Connection, series: Sequence[Held], values: Sequence[Any]
) -> tuple[list[QuarantinedBar], int, _Place]:
    """Read a page of bars; return how many they are, and the place behind the last one."""
    rows = await connection.fetch(_PAGE, *values)
    named = [(one.symbol, one.timeframe) for one in series]
    bars = [QuarantinedBar(*named[number - 1], *told) for number, *told, _ in rows]
    return bars, len(bars), (rows[-1]["ts"], rows[-1]["id"]) if rows else (_BEFORE_ALL, 0)


async def _objects(
    connection: Connection, series: Sequence[Held], values: Sequence[Any]
) -> tuple[str, int, _Place]:
    """Read a page of bars as JSON, as `_bars` does."""
    begin = [json_text({"symbol": one.symbol, "timeframe": str(one.timeframe)}) for one in series]
    query = _DENSE_PAGE_JSON if len(series) == 1 and _is_dense(series[0]) else _PAGE_JSON
    connection.later(_IN_UTC)
    row = (await connection.fetch(query, *values, [one.removesuffix("}") for one in begin]))[0]
    return row["objects"] or "", row["bars"], row["last"] or (_BEFORE_ALL, 0)


def rejecting(within: Mapping[Series, Span]) -> str:
    """Return the query for each series' bars within a span that failed a check."""
    return bound(
        _REJECTED,
        *keys_of(within),
        [to_time(span.start_ms) for span in within.values()],
        [to_time(span.end_ms) for span in within.values()],
        [str(one) for one in (Reason.withdrawn, Reason.source_changed, Reason.before_listing)],
    )


def read_rejected(
    within: Iterable[Series], rows: Iterable[Mapping[str, Any]]
) -> dict[Series, IntColumn]:
    """Return the stamps, in epoch ms, of the bars that the rows of `rejecting` tell of."""
    stamps: dict[Series, list[int]] = {one: [] for one in within}
    series = list(stamps)
    for row in rows:
        stamps[series[row["number"] - 1]].append(to_ms(datetime.fromisoformat(row["ts"])))
    return {one: np.array(found, np.int64) for one, found in stamps.items()}


async def accept(database: Database, choice: Choice) -> int:
    """Mark the chosen bars as looked at, some in each transaction; return how many were not."""
    accepted, last = 0, 0
    while True:
        row = await database.fetch_row(_ACCEPT, *values_of(choice), last, _ACCEPTED_AT_ONCE)
        accepted += row["accepted"]
        if row["chosen"] < _ACCEPTED_AT_ONCE:
            return int(accepted)
        last = row["last"]


def values_of(choice: Choice) -> list[list[str] | None]:
    """Return a choice as three arrays for a statement; None stands for any."""
    return [
        None if names is None else [str(name) for name in names]
        for names in (
            choice.tickers and stored_spellings(*choice.tickers),
            choice.timeframes,
            choice.reasons,
        )
    ]
