"""The ledger keeps ninety days: what is older leaves as runs begin, at no cost where nothing is."""

from uuid import uuid4

import pytest

from backfill.store import runs
from backfill.store.pool import Database
from tests.faults.proxy import Proxy
from tests.integration.store_kit import rows, value

PAST = """
    WITH past AS (
        INSERT INTO backfill_runs (run_id, started_at, finished_at, mode, status, provider)
        SELECT gen_random_uuid(), at, at, 'default', $1, 'massive'
        FROM generate_series(1, $2::integer) AS n
        CROSS JOIN LATERAL (
            SELECT now() - make_interval(days => $3::integer, mins => -n) AS at
        ) AS a
        RETURNING run_id
    )
    INSERT INTO backfill_changes (run_id, symbol_id, timeframe, range, inserted, updated, withdrawn)
    SELECT run_id, n, 'd1', 'empty', 1, 0, 0
    FROM past, generate_series(1, $4::integer) AS n
"""
HELD = """
    SELECT
        (SELECT count(*) FROM backfill_runs),
        (SELECT count(*) FROM backfill_changes),
        (
            SELECT count(*)
            FROM backfill_changes AS c
            WHERE NOT EXISTS (SELECT FROM backfill_runs AS r WHERE r.run_id = c.run_id)
        )
"""


async def held(database: Database) -> tuple[int, ...]:
    [row] = await rows(database, HELD)
    return tuple(row)


async def test_old_runs_leave_with_their_changes_and_the_last_good_one_stays(
    database: Database,
) -> None:
    await rows(database, PAST, "ok", 3, 400, 2)
    await rows(database, PAST, "failed", 2, 91, 2)
    await rows(database, PAST, "failed", 2, 89, 2)
    good = "SELECT run_id FROM backfill_runs WHERE status = 'ok' ORDER BY started_at DESC LIMIT 1"
    last_good = await value(database, good)

    run_id = uuid4()
    await runs.start_run(database, run_id, "default", "massive")

    kept = await rows(database, "SELECT run_id, status FROM backfill_runs ORDER BY started_at")
    assert [row["status"] for row in kept] == ["ok", "failed", "failed", "running"]
    assert (kept[0]["run_id"], kept[-1]["run_id"]) == (last_good, run_id)
    assert await held(database) == (4, 6, 0)


async def test_much_that_is_old_leaves_in_bounded_lots_and_the_rest_with_later_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RUNS_AT_ONCE", 2)
    monkeypatch.setattr(runs, "_CHANGES_AT_ONCE", 5)
    monkeypatch.setattr(runs, "_AGAIN", 3)
    await rows(database, PAST, "failed", 10, 100, 4)

    left = []
    for _ in range(8):
        await runs.start_run(database, uuid4(), "default", "massive")
        left.append(await held(database))

    # A lot is five changes, or the two runs that have none left; a run begins with up to four lots.
    assert all(orphans == 0 for _, _, orphans in left)
    assert [changes for _, changes, _ in left[:2]] == [24, 8]
    assert left[-1] == (8, 0, 0)


async def test_where_nothing_is_old_no_round_trip_is_made_for_it(
    database_url: str, proxy: Proxy
) -> None:
    async with Database.connect(proxy.url(database_url)) as database:
        await rows(database, PAST, "ok", 3, 89, 2)
        before = proxy.round_trips
        await runs.start_run(database, uuid4(), "default", "massive")
        # The runs that died with the new row, and COMMIT: no deletion.
        assert proxy.round_trips - before == 2
