"""Workers that are killed leave a queue from which others make the table of a single run (R18)."""

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import NOW, Cli, query
from tests.faults import tables
from tests.faults.command import Command, Going, eventually

ASKED = ("-t", "d1", "-t", "w1", "--from", "2024-10-01")
WORKER = ("worker", "--concurrency", "4", "--provider", "massive")
_JOBS = "SELECT count(*) FROM bf_jobs.pgqueuer WHERE status IN ('queued', 'picked')"
_HELD = "SELECT count(*) FROM bf_jobs.pgqueuer WHERE status = 'failed'"
_QUOTA = "60/1s"


def started(run: Command, *arguments: str) -> Going:
    return Going(Cli(run.environment).start(*arguments), run.kept)


def enqueued(run: Command, *arguments: str) -> int:
    ended = Cli(run.environment)("enqueue", *arguments, "--as-of", NOW.isoformat(), "--json")
    assert ended.code == 0, ended.err
    return int(ended.json["added"])


def count(url: str, sql: str) -> int:
    ((number,),) = query(url, sql)
    return int(number)


def has_at_most(url: str, jobs: int) -> bool:
    return count(url, _JOBS) <= jobs


def has_hung(simulator: Simulator) -> bool:
    return any("SIM003" in call.about for call in simulator.calls if call.kind == "bars")


def bars_asked(simulator: Simulator) -> Counter[str]:
    """How often each question for bars was asked."""
    return Counter(
        f"{call.path}?{sorted(call.query.items())}"
        for call in simulator.calls
        if call.kind == "bars"
    )


@pytest.mark.parametrize(
    ("jobs", "workers", "kills", "stops"),
    [(8, 2, 1, False), pytest.param(600, 4, 12, True, marks=pytest.mark.soak)],
)
def test_workers_killed_at_random_leave_the_table_of_a_single_run(
    jobs: int,
    workers: int,
    kills: int,
    stops: bool,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider(quota=_QUOTA)
    run = command(simulator, BACKFILL_QUOTA=_QUOTA, BACKFILL_PLAN="unlimited")
    series = ("--symbols", ",".join(f"SIM{one:03}" for one in range(jobs)), *ASKED)
    assert run(*series, timeout=600).code == 0
    bars, claims, once = tables.bars(database_url), tables.claims(database_url), simulator.calls[:]
    tables.empty_tables(database_url)
    simulator.calls.clear()
    simulator.inject(Fault(action=Action.LATE, kind="bars", back_s=(0.2, 1.0)))
    assert enqueued(run, *series) == jobs

    random_ = random.Random(jobs)
    going = [started(run, *WORKER) for _ in range(workers)]
    for kill in range(kills):
        # Spread over the whole work, by what of it is done.
        left_then = jobs - (kill + 1) * jobs // (kills + 2)
        eventually(partial(has_at_most, database_url, left_then), timeout=300)
        victim = going.pop(random_.randrange(workers))
        if stops and kill == kills // 2:
            victim.send(signal.SIGSTOP)
            threading.Event().wait(35)  # past its heartbeat
            victim.send(signal.SIGCONT)
        threading.Event().wait(random_.uniform(0, 0.3))
        victim.kill()
        going.append(started(run, *WORKER))
    if not stops:  # without the half minute that a dead worker is waited for
        tables.expire_leases(database_url)
        tables.execute(
            database_url, "UPDATE bf_jobs.pgqueuer SET heartbeat = now() - interval '31 s'"
        )
    eventually(lambda: count(database_url, _JOBS) == 0, timeout=600)
    for one in going:
        one.wait_for("worker.started")  # the others may have done it all before the last one began
        one.send(signal.SIGTERM)
    for one in going:
        ended = one.end()
        assert ended.code == 130, ended.err
        assert ended.lasted_s < 10

    assert count(database_url, _HELD) == 0
    assert tables.bars(database_url) == bars
    assert tables.claims(database_url) == claims
    assert not any(call.status == 429 for call in [*once, *simulator.calls])
    asked = bars_asked(simulator)
    in_flight = 4 * (kills + stops)
    assert sum(asked.values()) - len(asked) <= in_flight


@pytest.mark.soak
def test_the_job_of_a_killed_worker_is_at_work_again_within_45_s(
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.HANG, kind="bars", times=1))
    assert enqueued(run, "AAPL", *ASKED) == 1
    victim = started(run, *WORKER)
    victim.wait_for("job.started")
    eventually(lambda: any(call.kind == "bars" for call in simulator.calls))
    heir = started(run, *WORKER)
    heir.wait_for("worker.started")
    victim.kill()
    killed_s = monotonic()
    heir.wait_for("run.started", timeout=60)
    again_s = monotonic() - killed_s
    heir.wait_for("job.done", timeout=60)
    heir.send(signal.SIGTERM)
    assert heir.end().code == 130
    assert again_s < 45
    assert tables.size(database_url) > 0


@pytest.mark.soak
def test_a_job_that_kills_its_workers_is_parked_and_the_others_are_done(
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    # Whoever asks for this one is killed; those beside it die with it.
    simulator.inject(Fault(action=Action.HANG, kind="bars", ticker="SIM003"))
    simulator.inject(Fault(action=Action.LATE, kind="bars", back_s=(1.0, 1.0)))
    assert enqueued(run, *(f"SIM{one:03}" for one in range(12)), *ASKED) == 12
    for _ in range(3):
        going = started(run, *WORKER)
        eventually(lambda: has_hung(simulator), timeout=120)
        simulator.calls.clear()
        going.kill()
        tables.expire_leases(database_url)
        tables.execute(
            database_url, "UPDATE bf_jobs.pgqueuer SET heartbeat = now() - interval '31 s'"
        )
    last = started(run, *WORKER)
    last.wait_for("worker.started")
    eventually(lambda: count(database_url, _JOBS) == 0, timeout=300)
    last.send(signal.SIGTERM)
    assert last.end().code == 130
    ended = Cli(run.environment)("queue", "status", "--json")
    assert [(one["name"], one["parked"]) for one in ended.json["jobs_held"]] == [
        ("SIM003 d1 w1", True)
    ]
    assert len(tables.bars(database_url)) == 2 * 11
