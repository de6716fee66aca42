"""The schedule: what is watched is enqueued when its next bar is final, by one worker at a time.

The leader enqueues all that is watched when it begins and when the watchlist changes, then each
timeframe by the calendar. One that dies is followed within half a minute: its successor begins by
enqueueing all, and what is queued already is passed over.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from backfill.core.timeframe import Timeframe
from backfill.core.work import Mode
from backfill.errors import DatabaseError, EmptyWatchlist, UsageError
from backfill.run.due import next_finals
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.store import schedule as store
from backfill.store import universe
from backfill.store.pool import Database
from backfill.store.queue import in_queue
from backfill.workers.enqueue import enqueue

_LEASE_S: Final = 15.0
_LOOK_S: Final = 5.0
_LEAVE_S: Final = 1.0
_AGAIN: Final = timedelta(minutes=1)

log = structlog.stdlib.get_logger()


async def keep_schedule(
    settings: Settings,
    database: Database,
    queued: Database,
    worker: UUID,
    look_s: float = _LOOK_S,
) -> None:
    """Enqueue what becomes due, whenever this worker leads, until it is cancelled."""
    schedule = _Schedule(settings, database, queued, worker)
    try:
        while True:
            try:
                await schedule.look(datetime.now(UTC))
            except (DatabaseError, UsageError) as error:
                log.warning("schedule.failed", message=str(error))
            await asyncio.sleep(look_s)
    finally:
        with suppress(TimeoutError, DatabaseError):
            async with asyncio.timeout(_LEAVE_S):
                await queued.run(partial(store.leave, worker=worker))


class _Schedule:
    """What the leader knows: the watchlist as it was, and when each timeframe is next."""

    def __init__(
        self, settings: Settings, database: Database, queued: Database, worker: UUID
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = queued
        self._worker = worker
        self._entries: list[universe.WatchEntry] | None = None
        self._next: dict[Timeframe, datetime | None] = {}

    async def look(self, now: datetime) -> None:
        """Enqueue what is due by now, if this worker leads."""
        if not await in_queue(
            self._queue, partial(store.lead, worker=self._worker, seconds=_LEASE_S)
        ):
            self._entries = None
            return
        entries = [one for one in await universe.watched(self._database) if one.is_due]
        if entries != self._entries:
            log.info("schedule.leads" if self._entries is None else "schedule.changed")
            self._entries = entries
            self._next = {timeframe: now for one in entries for timeframe in one.timeframes}
        due = tuple(one for one, at in self._next.items() if at is not None and at <= now)
        if due:
            await self._enqueue(due, now)

    async def _enqueue(self, due: tuple[Timeframe, ...], now: datetime) -> None:
        """Enqueue timeframes; where one was queued before, what it asks for may lack the newest."""
        job = Job(timeframes=due, as_watched=True, mode=Mode.incremental)
        try:
            done = await enqueue(self._settings, self._database, job)
        except EmptyWatchlist:
            return
        following = await next_finals(
            self._database, self._settings, self._entries or (), None, now
        )
        for one in due:
            self._next[one] = following.get(one)
            if done.there:
                self._next[one] = min(self._next[one] or now + _AGAIN, now + _AGAIN)
        log.info("schedule.enqueued", timeframes=list(due), jobs=done.added, queued=done.there)
        ticks = [
            store.Tick(str(one), now if one in due else None, at) for one, at in self._next.items()
        ]
        await self._queue.run(partial(store.note, ticks=ticks))
