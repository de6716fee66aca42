"""A lane: streams of pages through one quota into the database, the newest of each series first.

Sessions that are cheaper to ask for once for many series come first (`backfill.run.grouped`), then
the newest bars of many (`backfill.run.batched`) and files of all the market
(`backfill.run.market_files`). All else is fetched by streams, one symbol in
one fetched timeframe each. The stream that has had the fewest pages so far has the next turn: its
series are leased, one page is fetched, and is written in a transaction of its own. So every series
gets its newest page before any gets a second one, no timeframe starves another, and a run that ends
at any instant keeps every page it wrote. How many turns are taken at once `backfill.fetch.flight`
decides.
"""

import asyncio
import math
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import structlog

from backfill.core.series import Series
from backfill.errors import (
    BackfillError,
    DatabaseError,
    LeaseLost,
    NotEntitled,
    QuotaUsedUp,
    SharedFault,
    Stopped,
    Unforeseen,
)
from backfill.fetch.stop import StopSignal
from backfill.run.batched import BatchedPart
from backfill.run.context import Context
from backfill.run.grouped import GroupedPart
from backfill.run.market_files import MarketFilesPart
from backfill.run.stream import Stream
from backfill.run.together import Together

if TYPE_CHECKING:
    from backfill.store.progress import Lease

_GRACE_S: Final = 2.0
_POLL_S: Final = 0.5

log = structlog.stdlib.get_logger()


def _precedence(stream: Stream) -> tuple[bool, int, int]:
    """What decides which stream comes first, the greatest: its priority, and how new its data is.

    A run that is cut short, and the one that resumes it, never serve one series' past before
    another's present, whatever their priorities.
    """
    return stream.misses_newest, stream.demand.priority, stream.upto_ms


class Orchestrator:
    """Runs streams to their ends, or to where the run must stop."""

    def __init__(self, context: Context, run_stop: StopSignal) -> None:
        self._context = context
        self._outcomes = context.outcomes
        self._run_stop = run_stop
        self._stop = context.stop
        self._gauge = context.gauge
        self._flight = context.tally.flight
        self._queue: asyncio.PriorityQueue[tuple[float, int, Stream | None]] = (
            asyncio.PriorityQueue()
        )
        self._order = count()
        self._open: set[Stream] = set()
        # The streams in hand whose request does not queue for a slot yet, by turn and order.
        self._unqueued: dict[Stream, tuple[float, int]] = {}
        self._one_queued = asyncio.Event()
        self._held: list[tuple[Stream, Lease]] = []

    async def run(self, streams: list[Stream]) -> None:
        """Run all streams; what became of each series is in the outcomes.

        Series that another run holds come last: they are waited for until that run releases or
        renews them, or its leases expire.
        """
        for stream in streams:
            self._gauge.plan(stream, stream.name, *stream.left)
        await self._run(await self._run_together(streams))
        while self._held and self._stop.reason is None:
            await self._run(await self._await_leases())
        mine = [series for stream in streams for series in stream.series]
        if self._outcomes.unfinished(mine):
            self._outcomes.stopped = self._run_stop.reason or self._outcomes.stopped

    async def _run_together(self, streams: list[Stream]) -> list[Stream]:
        """Take what is cheaper so for many at once; return the streams that have more to do."""
        for serve in (GroupedPart, BatchedPart, MarketFilesPart):
            together = Together(self._context, streams)
            await self._until_stopped([self._serve(serve(self._context, together), together)])
            streams = together.left
        return streams

    async def _serve(
        self, part: GroupedPart | BatchedPart | MarketFilesPart, together: Together
    ) -> None:
        try:
            await part.run()
        except Stopped as error:
            self._stop_by(error)
        except SharedFault as error:
            self._fail(together.leased, error)
            self._end_by(error)

    async def _run(self, streams: list[Stream]) -> None:
        if not streams:
            return
        self._open = set(streams)
        for stream in streams:
            self._gauge.plan(stream, stream.name, *stream.left)
        for stream in sorted(streams, key=_precedence, reverse=True):
            self._queue.put_nowait((0, next(self._order), stream))
        await self._until_stopped([self._take_turns()])
        # A write that the database keeps waiting is rolled back; the next run asks again.
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await asyncio.gather(
                    *(self._settle(stream, self._stop.reason) for stream in self._open)
                )

    async def _take_turns(self) -> None:
        """Give streams their turns, the one with the fewest pages first, until all have ended."""
        async with asyncio.TaskGroup() as group:
            with suppress(Stopped):
                while self._open:
                    await self._stop.unless_set(self._flight.place())
                    turn, order, stream = await self._stop.unless_set(self._queue.get())
                    if stream is None:
                        continue
                    self._unqueued[stream] = turn, order
                    self._flight.begin()
                    group.create_task(self._take(turn, order, stream))

    async def _take(self, turn: float, order: int, stream: Stream) -> None:
        """Take a turn of a stream, and put it back for the next one."""
        try:
            with self._gauge.turn():
                goes_on = await self._turn(stream)
        finally:
            self._note_queued(stream)
            self._flight.end(
                more=not self._queue.empty(),
                idle=self._gauge.idle_turns,
                head_s=self._gauge.head_s,
                failures=self._context.tally.retries,
            )
        if goes_on:
            self._queue.put_nowait((turn + 1, order, stream))
        elif not self._open:
            self._queue.put_nowait((math.inf, next(self._order), None))

    async def _let_earlier_turns_queue(self, stream: Stream) -> None:
        """Wait while an earlier turn's request doesn't queue yet: the last calls are its."""
        while min(self._unqueued.values()) < self._unqueued[stream]:
            await self._stop.unless_set(self._one_queued.wait())

    def _note_queued(self, stream: Stream) -> None:
        if self._unqueued.pop(stream, None) is not None:
            # Each waits on the event of its own look: clearing one could lose another's wake-up.
            self._one_queued.set()
            self._one_queued = asyncio.Event()

    async def _turn(self, stream: Stream) -> bool:
        """Take a stream one page further and return whether it goes on."""
        with structlog.contextvars.bound_contextvars(
            symbol=stream.work.symbol.ticker, timeframe=str(stream.work.base)
        ):
            try:
                if not stream.leased and (lease := await stream.lease()):
                    self._held.append((stream, lease))
                    self._open.discard(stream)
                    return False
                if not stream.fetched:
                    with self._gauge.idle():
                        await self._let_earlier_turns_queue(stream)
                    await stream.advance(partial(self._note_queued, stream))
                    self._gauge.prove(stream, *stream.left)
                if not stream.fetched:
                    return True
            except BackfillError as error:
                await self._settle(stream, error)
            else:
                await self._settle(stream, None)
            return False

    async def _settle(self, stream: Stream, error: BackfillError | None) -> None:
        """Wait for a stream's last write, note how the stream ended, and release its leases."""
        self._open.discard(stream)
        self._gauge.end(stream)
        if isinstance(error, SharedFault):
            self._end_by(error)  # at once: calls would go while it is written and released
        try:
            await stream.written()
            if isinstance(error, NotEntitled):
                await stream.deny()
            if not isinstance(error, LeaseLost) and self._stop.reason is None:
                await stream.release()
        except BackfillError as later:
            if error is None or isinstance(later, SharedFault):
                error = later
        match error:
            case None:
                if stream.fetched and stream.leased:
                    self._outcomes.complete.update(stream.series)
            case LeaseLost():
                self._outcomes.skipped.update(stream.series)
            case Stopped():
                self._stop_by(error)
            case SharedFault():
                self._fail(stream.series, error)
                self._end_by(error)
            case _:
                self._fail(stream.series, error)

    def _stop_by(self, reason: Stopped) -> None:
        """Stop the run, unless it is only this lane that has stopped, or has to."""
        if isinstance(reason, QuotaUsedUp):
            self._outcomes.stopped = self._outcomes.stopped or reason
            self._stop.set(reason)
        elif reason is not self._stop.reason:
            self._run_stop.set(reason)

    def _end_by(self, fault: SharedFault) -> None:
        """End the run by what every series shares, or this lane by what its provider's share."""
        reason = Stopped(str(fault))
        if isinstance(fault, DatabaseError | Unforeseen):
            self._outcomes.fault = self._outcomes.fault or fault
            self._run_stop.set(reason)
        else:
            self._outcomes.faults.setdefault(self._context.provider.name, fault)
            self._stop.set(reason)

    def _fail(self, every: list[Series], error: BackfillError) -> None:
        for series in every:
            self._outcomes.fail(series, error)
            log.error(
                "series.failed",
                timeframe=str(series.timeframe),
                outcome=error.outcome,
                message=str(error),
            )

    async def _await_leases(self) -> list[Stream]:
        """Wait for one of the leases in the way to end, and return the streams that are free."""
        held, self._held = self._held, []
        while held:
            free: list[Stream] = []
            still: list[tuple[Stream, Lease]] = []
            for stream, seen in held:
                try:
                    lease = await self._stop.unless_set(stream.lease())
                except BackfillError as error:
                    await self._settle(stream, error)
                    continue
                if lease is None:
                    free.append(stream)
                elif lease == seen:
                    still.append((stream, seen))
                else:
                    self._outcomes.skipped.update(stream.series)
            held = still
            if free:
                self._held = held
                return free
            try:
                await self._stop.sleep(_POLL_S)
            except Stopped:
                return []
        return []

    async def _until_stopped(self, work: list[Coroutine[Any, Any, None]]) -> None:
        """Await work that ends by itself, or shortly after the run must stop."""
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(one) for one in work]
            ending = group.create_task(self._end(workers))
            await asyncio.wait(workers)
            ending.cancel()

    async def _end(self, workers: list[asyncio.Task[None]]) -> None:
        """Once the run must stop, give requests under way a moment, then cancel them."""
        await self._stop.wait()
        await asyncio.sleep(_GRACE_S)
        for worker in workers:
            worker.cancel()
