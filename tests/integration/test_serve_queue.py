"""The queue on the server's page, for programs and in its metrics; only to whom may see it."""

import asyncio
import re
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from aiohttp import ClientSession

from backfill import api
from backfill.core.fetches import Fetch, Kind
from backfill.core.series import Source
from backfill.core.timeframe import Timeframe
from backfill.present import queue as present
from backfill.settings import Secret, Settings
from backfill.store import queue
from backfill.store.pool import Database
from backfill.store.queue_look import _HELD
from tests.conftest import blocking
from tests.integration.serve_kit import serving
from tests.integration.store_kit import as_user, connection_to, database_name, rows
from tests.integration.test_serve_pages import EVIL, HOSTILE, seen

WORKER: Final = UUID("0badcafe-0000-4000-8000-000000000000")
TICKERS: Final = ("AAPL", "MSFT", "NVDA", HOSTILE)
# The first is at work, the second held, the third parked; one waits. Thirty were done, the first
# of them ten minutes ago.
STANDS: Final = """
    WITH one AS (
        UPDATE bf_jobs.pgqueuer
        SET status = 'picked', queue_manager_id = $1, updated = now() - interval '90 s'
        WHERE id = 1
    ),
    two AS (UPDATE bf_jobs.pgqueuer SET status = 'failed' WHERE id = 2),
    three AS (
        UPDATE bf_jobs.pgqueuer SET status = 'failed', headers = '{"parked": true}' WHERE id = 3
    ),
    why AS (
        INSERT INTO bf_jobs.pgqueuer_log (job_id, status, priority, entrypoint, traceback)
        VALUES (2, 'failed', 0, 'fetch:massive', jsonb_build_object('exception_message', $2::text))
    ),
    ended AS (
        INSERT INTO bf_jobs.pgqueuer_statistics (created, count, priority, status, entrypoint)
        VALUES
            (now() - interval '10 min', 10, 0, 'successful', 'fetch:massive'),
            (now() - interval '1 min', 20, 0, 'successful', 'fetch:massive'),
            (now() - interval '2 h', 70, 0, 'successful', 'fetch:massive'),
            (now() - interval '2 days', 900, 0, 'successful', 'fetch:massive')
    )
    INSERT INTO bf_jobs.schedule
    VALUES ('d1', now(), '2099-01-02 03:04Z')
"""
_PAGE: Final = Path(__file__).parents[2] / "docs" / "database.md"


def fetch(ticker: str, number: int) -> Fetch:
    source = Source("massive", "sip", "raw")
    return Fetch(Kind.series, source, Timeframe.d1, ((ticker, Timeframe.d1),), symbol_id=number)


async def stand(database: Database) -> None:
    """Have a queue in which something is in each state."""
    jobs = [fetch(one, number) for number, one in enumerate(TICKERS)]
    await database.run(lambda connection: queue.put(connection, jobs))
    await rows(database, STANDS, WORKER, f"it failed {HOSTILE}")


async def told(client: ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path) as got:
        return got.status, await got.json()


def timeless(state: dict[str, Any]) -> dict[str, Any]:
    """What is told of a queue, but for what is another a moment later."""
    for one in (*state["providers"].values(), *state["jobs_working"]):
        for name in ("oldest_s", "left_s", "since_s", "heard_s"):
            one.pop(name, None)
    return state


async def test_the_queue_is_shown_with_who_is_at_what_and_what_brings_held_jobs_back(
    database: Database, database_url: str
) -> None:
    await stand(database)
    settings = Settings(database_url=Secret(database_url))
    state = await asyncio.to_thread(lambda: blocking(api.queue_state(settings)))
    (of,) = state.providers
    assert (of.queued, of.working, of.held, of.done_1h, of.done_24h) == (1, 1, 2, 30, 100)
    assert of.left_s is not None
    assert 40 <= of.left_s < 50  # two of which thirty took ten minutes
    async with serving(database_url) as client:
        status, page = await seen(client, "/")
        assert status == 200
        assert "2 jobs of the queue are held, 1 of them parked" in page
        for command in ("retry", "retry 2", "retry 3"):
            assert f"<code>backfill queue {command}</code>" in page
        assert "it failed &lt;script&gt;" in page
        assert not EVIL.search(page)
        assert "AAPL d1" in page
        assert "0badcafe" in page
        assert "1 min 3" in page  # at work since
        assert "d1 at 2099-01-02 03:04; no worker keeps it" in page
        status, found = await told(client, "/queue")
        assert (status, timeless(found)) == (200, timeless(present.state_as_dict(state)))
        async with client.get("/metrics") as got:
            metrics = await got.text()
    for line in (
        'backfill_queue_jobs{provider="massive",state="held"} 2',
        'backfill_queue_ended_jobs{provider="massive",status="successful"} 100',
        "backfill_queue_workers 1",
    ):
        assert line in metrics.splitlines()
    assert metrics.count("# TYPE backfill_queue_jobs gauge") == 1


async def test_who_may_not_see_the_queue_is_told_so_and_sees_all_else(
    database: Database, database_url: str
) -> None:
    name = f"looker_{database_name(database_url)}"
    hidden = "see the schema bf_jobs; the queue is for members of the role backfill_runner"
    blocks = re.findall(r"^```sql\n(.*?)^```$", _PAGE.read_text(encoding="utf-8"), re.S | re.M)
    reads_all, reads_queue = (block.replace("dashboard", name) for block in blocks[-2:])
    async with serving(database_url) as client:
        _, page = await seen(client, "/")
        assert "The queue" not in page  # that nobody uses
    await stand(database)
    async with connection_to(database_url) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        await owner.execute(reads_all)
        try:
            for grant in (
                "SELECT",
                f"GRANT USAGE ON SCHEMA bf_jobs TO {name}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA bf_jobs TO {name}",
            ):
                await owner.execute(grant)
                async with serving(as_user(database_url, name, "x")) as client:
                    assert hidden in (await seen(client, "/"))[1], grant
                    status, refused = await told(client, "/queue")
                    assert (status, hidden in refused["error"]) == (404, True)
                    async with client.get("/metrics") as got:
                        assert (got.status, "backfill_queue" in await got.text()) == (200, False)
            await owner.execute(reads_queue)
            async with serving(as_user(database_url, name, "x")) as client:
                status, found = await told(client, "/queue")
                assert (status, found["held"]) == (200, 2)
        finally:
            await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await owner.execute("DROP SCHEMA bf_jobs CASCADE")
    async with serving(database_url) as client:
        status, page = await seen(client, "/")
        assert (status, "queue" in page.lower()) == (200, False)
        status, refused = await told(client, "/queue")
        assert (status, "has no queue" in refused["error"]) == (404, True)
        async with client.get("/metrics") as got:
            assert got.status == 200


async def test_why_a_job_is_held_is_read_of_it_alone_in_a_log_never_analysed(
    database: Database,
) -> None:
    """Of every job all that ever failed would be read: minutes, for many that are held."""
    told = "\n".join(row[0] for row in await rows(database, f"EXPLAIN {_HELD}"))
    assert "Index Cond: (job_id = q.id)" in told
    assert "pgqueuer_log_status" not in told
