"""A run that stays up: one round when it begins, then one whenever there may be something to fetch.

A round is a run like any other. The next one follows when a bar of a watched series becomes final,
by the calendar, or when the watchlist changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import structlog

from backfill.errors import (
    DatabaseError,
    EmptyWatchlist,
    LimitReached,
    LoginRefused,
    SchemaMismatch,
    Stopped,
    Unauthorised,
    UsageError,
)
from backfill.fetch.stop import StopSignal
from backfill.run.connect import opened_until
from backfill.run.due import next_finals
from backfill.run.execution import Running, check, run_in, set_deadline
from backfill.run.job import Job
from backfill.run.outcomes import Summary
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Database
from backfill.store.universe import WATCHLIST_CHANNEL, WatchEntry

_SHORTEST_S: Final = 0.05

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often to look, in seconds.

    The watchlist and the clock are looked at every ``look_s``, at the latest. While the database or
    the provider is away, the wait before the next round doubles from ``away_s`` to ``away_max_s``.
    After a round in which a series failed, another follows within ``again_s``.
    """

    look_s: float = 30.0
    away_s: float = 5.0
    away_max_s: float = 300.0
    again_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is nothing to do until then, at the latest, by what is known now; None for no end.

    A watchlist that changes ends it sooner.
    """

    until: datetime | None


Around: TypeAlias = Callable[[Coroutine[Any, Any, Summary]], Awaitable[Summary]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: the exit code, and what every series would share that ended it."""

    exit_code: int
    error: str | None = None


async def run_rounds(
    settings: Settings,
    job: Job,
    tell: Callable[[Summary], None],
    *,
    stop: StopSignal | None = None,
    on_plan: Callable[[Running], None] | None = None,
    on_wait: Callable[[Waiting], None] | None = None,
    around: Around | None = None,
    rhythm: Rhythm | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Ending:
    """Run a job round after round until it is stopped, and tell each round's summary.

    ``on_plan`` is called when a round's plan is ready, ``on_wait`` when there is nothing to do for
    a while; ``around`` awaits each round, and may tell others of its beginning and end.

    It outlasts a database or a provider that is away. It ends with the signal ``stop`` (130 if a
    person or the system interrupts it; at the job's deadline with the code of the last round), with
    the last of the job's calls (5), and with what no wait mends: a login, a schema, or the key of
    every provider that is asked, that is refused (3).

    Raises
    ------
    UsageError
        If the settings or the job are wrong, or the watchlist is empty from the start.
    """
    check(job)
    if job.symbols is not None or job.as_of is not None:
        raise UsageError("a watch is of the whole watchlist, by the real clock")
    stop = stop or StopSignal()
    set_deadline(job, stop)
    return await _Rounds(
        settings, job, tell, stop, on_plan, on_wait, around, rhythm or Rhythm(), clock
    ).run()


def _is_refused(summary: Summary) -> bool:
    """Whether every provider refused its key: of another there is more to ask by and by."""
    refused = {one.provider for one in summary.failures if one.outcome == Unauthorised.outcome}
    return summary.exit_code == Unauthorised.exit_code and summary.providers.keys() <= refused


class _Rounds:
    """The rounds: what the last one came to, and how often in a row there was none."""

    def __init__(
        self,
        settings: Settings,
        job: Job,
        tell: Callable[[Summary], None],
        stop: StopSignal,
        on_plan: Callable[[Running], None] | None,
        on_wait: Callable[[Waiting], None] | None,
        around: Around | None,
        rhythm: Rhythm,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._job = job
        self._tell = tell
        self._stop = stop
        self._on_plan = on_plan
        self._on_wait = on_wait
        self._around = around
        self._rhythm = rhythm
        self._clock = clock
        self._last = Ending(LimitReached.exit_code)  # if the deadline comes before the first round
        self._rounds = 0
        self._away = 0

    async def run(self) -> Ending:
        """Go on until something ends it."""
        ending: Ending | None = None
        while ending is None:
            try:
                ending = await self._while_there()
            except Stopped as reason:
                ending = Ending(130) if reason.exit_code == 130 else self._last
            except (LoginRefused, SchemaMismatch) as error:
                ending = Ending(error.exit_code, str(error))
            except DatabaseError as error:
                self._last = Ending(error.exit_code, str(error))
                log.warning("watch.database_away", message=str(error))
        return ending

    async def _while_there(self) -> Ending:
        """Run rounds in one database until something ends them; wait first if it was away."""
        if self._last.exit_code == 3:
            await self._wait_for_the_absent()
        async with opened_until(self._settings, self._stop) as database:
            while True:
                began = self._clock()
                entries = await self._entries(database)
                if not await self._round(database, began):
                    return self._last
                if self._last.exit_code == 3:
                    await self._wait_for_the_absent()
                else:
                    self._away = 0
                    await self._wait(database, began, entries)

    async def _round(self, database: Database, began: datetime) -> bool:
        """Run once, as of when it began; return whether another round may follow."""
        try:
            running = run_in(
                database,
                self._settings,
                replace(self._job, as_of=began),
                stop=self._stop.branch(),
                on_plan=self._on_plan,
            )
            summary = await (self._around(running) if self._around else running)
        except EmptyWatchlist:
            if not self._rounds:
                raise
            self._last = Ending(0)
            return True
        self._rounds += 1
        self._tell(summary)
        self._last = Ending(summary.exit_code, summary.error)
        if self._job.max_calls is not None:
            left = self._job.max_calls - summary.calls - summary.lookups
            self._job = replace(self._job, max_calls=left)
            if not left:
                return False
        return not _is_refused(summary)

    async def _wait_for_the_absent(self) -> None:
        """Wait, longer each time in a row, for the database or the provider to come back."""
        rhythm = self._rhythm
        wait_s = min(rhythm.away_s * 2 ** min(self._away, 32), rhythm.away_max_s)
        self._away += 1
        log.warning("watch.away", message=self._last.error, seconds=wait_s)
        self._note_wait(datetime.now(UTC) + timedelta(seconds=wait_s))
        await self._stop.sleep(wait_s)

    async def _wait(self, database: Database, began: datetime, entries: list[WatchEntry]) -> None:
        """Wait until what the round has seen is no longer all there is to know.

        The clock may jump: whether a bar is due is asked of it anew each time, and a clock that
        stands before the round's is a reason to run by what it says now.
        """
        due_at = await self._next_final(database, began, entries)
        loop = asyncio.get_running_loop()
        again_at = loop.time() + self._rhythm.again_s if self._last.exit_code else None
        log.info("watch.waiting", due_at=due_at and due_at.isoformat())
        ends = [] if due_at is None else [due_at]
        if again_at is not None:
            ends.append(self._clock() + timedelta(seconds=self._rhythm.again_s))
        self._note_wait(min(ends, default=None))
        async with AsyncExitStack() as stack:
            changed = await self._stop.unless_set(
                stack.enter_async_context(database.listening(WATCHLIST_CHANNEL))
            )
            while True:
                changed.clear()
                if await self._entries(database) != entries:
                    log.info("watch.changed")
                    return
                now = self._clock()
                if now < began or (due_at is not None and due_at <= now):
                    return
                if again_at is not None and again_at <= loop.time():
                    return
                wait_s = self._rhythm.look_s
                if due_at is not None:
                    wait_s = min(wait_s, (due_at - now).total_seconds())
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait_s, _SHORTEST_S)):
                        await self._stop.unless_set(changed.wait())

    def _note_wait(self, until: datetime | None) -> None:
        if self._on_wait is not None:
            self._on_wait(Waiting(until))

    async def _entries(self, database: Database) -> list[WatchEntry]:
        entries = await self._stop.unless_set(database.run(universe.watched))
        return [entry for entry in entries if entry.is_due]

    async def _next_final(
        self, database: Database, began: datetime, entries: list[WatchEntry]
    ) -> datetime | None:
        """Return when the next bar of any watched series becomes final."""
        due = await self._stop.unless_set(
            next_finals(database, self._settings, entries, self._job.timeframes, began)
        )
        return min((at for at in due.values() if at is not None), default=None)
