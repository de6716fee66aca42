"""Leases: who works on a series, until when, and who takes over from the dead (R18, R20)."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store import progress
from backfill.store.counts import Counts
from backfill.store.pool import Database
from backfill.store.progress import LEASE_S, Lease
from backfill.store.runs import RunEnd, finish_run, start_run
from tests.integration.store_kit import (
    DAY,
    HOUR,
    NOW,
    SOURCE,
    START,
    chunk,
    claim,
    claimed,
    connection_to,
    known,
    minutes,
    new_series,
    rows,
    until,
    value,
    write,
)

pytestmark = pytest.mark.one_database

_TERM = timedelta(seconds=LEASE_S)


async def _holders(database: Database, series: Iterable[Series]) -> list[UUID | None]:
    found = await rows(
        database, "SELECT symbol_id, timeframe::text, claimed_by FROM backfill_progress"
    )
    by_key = {(row[0], row[1]): row[2] for row in found}
    return [by_key[one.symbol.id, str(one.timeframe)] for one in series]


async def _expire(database: Database, run_id: UUID) -> None:
    await rows(
        database,
        "UPDATE backfill_progress SET claimed_until = now() - interval '1 ms' "
        "WHERE claimed_by = $1",
        run_id,
    )


async def _release(database: Database, run_id: UUID, series: list[Series] | None = None) -> None:
    await database.run(lambda connection: progress.release(connection, run_id, series))


async def _now(database: Database) -> datetime:
    now: datetime = await value(database, "SELECT now()")
    return now


async def _run(database: Database, run_id: UUID) -> Any:
    return (await rows(database, "SELECT * FROM backfill_runs WHERE run_id = $1", run_id))[0]


async def test_claiming_a_series_never_seen_adds_its_row_and_leases_it_for_the_term(
    database: Database,
) -> None:
    series = await new_series(database, "AAPL", Timeframe.m1, Timeframe.d1)
    run_id, before = uuid4(), await _now(database)
    assert await claim(database, series, run_id) is None
    assert await _holders(database, series) == [run_id, run_id]
    until = await rows(database, "SELECT claimed_until FROM backfill_progress")
    after = await _now(database)
    assert all(before + _TERM <= row[0] <= after + _TERM for row in until)


async def test_a_lease_of_another_run_stands_in_the_way_and_says_whose_it_is(
    database: Database,
) -> None:
    run_id, series = await claimed(database)
    until = await value(database, "SELECT claimed_until FROM backfill_progress")
    assert await claim(database, series, uuid4()) == Lease(run_id, until)
    assert await _holders(database, series) == [run_id]


async def test_a_run_that_claims_again_what_it_holds_renews_it(database: Database) -> None:
    run_id, series = await claimed(database)
    await _expire(database, run_id)
    assert await claim(database, series, run_id) is None
    assert await value(database, "SELECT claimed_until > now() FROM backfill_progress")


async def test_of_many_series_those_are_leased_that_no_live_run_holds(database: Database) -> None:
    holder, (held,) = await claimed(database, "AAPL", Timeframe.d1)
    dead, (left,) = await claimed(database, "MSFT", Timeframe.d1)
    await start_run(database, dead, "default", "massive")
    await _expire(database, dead)
    (new,) = await new_series(database, "NVDA", Timeframe.d1)
    run_id = uuid4()

    free = await database.run(
        lambda connection: progress.claim_free(connection, [held, left, new], run_id)
    )

    assert free == [left, new]
    assert await _holders(database, [held, left, new]) == [holder, run_id, run_id]
    assert (await _run(database, dead))["status"] == "interrupted"


async def test_series_are_leased_all_or_none(database: Database) -> None:
    holder, (m5,) = await claimed(database, "AAPL", Timeframe.m5)
    m1, d1 = await new_series(database, "AAPL", Timeframe.m1, Timeframe.d1)
    lease = await claim(database, [m1, m5, d1], uuid4())
    assert lease is not None
    assert lease.claimed_by == holder
    assert await _holders(database, [m1, m5, d1]) == [None, holder, None]


async def test_a_released_series_is_free(database: Database) -> None:
    run_id, series = await claimed(database)
    await _release(database, run_id)
    other = uuid4()
    assert await claim(database, series, other) is None
    assert await _holders(database, series) == [other]


async def test_a_run_releases_the_series_named_and_keeps_every_other(database: Database) -> None:
    run_id, aapl = await claimed(database, "AAPL", Timeframe.m1, Timeframe.d1)
    msft = await new_series(database, "MSFT", Timeframe.m1, Timeframe.d1)
    await claim(database, msft, run_id)
    await _release(database, run_id, [aapl[0], msft[1]])
    assert await _holders(database, aapl + msft) == [None, run_id, run_id, None]


async def test_a_run_releases_only_what_it_holds_itself(database: Database) -> None:
    run_id, series = await claimed(database)
    await _release(database, uuid4())
    await _release(database, uuid4(), series)
    assert await _holders(database, series) == [run_id]


async def test_an_expired_lease_is_taken_over_and_the_dead_run_is_marked_interrupted(
    database: Database,
) -> None:
    dead, other = uuid4(), uuid4()
    for run_id in (dead, other):
        await start_run(database, run_id, "default", "massive")
    series = await new_series(database, "AAPL", Timeframe.m1, Timeframe.m5)
    await claim(database, series, dead)
    await _expire(database, dead)
    heir = uuid4()
    assert await claim(database, series, heir) is None
    assert await _holders(database, series) == [heir, heir]
    ended = await _run(database, dead)
    assert ended["status"] == "interrupted"
    assert ended["finished_at"] is not None
    assert "died" in ended["error"]
    assert (await _run(database, other))["status"] == "running"


async def test_a_run_that_ended_keeps_its_own_account_when_its_lease_is_taken_over(
    database: Database,
) -> None:
    run_id, series = await claimed(database)
    await start_run(database, run_id, "default", "massive")
    end = RunEnd(
        "partial", 1, 9, 2, 3, 4, Counts(5, 6, 7, 8, 9, 10), [{"symbol": "AAPL"}], "why", 1
    )
    await database.run(lambda connection: finish_run(connection, run_id, end))
    await _expire(database, run_id)
    assert await claim(database, series, uuid4()) is None
    row = await _run(database, run_id)
    assert (row["status"], row["error"], row["failures"]) == (
        "partial",
        "why",
        '[{"symbol": "AAPL"}]',
    )
    numbers = ("symbols_processed", "calls", "lookups", "retries", "rate_limited")
    assert [row[name] for name in numbers] == [1, 9, 2, 3, 4]
    kinds = ("inserted", "updated", "unchanged", "rejected", "withdrawn", "ignored")
    assert [row[f"bars_{kind}"] for kind in kinds] == [5, 6, 7, 8, 9, 10]


async def test_an_expired_lease_beside_a_live_one_is_not_taken_over(database: Database) -> None:
    dead, (m1,) = await claimed(database, "AAPL", Timeframe.m1)
    await start_run(database, dead, "default", "massive")
    live, (m5,) = await claimed(database, "AAPL", Timeframe.m5)
    await _expire(database, dead)
    assert await claim(database, [m1, m5], uuid4()) is not None
    assert await _holders(database, [m1, m5]) == [dead, live]
    assert (await _run(database, dead))["status"] == "running"


async def test_one_beat_renews_every_lease_of_a_run_and_no_other(database: Database) -> None:
    run_id, mine = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5, Timeframe.d1)
    other, theirs = await claimed(database, "MSFT")
    for one in (run_id, other):
        await _expire(database, one)
    await progress.renew(database, run_id)
    assert await claim(database, mine, uuid4()) is not None
    left = await rows(
        database,
        "SELECT claimed_until - now() AS left FROM backfill_progress WHERE claimed_by = $1",
        run_id,
    )
    assert [row["left"] > _TERM * 0.5 for row in left] == [True] * 3
    assert await claim(database, theirs, uuid4()) is None


async def test_a_beat_does_not_bring_back_a_lease_that_was_taken_over(database: Database) -> None:
    dead, series = await claimed(database)
    await _expire(database, dead)
    heir = uuid4()
    await claim(database, series, heir)
    await _expire(database, heir)
    await progress.renew(database, dead)
    assert await _holders(database, series) == [heir]
    assert await value(database, "SELECT claimed_until < now() FROM backfill_progress")


async def test_of_claimers_at_the_same_time_exactly_one_wins_each_series(
    database: Database, database_url: str
) -> None:
    (series,) = await new_series(database, "AAPL")
    runs = [uuid4() for _ in range(12)]
    async with Database.connect(database_url) as second:
        leases = await asyncio.gather(
            *(
                claim(one, [series], run_id)
                for run_id, one in zip(runs, [database, second] * 6, strict=True)
            )
        )
    (winner,) = [run_id for run_id, lease in zip(runs, leases, strict=True) if lease is None]
    assert {lease.claimed_by for lease in leases if lease} == {winner}
    assert await _holders(database, [series]) == [winner]


async def test_of_claimers_of_one_expired_lease_exactly_one_is_its_heir(
    database: Database,
) -> None:
    dead, series = await claimed(database)
    await _expire(database, dead)
    runs = [uuid4() for _ in range(6)]
    leases = await asyncio.gather(*(claim(database, series, run_id) for run_id in runs))
    (winner,) = [run_id for run_id, lease in zip(runs, leases, strict=True) if lease is None]
    assert await _holders(database, series) == [winner]


async def test_claimers_of_overlapping_series_in_any_order_get_all_or_none(
    database: Database,
) -> None:
    series = await new_series(database, "AAPL", *Timeframe)
    series += await new_series(database, "MSFT", *Timeframe)
    attempts = 0

    async def one(nth: int) -> tuple[UUID, list[Series], Lease | None]:
        turned = (series[nth:] + series[:nth])[:7]
        mine = turned if nth % 2 else turned[::-1]
        run_id = uuid4()

        async def work(connection: Any) -> Lease | None:
            nonlocal attempts
            attempts += 1
            return await progress.claim(connection, mine, run_id)

        return run_id, mine, await database.run(work)

    ended = await asyncio.gather(*(one(nth) for nth in range(len(series))))
    assert attempts == len(series)  # none was the victim of a deadlock and came again
    holders = dict(zip(series, await _holders(database, series), strict=True))
    for run_id, mine, lease in ended:
        held = {one for one in series if holders[one] == run_id}
        assert held == (set(mine) if lease is None else set())
    assert any(lease is None for *_, lease in ended)


async def test_a_claim_waits_for_the_page_in_hand_and_then_sees_its_renewed_lease(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    await _expire(database, run_id)
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def page(connection: Any) -> None:
        await progress.lock_progress(connection, [series], run_id)
        locked.set()
        await go_on.wait()
        await connection.execute(
            "UPDATE backfill_progress SET claimed_until = now() + interval '30 s'"
        )

    writing = asyncio.create_task(database.run(page))
    await locked.wait()
    claiming = asyncio.create_task(claim(database, [series], uuid4()))

    async def waits() -> bool:
        return bool(
            await value(
                database,
                "SELECT EXISTS (SELECT FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock')",
            )
        )

    await until(waits, "the claim waits for the page")
    go_on.set()
    await writing
    lease = await claiming
    assert lease is not None
    assert lease.claimed_by == run_id


async def test_rows_that_are_missing_are_added_in_the_order_of_their_keys(
    database: Database, database_url: str
) -> None:
    add = "INSERT INTO backfill_progress (symbol_id, timeframe) VALUES ($1, $2::text::timeframe)"
    m1, m5, d1 = await new_series(database, "AAPL", Timeframe.m1, Timeframe.m5, Timeframe.d1)
    async with connection_to(database_url) as first, connection_to(database_url) as second:
        adding = first.transaction()
        await adding.start()
        await first.execute(add, m5.symbol.id, "m5")
        claiming = asyncio.create_task(claim(database, [d1, m5, m1], uuid4()))

        async def waits() -> bool:
            return bool(
                await second.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock')"
                )
            )

        await until(waits, "the claim waits for m5")
        # It has not come to d1 yet, so that whoever holds d1 and waits for m5 cannot wait for it.
        await second.execute("SET lock_timeout = '2s'")
        await second.execute(add, d1.symbol.id, "d1")
        await adding.commit()
    assert await claiming is None


async def test_how_deep_a_series_is_wanted_only_ever_grows(database: Database) -> None:
    _, (series,) = await claimed(database)
    for start_ms in (START, START - HOUR, START + HOUR):
        await database.run(partial(progress.want_from, wants={series: start_ms}))
    assert (await known(database, series)).wanted_from_ms == START - HOUR


async def test_a_refused_range_is_remembered_until_it_expires(database: Database) -> None:
    _, (series,) = await claimed(database)
    span, until = Span(START, START + HOUR), NOW + DAY
    await database.run(lambda connection: progress.deny(connection, series, span, until))
    found = await known(database, series)
    assert found.denied == span
    assert found.denied_until_ms == round(until.timestamp() * 1000)


async def test_an_invalidated_range_leaves_the_coverage_and_is_noted_whole(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    await write(database, run_id, chunk(series, minutes(60)))
    late = Spans.of((START + HOUR // 2, START + 2 * HOUR))
    for _ in range(2):
        await database.run(lambda connection: progress.invalidate(connection, series, late))
    found = await known(database, series)
    assert found.coverage == Spans.of((START, START + HOUR // 2))
    assert found.invalidated == late
    assert found.source == SOURCE


async def test_a_series_never_seen_is_missing_from_what_is_known(database: Database) -> None:
    _, (m1,) = await claimed(database)
    (m5,) = await new_series(database, "AAPL", Timeframe.m5)
    found = await database.run(lambda connection: progress.load_progress(connection, [m1, m5]))
    assert list(found) == [m1.key]
