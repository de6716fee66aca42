"""Workers that are killed leave a queue from which others make the table of a single run (R18)."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from time import monotonic
from typing import Final

import pytest

from backfill.simulator import Action, Fault, Simulator
from tests.conftest import NOW, Cli, query
from tests.faults import slots, tables
from tests.faults.command import Command, Going, eventually

ASKED = ("-t", "d1", "-t", "w1", "--from", "2024-10-01")
_AT_ONCE: Final = 4
WORKER = ("worker", "--concurrency", str(_AT_ONCE), "--provider", "massive")
_JOBS = "SELECT count(*) FROM bf_jobs.pgqueuer WHERE status IN ('queued', 'picked')"
_HELD = "SELECT count(*) FROM bf_jobs.pgqueuer WHERE status = 'failed'"
_SYMBOLS: Final = 1000
"""How many the market has that are alike."""
_WEDNESDAYS: Final = [date(2024, 1, 10) + timedelta(weeks=4 * number) for number in range(11)]
"""Where a range ends and the next one begins: between two sessions without a day off."""
_LOOK_S: Final = 0.2


@dataclass(frozen=True)
class Size:
    """How many jobs there are, for how many workers, of which how many are killed, and for long.

    Of more jobs than symbols each is one of four weeks'. ``stops`` has one worker stand still for
    longer than its heartbeat, and the kills go on for ``lasts_s``; answers come ``late_s``. The
    quota is ``limit`` calls a second, and ``used`` the part of what R13 promises that has to be.
    """

    jobs: int
    workers: int
    kills: int
    limit: int = 60
    stops: bool = False
    lasts_s: float = 0.0
    late_s: tuple[float, float] = (0.2, 1.0)
    used: float | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The tickers that are asked for."""
        return tuple(f"SIM{one:03}" for one in range(min(self.jobs, _SYMBOLS)))

    @property
    def ranges(self) -> list[tuple[str, ...]]:
        """What is asked of each of them, a job each."""
        count = self.jobs // len(self.symbols)
        if count == 1:
            return [ASKED]
        return [
            ("-t", "d1", "--from", str(first), "--to", str(following - timedelta(days=1)))
            for first, following in pairwise(_WEDNESDAYS[-count - 1 :])
        ]

    @property
    def whole(self) -> tuple[str, ...]:
        """What is asked of each of them in all."""
        if len(self.ranges) == 1:
            return ASKED
        return (*self.ranges[0][:4], *self.ranges[-1][4:])


SMALL: Final = Size(8, 2, 1)
LARGER: Final = Size(600, 4, 12, stops=True)
LARGE: Final = Size(10_000, 4, 30, limit=12, stops=True, lasts_s=300, late_s=(0.02, 0.1), used=0.9)


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
    "size",
    [SMALL, pytest.param(LARGER, marks=pytest.mark.soak)],
    ids=lambda size: f"{size.jobs}-jobs",
)
def test_workers_killed_at_random_leave_the_table_of_a_single_run(
    size: Size,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    assert_killed_at_random_nothing_is_lost(size, provider, command, database_url)


@pytest.mark.soak
@pytest.mark.timing
def test_workers_killed_over_ten_thousand_jobs_use_the_quota_to_nine_tenths(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    assert_killed_at_random_nothing_is_lost(LARGE, provider, command, database_url)


def assert_killed_at_random_nothing_is_lost(
    size: Size,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    quota = f"{size.limit}/1s"
    simulator = provider(quota=quota)
    run = command(simulator, BACKFILL_QUOTA=quota, BACKFILL_PLAN="unlimited")
    named = ("--symbols", ",".join(size.symbols))
    assert run(*named, *size.whole, timeout=600).code == 0
    bars, claims, once = tables.bars(database_url), tables.claims(database_url), simulator.calls[:]
    tables.empty_tables(database_url)
    simulator.calls.clear()
    simulator.inject(Fault(action=Action.LATE, kind="bars", back_s=size.late_s))
    assert sum(enqueued(run, *named, *asked) for asked in size.ranges) == size.jobs
    if size.used is not None:
        slots.record(database_url)

    random_ = random.Random(size.jobs)
    going = [started(run, *WORKER) for _ in range(size.workers)]
    killed_s = []
    for kill in range(size.kills):
        # Spread over the whole work, by what of it is done.
        left_then = size.jobs - (kill + 1) * size.jobs // (size.kills + 2)
        eventually(partial(has_at_most, database_url, left_then), 300, _LOOK_S)
        victim = going.pop(random_.randrange(size.workers))
        if size.stops and kill == size.kills // 2:
            victim.send(signal.SIGSTOP)
            threading.Event().wait(35)  # past its heartbeat
            victim.send(signal.SIGCONT)
        threading.Event().wait(random_.uniform(0, 0.3))
        victim.kill()
        killed_s.append(monotonic())
        going.append(started(run, *WORKER))
    if not size.stops:  # without the half minute that a dead worker is waited for
        tables.expire_leases(database_url)
        tables.execute(
            database_url, "UPDATE bf_jobs.pgqueuer SET heartbeat = now() - interval '31 s'"
        )
    places = _AT_ONCE * size.workers
    eventually(partial(has_at_most, database_url, places), 600, _LOOK_S)
    busy_until_s = time.time()
    eventually(partial(has_at_most, database_url, 0), 600, _LOOK_S)
    for one in going:
        one.wait_for("worker.started")  # the others may have done it all before the last one began
        one.send(signal.SIGTERM)
    for one in going:
        ended = one.end()
        assert ended.code == 130, ended.err
        assert ended.lasted_s < 10

    assert killed_s[-1] - killed_s[0] >= size.lasts_s
    assert count(database_url, _HELD) == 0
    assert tables.bars(database_url) == bars
    assert tables.claims(database_url) == claims
    assert not any(call.status == 429 for call in [*once, *simulator.calls])
    asked_for = bars_asked(simulator)
    in_flight = _AT_ONCE * (size.kills + size.stops)
    assert sum(asked_for.values()) - len(asked_for) <= in_flight
    if size.used is not None:
        assert slots.used(database_url, size.limit, 1.0, busy_until_s) >= size.used


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
