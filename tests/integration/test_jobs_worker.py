"""Workers: a job of the queue is a run like any other, and what goes wrong with it is told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.errors import Interrupted, LoginRefused, UsageError
from backfill.fetch.stop import StopSignal
from backfill.settings import Settings
from backfill.simulator import Action, Fault, Simulator
from backfill.workers.duties import Duties, Worked
from backfill.workers.worker import work
from tests.conftest import NOW, _fresh, blocking, query
from tests.faults import tables
from tests.integration.store_kit import as_user, connection_to, until
from tests.integration.test_run_grouped import FIVE

_T = TypeVar("_T")

DRAIN = Duties(("massive",), drain=True)
FIRST = api.Bound(date(2024, 11, 4))
D1 = (Timeframe.d1,)
STATES = "SELECT status::text, count(*) FROM bf_jobs.pgqueuer GROUP BY 1 ORDER BY 1"
LOGGED = "INSERT INTO bf_jobs.pgqueuer_log (job_id, status, priority, entrypoint) VALUES "


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def elsewhere(server: str, with_calendars: str) -> Iterator[str]:
    """The URL of another database."""
    yield from _fresh(server, with_calendars)


def job(*tickers: str, timeframes: tuple[Timeframe, ...] = D1, **asked: Any) -> api.Job:
    return api.Job(symbols=tickers, timeframes=timeframes, first=FIRST, as_of=NOW, **asked)


def drain(settings: Settings, duties: Duties = DRAIN) -> Worked:
    return blocking(work(settings, duties, stop=StopSignal()))


def state(settings: Settings) -> api.QueueState:
    return blocking(api.queue_state(settings))


def states(url: str) -> dict[str, int]:
    return dict(tuple(row) for row in query(url, STATES))


def beside(
    settings: Settings, then: Callable[[StopSignal], Awaitable[None]], duties: Duties = DRAIN
) -> Worked:
    """Work while something else is done, which is to stop it or lets it come to its end."""

    async def both() -> Worked:
        stop = StopSignal()
        working = asyncio.create_task(work(settings, duties, stop=stop))
        try:
            await then(stop)
            async with asyncio.timeout(60):
                return await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    return blocking(both())


async def row(url: str, sql: str, *values: object) -> Any:
    async with connection_to(url) as connection:
        return await connection.fetchval(sql, *values)


def test_what_is_enqueued_is_worked_off_to_the_table_of_a_run(
    settings_here: Callable[..., Settings], database_url: str, elsewhere: str, simulator: Simulator
) -> None:
    asked = job("AAPL", "MSFT", timeframes=(Timeframe.m1, Timeframe.m5, Timeframe.d1, Timeframe.w1))
    settings = settings_here(DATABASE_URL=elsewhere)
    assert blocking(api.run(settings, asked)).exit_code == 0
    calls = len(simulator.calls)
    settings = settings_here(DATABASE_URL=database_url)
    some = blocking(api.enqueue(settings, job("MSFT")))
    assert (some.added, some.there) == (1, 0)
    done = blocking(api.enqueue(settings, asked))
    assert (done.added, done.there, done.kinds) == (4, 0, {"series": 4})
    again = blocking(api.enqueue(settings, asked))
    assert (again.added, again.there) == (0, 4)  # and none of them kept the others out
    worked = drain(settings)
    assert (worked.held, worked.exit_code) == (0, 0)
    assert tables.bars(database_url) == tables.bars(elsewhere)
    assert tables.claims(database_url) == tables.claims(elsewhere)
    assert len(simulator.calls) == 2 * calls
    assert blocking(api.enqueue(settings, asked)).added == 0
    found = state(settings)
    assert (found.queued, found.working, found.held) == (0, [], [])
    assert found.providers[0].ended == {"successful": 5}


def test_a_session_of_many_symbols_is_one_job_and_one_call(
    settings_here: Callable[..., Settings], simulator: Simulator
) -> None:
    settings = settings_here()
    later = NOW + timedelta(days=1)
    assert blocking(api.run(settings, job(*FIVE))).exit_code == 0
    simulator.set_now(later)
    simulator.calls.clear()
    asked = api.Job(symbols=FIVE, timeframes=D1, as_of=later, mode=api.Mode.incremental)
    done = blocking(api.enqueue(settings, asked))
    assert done.kinds == {"days": 1}
    assert drain(settings).done == 1
    # One whose head was late is sent again.
    assert {call.path for call in simulator.calls if call.kind == "bars"} == {
        "/v2/aggs/grouped/locale/us/market/stocks/2024-11-12"
    }


def test_a_job_that_fails_is_held_and_named_and_the_others_go_on(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("NOSUCH", "AAPL", "MSFT")))
    others = '{"status": "OK", "ticker": "OTHER", "adjusted": false, "results": []}'
    simulator.inject(
        Fault(action=Action.STATUS, status=200, body=others, ticker="MSFT", kind="bars")
    )
    worked = drain(settings)
    assert (worked.done, worked.held, worked.exit_code) == (1, 2, 1)
    held = {one.name: one for one in state(settings).held}
    assert held.keys() == {"NOSUCH d1", "MSFT d1"}
    assert not any(one.parked for one in held.values())
    assert "OTHER" in (held["MSFT d1"].why or "")
    # It isn't in the way of the same fetch, which takes its place.
    done = blocking(api.enqueue(settings, job("MSFT")))
    assert (done.added, done.exit_code) == (1, 0)
    assert states(database_url) == {"queued": 1, "failed": 1}
    # Nor is that of a symbol whose row went with the run, and which has another id by now.
    assert blocking(api.enqueue(settings, job("NOSUCH"))).added == 1
    assert states(database_url) == {"queued": 2}
    with pytest.raises(UsageError, match="no job 99 is queued or held; run: "):
        blocking(api.queue.drop(settings, [99], ["queued"]))
    assert blocking(api.queue.drop(settings, None, ["queued", "failed"])) == 2
    assert states(database_url) == {}


def test_a_job_at_which_workers_die_is_parked_and_only_asking_for_it_brings_it_back(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    [poison] = query(database_url, "SELECT min(id) AS id FROM bf_jobs.pgqueuer")
    died = ", ".join([f"({poison['id']}, 'picked', 0, 'fetch:massive')"] * 3)
    query(database_url, LOGGED + died)
    worked = drain(settings)
    assert (worked.done, worked.held) == (1, 1)
    [held] = state(settings).held
    assert held.parked
    assert held.why is not None
    assert "3 workers died" in held.why
    done = blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    assert (done.added, done.parked, done.exit_code) == (0, 1, 1)
    assert blocking(api.queue.retry(settings, None)) == 1
    assert drain(settings).done == 1
    assert state(settings).held == []


def test_jobs_that_are_handed_back_are_no_deaths(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL")))
    times = ", ".join(["(1, 'picked', 0, 'fetch:massive'), (1, 'queued', 0, 'fetch:massive')"] * 9)
    query(database_url, LOGGED + times)
    assert drain(settings).done == 1


def test_a_held_job_whose_key_was_taken_again_keeps_no_other_from_being_retried(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    query(
        database_url, "UPDATE bf_jobs.pgqueuer SET status = 'failed', headers = '{\"parked\": 1}'"
    )
    query(
        database_url,
        """
        INSERT INTO bf_jobs.pgqueuer (priority, entrypoint, payload, dedupe_key, status)
        SELECT priority, entrypoint, payload, dedupe_key, 'queued'
        FROM bf_jobs.pgqueuer ORDER BY id LIMIT 1
        """,
    )
    assert blocking(api.queue.retry(settings, None)) == 1
    assert states(database_url) == {"queued": 2}


def test_a_signal_hands_the_job_in_hand_back_at_once(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    simulator.inject(Fault(action=Action.HANG, kind="bars"))

    async def stop_at_work(stop: StopSignal) -> None:
        async def asked() -> bool:
            # One whose head was late is sent again.
            return len({call.about for call in simulator.calls if call.kind == "bars"}) == 2

        await until(asked, "both are asked for")
        stop.set(Interrupted("interrupted by SIGTERM"))

    worked = beside(settings, stop_at_work)
    assert (worked.done, worked.handed_back, worked.held, worked.exit_code) == (0, 2, 0, 130)
    assert states(database_url) == {"queued": 2}
    assert tables.leases(database_url) == 0
    simulator.clear_faults()
    assert drain(settings).done == 2


def test_a_worker_that_lost_its_job_to_another_writes_nothing_more(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    # As one that holds its loop past its heartbeat does: the job is picked again while it is on.
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL")))
    simulator.inject(
        Fault(action=Action.LATE, kind="bars", back_s=(12.0, 12.0), times=1, counted="before")
    )

    async def lose(stop: StopSignal) -> None:
        async def asked() -> bool:
            return any(call.kind == "bars" for call in simulator.calls)

        await until(asked, "the first worker has asked")
        old = "now() - interval '1 hour'"
        await row(database_url, f"UPDATE bf_jobs.pgqueuer SET heartbeat = {old}")
        await row(database_url, f"UPDATE backfill_progress SET claimed_until = {old}")
        second = await work(settings, DRAIN, stop=StopSignal())
        assert second.done == 1

    first = beside(settings, lose)
    assert (first.done, first.handed_back) == (0, 1)
    assert states(database_url) == {}
    inserted = query(database_url, "SELECT bars_inserted FROM backfill_runs ORDER BY 1")
    assert [one["bars_inserted"] for one in inserted] == [0, 6]


def test_a_long_wait_for_the_quota_hands_the_job_back_for_as_long(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here(BACKFILL_QUOTA="3/1d")
    blocking(api.enqueue(settings, job("AAPL", "MSFT", "SIM001", "SIM002", "SIM003", "SIM004")))

    async def stop_once_told(stop: StopSignal) -> None:
        async def told() -> bool:
            deferred = "SELECT count(*) FROM bf_jobs.pgqueuer WHERE execute_after > now() + '20 h'"
            return bool(await row(database_url, deferred))

        await until(told, "a job waits for tomorrow's quota")
        stop.set(Interrupted("enough"))

    worked = beside(settings, stop_once_told)
    assert (worked.held, worked.exit_code) == (0, 130)
    assert worked.handed_back >= 1
    found = state(settings)
    assert found.providers[0].deferred >= 1
    assert len(simulator.calls) <= 3
    assert not any(call.status == 429 for call in simulator.calls)


def test_a_refused_key_ends_the_worker_and_holds_no_job(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here(MASSIVE_API_KEY="wrong")
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    worked = drain(settings)
    assert (worked.done, worked.held, worked.exit_code) == (0, 0, 3)
    assert worked.error is not None
    assert states(database_url) == {"queued": 2}


def test_a_worker_takes_the_jobs_of_its_providers_only_and_the_higher_priority_first(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    query(
        database_url,
        """
        INSERT INTO bf_jobs.pgqueuer (priority, entrypoint, payload, dedupe_key, status)
        SELECT 0, 'fetch:kraken', payload, 'another', 'queued' FROM bf_jobs.pgqueuer LIMIT 1
        """,
    )
    query(database_url, "UPDATE bf_jobs.pgqueuer SET priority = 9 WHERE dedupe_key LIKE '%\"2\"%'")
    worked = drain(settings, Duties(("massive",), concurrency=1, drain=True))
    assert worked.done == 2
    assert states(database_url) == {"queued": 1}
    asked = [call.about for call in simulator.calls if call.kind == "bars"]
    assert "MSFT" in asked[0]


def test_connections_that_break_amid_a_job_cost_nothing_but_time(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL", "MSFT")))
    simulator.inject(Fault(action=Action.LATE, kind="bars", back_s=(1.0, 1.0)))

    async def cut(stop: StopSignal) -> None:
        async def asked() -> bool:
            return any(call.kind == "bars" for call in simulator.calls)

        await until(asked, "it has asked")
        for _ in range(3):
            await row(
                database_url,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )

    worked = beside(settings, cut)
    assert (worked.done, worked.held) == (2, 0)


@pytest.mark.direct
def test_a_login_that_may_not_use_the_queue_is_told_at_once(
    settings_here: Callable[..., Settings], database_url: str
) -> None:
    role = f"outsider_{uuid4().hex[:8]}"
    query(database_url, f"CREATE ROLE {role} LOGIN")
    query(database_url, f"GRANT SELECT ON backfill_migrations TO {role}")
    query(database_url, f"CREATE POLICY {role} ON backfill_migrations TO {role} USING (true)")
    try:
        settings = settings_here(DATABASE_URL=as_user(database_url, role))
        with pytest.raises(LoginRefused, match="bf_jobs; the queue is for members"):
            state(settings)
        with pytest.raises(LoginRefused, match="bf_jobs; the queue is for members"):
            drain(settings)
    finally:
        query(database_url, f"DROP OWNED BY {role}")
        query(database_url, f"DROP ROLE {role}")


def test_what_is_to_be_as_of_a_time_that_lies_ahead_is_not_queued(
    settings_here: Callable[..., Settings], database_url: str
) -> None:
    ahead = api.Job(symbols=("AAPL",), as_of=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(UsageError, match="lies ahead"):
        blocking(api.enqueue(settings_here(), ahead))
    assert states(database_url) == {}


@pytest.mark.direct
def test_the_role_that_runs_may_enqueue_and_work(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    role = f"runner_{uuid4().hex[:8]}"
    query(database_url, f"CREATE ROLE {role} LOGIN IN ROLE backfill_runner")
    try:
        settings = settings_here(DATABASE_URL=as_user(database_url, role))
        assert blocking(api.enqueue(settings, job("AAPL", "NOSUCH"))).added == 2
        worked = drain(settings, Duties(("massive",), schedule=True, drain=True))
        assert (worked.done, worked.held) == (1, 1)
        assert blocking(api.queue.retry(settings, None)) == 1
        assert blocking(api.queue.drop(settings, None, ["queued"])) == 1
    finally:
        query(database_url, f"DROP ROLE {role}")


def test_a_job_that_another_version_wrote_is_held_and_not_guessed_at(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    query(
        database_url,
        """
        INSERT INTO bf_jobs.pgqueuer (priority, entrypoint, payload, dedupe_key, status)
        VALUES (0, 'fetch:massive', '{"version": 2}', 'a', 'queued'),
            (0, 'fetch:massive', 'no JSON', 'b', 'queued'),
            (0, 'fetch:massive', '\\xff', 'c', 'queued'),
            (0, 'fetch:massive', NULL, 'd', 'queued')
        """,
    )
    assert drain(settings).held == 4
    assert [one.name for one in state(settings).held] == ["?"] * 4
    assert not simulator.calls


def test_what_jobs_went_through_long_ago_is_forgotten_but_for_those_that_are_there(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    settings = settings_here()
    blocking(api.enqueue(settings, job("AAPL")))
    query(
        database_url,
        """
        INSERT INTO bf_jobs.pgqueuer_log
            (job_id, created, status, priority, entrypoint, aggregated)
        SELECT job, now() - age * interval '1 day', 'picked', 0, 'fetch:kraken', true
        FROM unnest(ARRAY[77, 78, 1], ARRAY[8, 6, 8]) AS l (job, age)
        """,
    )
    drain(settings, Duties(("kraken",), drain=True))
    left = query(
        database_url, "SELECT job_id FROM bf_jobs.pgqueuer_log WHERE status = 'picked' ORDER BY 1"
    )
    assert [one["job_id"] for one in left] == [1, 78]


def test_a_schedule_is_kept_by_one_worker_until_it_ends_or_is_missed(
    settings_here: Callable[..., Settings], database_url: str, simulator: Simulator
) -> None:
    from backfill.store import universe
    from backfill.store.pool import Database
    from backfill.workers.schedule import keep_schedule

    settings = settings_here()
    change = universe.WatchChange(D1, since="2024-11-04")
    leads = "SELECT holder::text FROM bf_jobs.leader"

    async def compete() -> None:
        first, second = uuid4(), uuid4()
        async with Database.connect(database_url) as database:
            await database.run(lambda one: universe.watch(one, ["AAPL"], change))

            async def is_led_by(worker: object) -> bool:
                return bool(await row(database_url, leads) == str(worker))

            def keep(worker: Any) -> asyncio.Task[None]:
                return asyncio.create_task(
                    keep_schedule(settings, database, database, worker, look_s=0.05)
                )

            one = keep(first)
            await until(lambda: is_led_by(first), "the first leads")

            async def is_queued() -> bool:
                return bool(await row(database_url, "SELECT count(*) FROM bf_jobs.pgqueuer") == 1)

            await until(is_queued, "what is watched is queued")
            two = keep(second)
            await asyncio.sleep(0)
            assert await is_led_by(first)
            await database.run(lambda one: universe.watch(one, ["MSFT"], change))

            async def both_queued() -> bool:
                return bool(await row(database_url, "SELECT count(*) FROM bf_jobs.pgqueuer") == 2)

            await until(both_queued, "the watchlist changed")
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            await until(lambda: is_led_by(second), "the second follows")
            two.cancel()
            await asyncio.gather(two, return_exceptions=True)
            third = uuid4()
            await row(
                database_url,
                "INSERT INTO bf_jobs.leader VALUES ('schedule', $1, now() - interval '1 s')",
                uuid4(),
            )
            three = keep(third)
            await until(lambda: is_led_by(third), "one that is missed is followed")
            three.cancel()
            await asyncio.gather(three, return_exceptions=True)

    blocking(compete())
    [tick] = state(settings).schedule
    assert tick.timeframe == "d1"
    assert tick.enqueued_at is not None
    assert tick.next_at is not None
    assert tick.next_at > datetime.now(UTC)
