"""Writing a page: counts that are exact, values that come back, all of it or nothing (R9)."""

import asyncio
import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from backfill.core.bars import Bars
from backfill.core.checks import Reason
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason, empty_slots, joints
from backfill.core.paging import Chunk
from backfill.core.series import Progress, Series, Source
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.errors import DatabaseError, LeaseLost, SourceMismatch
from backfill.store import progress
from backfill.store.bars import _QUARANTINE
from backfill.store.counts import Counts
from backfill.store.keys import key_of
from backfill.store.pool import Database
from backfill.store.quote import bound
from backfill.store.read import _NEWEST, _OLDEST, reading
from backfill.store.source import EVER, expel
from backfill.store.times import to_text, to_time
from tests.calendars import calendar
from tests.conftest import _leave
from tests.integration.store_kit import (
    DAY,
    HOUR,
    MONTH,
    NOW,
    SOURCE,
    START,
    bar,
    bars_of,
    chunk,
    claimed,
    connection_to,
    database_name,
    empty,
    known,
    minutes,
    new_series,
    rejected,
    rows,
    span_of,
    value,
    write,
)

pytestmark = pytest.mark.one_database

# So many minutes of a symbol from a time on.
_MANY_MINUTES = """
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume)
    SELECT $1, 'm1', $2::timestamptz + minute * interval '1 minute', 1, 1, 1, 1, 1
    FROM generate_series(0, $3::integer - 1) AS minute
"""
_VERSIONS = "SELECT ts, ctid::text, xmin::text FROM ohlc_bars ORDER BY ts"
_EMPTY = """
    SELECT month, reason, slots, expires_at FROM known_empty
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
    ORDER BY month, reason
"""


async def test_new_bars_are_counted_as_inserted_and_come_back_bit_for_bit(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    tenth = 0.1 + 0.2  # 0.30000000000000004
    odd = Bars.of(
        [
            (START, tenth, np.nextafter(tenth, 1), 0.1, 1 / 7, 5e-324, 1e-310, 1),
            (START + MINUTE_MS, 1e308, 1.7e308, 5e-324, 1e-5, 1.7e308, None, None),
            (START + 2 * MINUTE_MS, 123456789.123456789, 2**53 + 2.0, 1.1, 1.1, 0.0, 7.7, 2**62),
        ]
    )
    assert await write(database, run_id, chunk(series, odd)) == [Counts(inserted=3)]
    assert (await bars_of(database, series)).equals(odd)


async def test_a_missing_vwap_or_count_is_null(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    bars = Bars.concat([bar(vwap=None), bar(START + MINUTE_MS, trade_count=None)])
    await write(database, run_id, chunk(series, bars))
    found = await rows(database, "SELECT vwap, trade_count FROM ohlc_bars ORDER BY ts")
    assert [tuple(row) for row in found] == [(None, 7), (10.2, None)]


async def test_inserted_updated_and_unchanged_bars_of_one_page_are_told_apart(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(10)
    await write(database, run_id, chunk(series, bars.take(slice(0, 7))))
    volume = bars.volume.copy()
    volume[[1, 4]] += 1
    corrected = Bars(**{name: getattr(bars, name) for name in bars.__slots__} | {"volume": volume})
    written = await write(database, run_id, chunk(series, corrected))
    assert written == [Counts(inserted=3, updated=2, unchanged=5)]
    assert (await bars_of(database, series)).equals(corrected)


@pytest.mark.parametrize(
    "correction",
    [
        {"open": 10.25},
        {"high": 11.5},
        {"low": 8.5},
        {"close": float(np.nextafter(10.5, 11))},
        {"volume": 101.0},
        {"vwap": 10.3},
        {"vwap": None},
        {"trade_count": 8},
        {"trade_count": None},
    ],
    ids=str,
)
async def test_a_bar_that_changed_in_any_one_value_is_updated_and_once_only(
    database: Database, correction: dict[str, Any]
) -> None:
    run_id, (series,) = await claimed(database)
    await write(database, run_id, chunk(series, bar()))
    corrected = bar(**correction)
    assert await write(database, run_id, chunk(series, corrected)) == [Counts(updated=1)]
    assert (await bars_of(database, series)).equals(corrected)
    assert await write(database, run_id, chunk(series, corrected)) == [Counts(unchanged=1)]


async def test_a_value_that_was_missing_and_comes_is_an_update(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    await write(database, run_id, chunk(series, bar(vwap=None, trade_count=None)))
    assert await write(database, run_id, chunk(series, bar())) == [Counts(updated=1)]
    assert (await bars_of(database, series)).equals(bar())


async def test_the_same_page_again_touches_no_row(database: Database, database_url: str) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(5000)
    await write(database, run_id, chunk(series, bars))
    async with connection_to(database_url) as watcher:
        await watcher.execute("CREATE EXTENSION pgstattuple")
        before = await watcher.fetch(_VERSIONS)
        assert await write(database, run_id, chunk(series, bars)) == [Counts(unchanged=5000)]
        assert await watcher.fetch(_VERSIONS) == before
        assert await watcher.fetchval("SELECT dead_tuple_count FROM pgstattuple('ohlc_bars')") == 0


async def test_the_same_page_again_writes_no_wal_of_the_table(
    database: Database, database_url: str
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(5000)
    await write(database, run_id, chunk(series, bars))
    async with connection_to(database_url) as watcher:
        if await watcher.fetchval("SELECT current_setting('server_version_num')::int") < 160000:
            pytest.skip("PostgreSQL tells what WAL holds, block by block, from version 16 on")
        await watcher.execute("CREATE EXTENSION pg_walinspect")
        at = await watcher.fetchval("SELECT pg_current_wal_insert_lsn()")
        assert await write(database, run_id, chunk(series, bars)) == [Counts(unchanged=5000)]
        await watcher.execute("SELECT pg_switch_wal()")  # flushed, and so readable
        written = await watcher.fetchval(
            """
            SELECT count(*) FROM pg_get_wal_block_info($1, pg_current_wal_flush_lsn())
            WHERE reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND relfilenode IN (
                    pg_relation_filenode('ohlc_bars'), pg_relation_filenode('ohlc_bars_pkey')
                )
            """,
            at,
        )
    assert written == 0


async def test_a_page_of_sixty_thousand_bars_is_stored_whole(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(60_000)
    assert await write(database, run_id, chunk(series, bars)) == [Counts(inserted=60_000)]
    assert (await bars_of(database, series)).equals(bars)
    assert (await known(database, series)).newest_bar_ms == int(bars.ts_ms[-1])


async def test_bars_of_other_series_at_the_same_times_are_not_touched(database: Database) -> None:
    run_id, (m1, m5) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    other_run, (other,) = await claimed(database, "MSFT")
    first, second, third = minutes(5), bar(volume=1.0), bar(volume=2.0)
    await write(database, run_id, chunk(m1, first), chunk(m5, second))
    await write(database, other_run, chunk(other, third))
    await write(database, run_id, chunk(m1, bar(volume=3.0)))
    assert (await bars_of(database, m5)).equals(second)
    assert (await bars_of(database, other)).equals(third)


async def test_pages_add_to_the_coverage_and_the_bounds_in_any_order(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    middle, head, tail = minutes(10, START + HOUR), minutes(10), minutes(10, START + 2 * HOUR)
    for page in (tail, head, middle):
        await write(database, run_id, chunk(series, page))
    found = await known(database, series)
    assert found.coverage == span_of(head) | span_of(middle) | span_of(tail)
    assert found.oldest_bar_ms == START
    assert found.newest_bar_ms == int(tail.ts_ms[-1])
    between = Spans.of((START, START + 2 * HOUR))
    await write(database, run_id, chunk(series, claims=between))
    assert (await known(database, series)).coverage == between | span_of(tail)


async def test_a_page_without_bars_closes_its_range_and_fixes_the_source(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    claims = Spans.of((START, START + HOUR))
    assert await write(database, run_id, chunk(series, claims=claims)) == [Counts()]
    found = await known(database, series)
    assert (found.source, found.coverage) == (SOURCE, claims)
    assert (found.oldest_bar_ms, found.newest_bar_ms) == (None, None)


async def test_bars_that_are_not_claimed_are_stored_and_not_covered(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(10)
    claims = span_of(bars.take(slice(0, 8)))
    assert await write(database, run_id, chunk(series, bars, claims=claims)) == [
        Counts(inserted=10)
    ]
    assert (await known(database, series)).coverage == claims


async def test_counts_come_in_the_order_of_the_chunks(database: Database) -> None:
    run_id, (m1, h1, d1) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.h1, Timeframe.d1)
    written = await write(
        database, run_id, chunk(d1, minutes(1)), chunk(m1, minutes(3)), chunk(h1, minutes(2))
    )
    assert [counts.inserted for counts in written] == [1, 3, 2]


async def test_a_page_with_one_bad_chunk_leaves_nothing_of_the_other(database: Database) -> None:
    run_id, (m1, m5) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    bad = chunk(m5, bar(low=20.0))
    empties = [empty(MONTH, EmptyReason.absent, (START, START + HOUR))]
    with pytest.raises(DatabaseError, match="ohlc_bars_prices"):
        await write(database, run_id, chunk(m1, minutes(3), empty=empties), bad)
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0
    assert await value(database, "SELECT count(*) FROM known_empty") == 0
    for series in (m1, m5):
        found = await known(database, series)
        assert (found.source, found.coverage) == (None, Spans())


async def test_a_run_that_lost_its_lease_writes_nothing(database: Database) -> None:
    run_id, (m1, m5) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    await _give_to(database, m5, str(uuid4()))
    with pytest.raises(LeaseLost):
        await write(database, run_id, chunk(m1, minutes(3)), chunk(m5, bar()))
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0
    assert not (await known(database, m1)).coverage


async def test_a_run_that_never_leased_a_series_writes_nothing(database: Database) -> None:
    run_id, _ = await claimed(database, "AAPL", Timeframe.m1)
    (never,) = await new_series(database, "AAPL", Timeframe.d1)
    with pytest.raises(LeaseLost):
        await write(database, run_id, chunk(never, bar()))
    await claimed(database, "MSFT", Timeframe.d1)
    (released,) = await new_series(database, "MSFT", Timeframe.d1)
    await _give_to(database, released, None)
    with pytest.raises(LeaseLost):
        await write(database, run_id, chunk(released, bar()))
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0


async def _give_to(database: Database, series: Series, run_id: str | None) -> None:
    await rows(
        database,
        "UPDATE backfill_progress SET claimed_by = $3::text::uuid "
        "WHERE symbol_id = $1 AND timeframe = $2::text::timeframe",
        series.symbol.id,
        str(series.timeframe),
        run_id,
    )


@pytest.mark.parametrize(
    "other",
    [
        Source("alpaca", "sip", "raw"),
        Source("massive", "iex", "raw"),
        Source("massive", "sip", "split"),
        Source("massive", "sip", "raw", derived_from=Timeframe.m1),
    ],
    ids=str,
)
async def test_bars_of_another_source_are_refused_by_the_names_of_both(
    database: Database, other: Source
) -> None:
    run_id, (series,) = await claimed(database, "AAPL", Timeframe.m5)
    await write(database, run_id, chunk(series, bar()))
    later = bar(START + HOUR)
    with pytest.raises(SourceMismatch) as caught:
        await write(database, run_id, chunk(series, later, source=other))
    assert str(SOURCE) in str(caught.value)
    assert str(other) in str(caught.value)
    assert (await bars_of(database, series)).equals(bar())
    assert (await known(database, series)).source == SOURCE


async def test_bars_of_a_source_that_is_replaced_leave_and_the_series_starts_anew(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    old = minutes(5)
    nothing = empty(MONTH, EmptyReason.no_trades, (START + HOUR, START + 2 * HOUR))
    covered = Spans.of((START, START + 2 * HOUR))
    await write(database, run_id, chunk(series, old, claims=covered, empty=[nothing]))
    await database.run(lambda one: progress.invalidate(one, series, span_of(old)))
    other = Source("massive", "sip", "split")
    first = minutes(2, START + 3 * MINUTE_MS)

    later = NOW + DAY
    counts = await write(
        database, run_id, chunk(series, first, source=other, replaces=SOURCE), now=later
    )

    assert counts == [Counts(inserted=2, withdrawn=5)]
    assert (await bars_of(database, series)).equals(first)
    assert await known(database, series) == Progress(
        source=other,
        coverage=span_of(first),
        invalidated=span_of(old) - span_of(first),
        oldest_bar_ms=int(first.ts_ms[0]),
        newest_bar_ms=int(first.ts_ms[-1]),
    )
    assert await rows(database, "SELECT 1 FROM known_empty") == []
    assert await value(database, "SELECT loaded_at FROM backfill_progress") == later
    # The next page of the same run finds the new source and takes nothing out.
    assert await write(
        database, run_id, chunk(series, minutes(3), source=other, replaces=SOURCE)
    ) == [Counts(inserted=3)]
    assert await rows(database, "SELECT reason, count(*) FROM quarantined_bars GROUP BY 1") == [
        ("source_changed", 5)
    ]
    change = await rows(database, "SELECT range, inserted, withdrawn FROM backfill_changes")
    assert [(row["inserted"], row["withdrawn"]) for row in change] == [(10, 5)]
    assert change[0]["range"].lower == to_time(START)
    with pytest.raises(SourceMismatch):
        await write(database, run_id, chunk(series, old, replaces=Source("alpaca", "sip", "raw")))


@pytest.mark.parametrize("most", [1, 2, 5, 9])
async def test_bars_leave_a_few_at_a_time_and_none_is_left_or_counted_twice(
    database: Database, most: int
) -> None:
    run_id, (series, other) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    await write(database, run_id, chunk(series, minutes(6)), chunk(other, minutes(6)))
    first = Span(START, START + 5 * MINUTE_MS)

    async def leave(span: Span) -> int:
        return await database.run(lambda one: expel(one, run_id, series, span, most))

    assert [await leave(first), await leave(first), await leave(EVER)] == [5, 0, 1]
    assert len(await bars_of(database, series)) == 0
    assert len(await bars_of(database, other)) == 6
    assert await value(database, "SELECT count(DISTINCT ts) FROM quarantined_bars") == 6
    change = (await rows(database, "SELECT * FROM backfill_changes WHERE timeframe = 'm1'"))[0]
    assert (change["withdrawn"], change["range"].lower) == (6, to_time(START))


async def test_a_derived_series_remembers_what_it_was_derived_from(database: Database) -> None:
    run_id, (series,) = await claimed(database, "AAPL", Timeframe.m5)
    source = Source("massive", "sip", "raw", derived_from=Timeframe.m1)
    await write(database, run_id, chunk(series, bar(), source=source))
    assert (await known(database, series)).source == source
    again = chunk(series, bar(START + HOUR), source=source)
    assert await write(database, run_id, again) == [Counts(inserted=1)]


async def test_rejected_bars_are_kept_with_their_reasons_and_their_values_as_they_came(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    nan, inf = float("nan"), float("inf")
    bars = Bars.concat(
        [
            bar(open=nan, high=inf, volume=-inf),
            bar(START + 1, low=0.1 + 0.2, trade_count=-5),
            bar(START + 2, close=-1.0, vwap=None, trade_count=None),
        ]
    )
    reasons = (Reason.not_finite, Reason.off_grid, Reason.price)
    good = minutes(2, START + HOUR)
    page = chunk(series, good, rejected=bars, reasons=reasons)
    assert await write(database, run_id, page) == [Counts(inserted=2, rejected=3)]
    found = await rows(
        database,
        """
        SELECT symbol_id, timeframe::text AS timeframe, ts, reason, raw, run_id
        FROM quarantined_bars ORDER BY ts
        """,
    )
    raw = [json.loads(row["raw"]) for row in found]
    values = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    extra = {"vwap": 10.2, "trade_count": 7}
    assert raw == [
        {"ts_ms": START, **values, **extra, "open": "nan", "high": "inf", "volume": "-inf"},
        {"ts_ms": START + 1, **values, **extra, "low": 0.1 + 0.2, "trade_count": -5},
        {"ts_ms": START + 2, **values, "close": -1.0, "vwap": None, "trade_count": None},
    ]
    assert [row["reason"] for row in found] == [str(reason) for reason in reasons]
    assert [row["ts"].timestamp() * 1000 for row in found] == [START, START + 1, START + 2]
    assert {(row["symbol_id"], row["timeframe"], row["run_id"]) for row in found} == {
        (series.symbol.id, "m1", run_id)
    }
    assert (await bars_of(database, series)).equals(good)


async def test_a_page_of_nothing_but_rejected_bars_stores_none(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    assert await write(database, run_id, rejected(series, bar(low=20.0), Reason.high_low)) == [
        Counts(rejected=1)
    ]
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0
    assert await value(database, "SELECT count(*) FROM quarantined_bars") == 1


async def test_a_bar_that_a_page_rejects_twice_is_one_row(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    twice = Bars.concat([bar(low=20.0), bar(low=20.0), bar(low=21.0)])
    page = rejected(series, twice, *[Reason.high_low] * 3)
    assert await write(database, run_id, page) == [Counts(rejected=3)]
    raw = await rows(database, "SELECT raw ->> 'low' FROM quarantined_bars ORDER BY raw")
    assert [row[0] for row in raw] == ["20.0", "21.0"]


async def test_whether_a_rejected_bar_is_there_already_is_looked_up_by_its_stamp(
    database: Database, database_url: str
) -> None:
    """A join with all that the series has in quarantine takes minutes for a file of such bars."""
    run_id, (series,) = await claimed(database)
    await write(database, run_id, rejected(series, bar(low=20.0), Reason.high_low))
    stamps = [to_time(START + minute * MINUTE_MS) for minute in range(20_000)]
    many = ["high_low"] * len(stamps), ["{}"] * len(stamps)
    asked = bound(_QUARANTINE, series.symbol.id, str(series.timeframe), stamps, *many, run_id)
    async with connection_to(database_url) as connection, connection.transaction():
        # There are too few rows for the planner to bother.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = 0")
        told = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {asked}"))
    [found] = [line for line in told.splitlines() if "Index Cond" in line]
    assert "(ts = n.ts)" in found
    assert " Join" not in told


async def test_what_a_page_is_compared_with_is_read_without_the_rest_of_its_series(
    database: Database, database_url: str
) -> None:
    """Of a long series that was analysed the planner would sooner read all than sort a page."""
    _, (series,) = await claimed(database)
    page = Spans.of((START + 30_000 * MINUTE_MS, START + 30_500 * MINUTE_MS))
    asked = reading({series: page})
    async with connection_to(database_url) as connection:
        await connection.execute(_MANY_MINUTES, series.symbol.id, to_time(START), 60_000)
        await connection.execute("ANALYZE ohlc_bars")
        # A sort of so few is dear only without memory.
        await connection.execute("SET work_mem = '64kB'")
        [[told]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT json) {asked}")
    assert _bars_read(told) == [500]


@pytest.mark.parametrize("query", [_NEWEST, _OLDEST])
async def test_the_last_bars_outside_of_many_holes_are_read_without_the_rest_of_their_series(
    database: Database, database_url: str, query: str
) -> None:
    _, (series,) = await claimed(database)
    holes = ((START + hour * HOUR, START + hour * HOUR + MINUTE_MS) for hour in range(1000))
    spans = Spans.of((START, START + 1000 * HOUR)) - Spans.union(holes)
    async with connection_to(database_url) as connection:
        await connection.execute(_MANY_MINUTES, series.symbol.id, to_time(START), 60_000)
        values = *key_of(series), to_text(spans), 500
        [[told]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT json) {query}", *values)
    assert sum(_bars_read(told)) <= 600  # of 59 between two holes each


def _bars_read(told: str) -> list[float]:
    """Return how many rows of the table each of its nodes in a plan has read."""
    return [
        node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        for node in _nodes(json.loads(told)[0]["Plan"])
        if node.get("Relation Name") == "ohlc_bars"
    ]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a node of a plan and all below it."""
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


async def test_a_few_stored_bars_are_read_by_their_range_in_a_table_never_analysed(
    database: Database, database_url: str
) -> None:
    """All of a series would be read for each of the spans: a first load took the square of it."""
    run_id, (series,) = await claimed(database)
    await write(database, run_id, chunk(series, minutes(5000)))
    spans = Spans.of(*((START + at * HOUR, START + at * HOUR + MINUTE_MS) for at in range(3)))
    async with connection_to(database_url) as connection:
        asked = f"EXPLAIN {reading({series: spans})}"
        told = "\n".join(row[0] for row in await connection.fetch(asked))
    [found] = [line for line in told.splitlines() if "Index Cond" in line]
    assert "(ts >= lower(s.span)) AND (ts < upper(s.span))" in found


async def test_a_reload_withdraws_what_it_no_longer_brings_and_nothing_else(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(10)
    await write(database, run_id, chunk(series, bars))
    reloaded = span_of(bars.take(slice(2, 7)))
    await database.run(lambda connection: progress.invalidate(connection, series, reloaded))
    assert (await known(database, series)).coverage == span_of(bars) - reloaded
    still = bars.take(np.array([2, 4, 6]))
    page = chunk(series, still, claims=reloaded)
    assert await write(database, run_id, page) == [Counts(unchanged=3, withdrawn=2)]
    left = bars.take(np.array([0, 1, 2, 4, 6, 7, 8, 9]))
    assert (await bars_of(database, series)).equals(left)
    gone = await rows(database, "SELECT reason, run_id, ts, raw FROM quarantined_bars ORDER BY ts")
    assert [(row["reason"], row["run_id"]) for row in gone] == [("withdrawn", run_id)] * 2
    assert [row["ts"].timestamp() * 1000 for row in gone] == bars.ts_ms[[3, 5]].tolist()
    assert [json.loads(row["raw"])["open"] for row in gone] == bars.open[[3, 5]].tolist()
    found = await known(database, series)
    assert (found.coverage, found.invalidated) == (span_of(bars), Spans())
    assert await write(database, run_id, page) == [Counts(unchanged=3)]


async def test_a_page_withdraws_only_in_the_part_of_a_reload_that_it_answers_for(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(10)
    await write(database, run_id, chunk(series, bars))
    await database.run(lambda connection: progress.invalidate(connection, series, span_of(bars)))
    newest = span_of(bars.take(slice(5, 10)))
    written = await write(database, run_id, chunk(series, claims=newest))
    assert written == [Counts(withdrawn=5)]
    assert (await bars_of(database, series)).equals(bars.take(slice(0, 5)))
    assert (await known(database, series)).invalidated == span_of(bars) - newest


async def _empties(database: Database, series: Series) -> list[tuple[object, ...]]:
    """Rows of known_empty as (month, reason, spans of epoch seconds, expiry)."""
    return [
        (
            row["month"],
            row["reason"],
            [(span.lower.timestamp(), span.upper.timestamp()) for span in row["slots"]],
            row["expires_at"],
        )
        for row in await rows(database, _EMPTY, series.symbol.id, str(series.timeframe))
    ]


async def test_empty_slots_are_kept_by_month_and_reason_each_with_its_expiry(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    second = START // 1000
    november, december = MONTH, date(2023, 12, 1)
    later = START + 30 * 24 * HOUR
    empties = [
        empty(november, EmptyReason.no_trades, (START, START + 1000), (START + 5000, START + 6000)),
        empty(november, EmptyReason.absent, (START + HOUR, START + 2 * HOUR)),
        empty(november, EmptyReason.quarantined, (START + 3 * HOUR, START + 4 * HOUR)),
        empty(december, EmptyReason.no_trades, (later, later + 1000)),
    ]
    await write(database, run_id, chunk(series, claims=Spans.of((START, later)), empty=empties))
    hour = HOUR // 1000
    assert await _empties(database, series) == [
        (november, "absent", [(second + hour, second + 2 * hour)], NOW + DAY),
        (november, "no_trades", [(second, second + 1), (second + 5, second + 6)], None),
        (november, "quarantined", [(second + 3 * hour, second + 4 * hour)], NOW + 30 * DAY),
        (december, "no_trades", [(later // 1000, later // 1000 + 1)], None),
    ]


async def test_slots_that_are_answered_again_are_known_by_the_new_answer_alone(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    whole = Spans.of((START, START + 10 * HOUR))
    absent = [empty(MONTH, EmptyReason.absent, (START, START + 10 * HOUR))]
    await write(database, run_id, chunk(series, claims=whole, empty=absent))
    part = Spans.of((START + 2 * HOUR, START + 4 * HOUR))
    no_trades = [empty(MONTH, EmptyReason.no_trades, (START + 3 * HOUR, START + 4 * HOUR))]
    bars = minutes(60, START + 2 * HOUR)
    await write(database, run_id, chunk(series, bars, claims=part, empty=no_trades))
    second, hour = START // 1000, HOUR // 1000
    assert await _empties(database, series) == [
        (
            MONTH,
            "absent",
            [(second, second + 2 * hour), (second + 4 * hour, second + 10 * hour)],
            NOW + DAY,
        ),
        (MONTH, "no_trades", [(second + 3 * hour, second + 4 * hour)], None),
    ]
    full = chunk(series, claims=whole, empty=no_trades)
    await write(database, run_id, full, now=NOW + DAY)
    assert await _empties(database, series) == [
        (MONTH, "no_trades", [(second + 3 * hour, second + 4 * hour)], None)
    ]


async def test_slots_that_a_second_answer_confirms_join_those_of_their_month_over_closed_hours(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    xnys = calendar("XNYS", date(2023, 11, 1), date(2023, 11, 30))
    [(monday, _), (tuesday, _)] = xnys.regular_grid(Timeframe.m1).blocks(
        (xnys.midnight(date(2023, 11, 13)), xnys.midnight(date(2023, 11, 15)))
    )
    end = (monday.end_ms - 2 * MINUTE_MS, monday.end_ms)
    begin = (tuesday.start_ms, tuesday.start_ms + MINUTE_MS)

    def answer(reason: EmptyReason, slots: tuple[int, int], day: Span) -> Chunk:
        claims = Spans.of(day)
        return chunk(
            series,
            claims=claims,
            empty=[empty(MONTH, reason, slots)],
            joints=joints(xnys, Timeframe.m1, claims),
        )

    late = answer(EmptyReason.unconfirmed, end, monday)
    for hours, reason in ((0, "unconfirmed"), (11, "unconfirmed"), (12, "no_trades")):
        await write(database, run_id, late, now=NOW + timedelta(hours=hours))
        [(month, kept, spans, expires_at)] = await _empties(database, series)
        assert (month, kept) == (MONTH, reason)
        assert spans == [(end[0] / 1000, end[1] / 1000)]
        assert expires_at == (NOW + timedelta(hours=12) if reason == "unconfirmed" else None)
    await write(database, run_id, answer(EmptyReason.no_trades, begin, tuesday))
    assert await _empties(database, series) == [
        (MONTH, "no_trades", [(end[0] / 1000, begin[1] / 1000)], None)
    ]


async def test_an_answer_for_one_range_leaves_what_is_known_of_others(database: Database) -> None:
    run_id, (m1, m5) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    hours = Spans.of((START, START + HOUR))
    absent = [empty(MONTH, EmptyReason.absent, (START, START + HOUR))]
    await write(
        database,
        run_id,
        chunk(m1, claims=hours, empty=absent),
        chunk(m5, claims=hours, empty=absent),
    )
    await write(database, run_id, chunk(m1, minutes(60)))
    await write(database, run_id, chunk(m1, minutes(60, START + 2 * HOUR)))
    assert await _empties(database, m1) == []
    assert len(await _empties(database, m5)) == 1


async def test_a_year_of_thinly_traded_minutes_takes_under_half_a_megabyte(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    xnys = calendar("XNYS", date(2023, 1, 1), date(2023, 12, 31))
    year = Spans.of((xnys.midnight(date(2023, 1, 1)), xnys.midnight(date(2024, 1, 1))))
    slots = xnys.regular_grid(Timeframe.m1).slots(year.items[0])
    # Half of the minutes: no other share leaves as many ranges between those that traded.
    traded = slots[np.random.default_rng(7).random(len(slots)) < 0.5]
    empties = empty_slots(xnys, Timeframe.m1, year, traded, np.empty(0, np.int64))
    assert sum(len(one.slots) for one in empties) > 20_000
    await write(database, run_id, chunk(series, claims=year, empty=empties))
    assert await value(database, "SELECT count(*) FROM known_empty") == 12
    assert await value(database, "SELECT pg_total_relation_size('known_empty')") < 500_000


async def test_writing_renews_the_lease(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    await rows(database, "UPDATE backfill_progress SET claimed_until = now()")
    await write(database, run_id, chunk(series, bar()))
    left = await value(database, "SELECT claimed_until - now() FROM backfill_progress")
    assert timedelta(seconds=20) < left <= timedelta(seconds=30)


async def test_writers_of_overlapping_series_and_the_heartbeat_never_meet_in_a_deadlock(
    server: str, database_url: str
) -> None:
    async with Database.connect(database_url) as database:
        run_id, series = await claimed(database, "AAPL", *Timeframe)

        async def writer(nth: int) -> None:
            turned = series[nth:] + series[:nth]
            mine = turned[:5] if nth % 2 else turned[4::-1]
            for page in range(4):
                bars = minutes(20, START + (nth * 4 + page) * HOUR)
                await write(database, run_id, *(chunk(one, bars) for one in mine))

        async def heart() -> None:
            for _ in range(20):
                await progress.renew(database, run_id)

        # The order of the heap becomes the opposite of the order of the keys.
        for one in reversed(series):
            await write(database, run_id, chunk(one, claims=Spans.of((0, 1))))
        await asyncio.gather(*(writer(nth) for nth in range(9)), heart())
        assert await value(database, "SELECT count(*) FROM ohlc_bars") == 9 * 4 * 5 * 20
    name = database_name(database_url)
    await _leave(server, name)  # who is gone has told what it met
    async with connection_to(server) as watcher:
        deadlocks = await watcher.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = $1", name
        )
    assert deadlocks == 0
