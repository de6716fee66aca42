"""Streams that are served together, before they take turns of their own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from backfill.core.coverage import Spans
from backfill.core.paging import Chunk
from backfill.core.series import Series
from backfill.core.work import Demand, Mode, Work
from backfill.errors import SeriesError
from backfill.run.context import Context
from backfill.run.stream import Stream
from backfill.store import progress
from backfill.store.pool import Connection

Asked: TypeAlias = tuple[Work, Demand]
"""A piece of work, and what was asked for with it."""


class _Chosen(Protocol):
    """How many symbols are best asked for at once, and the work that it serves."""

    @property
    def work(self) -> Iterable[Work]: ...


_Best = TypeVar("_Best", bound=_Chosen)


class Together:
    """Leases streams at once, and knows which of them have all they missed.

    ``left`` are those that still have something to do, ``leased`` the series that are leased of
    theirs; ``streams`` are those that are served, by their work as it is planned since.
    """

    def __init__(self, context: Context, streams: list[Stream]) -> None:
        self.left = list(streams)
        self.leased = list[Series]()
        self.streams = dict[Work, Stream]()
        self._context = context
        self._answered = dict[Series, Spans]()

    def best(self, choose: Callable[[Sequence[Asked]], _Best]) -> _Best:
        """Return what is best asked of all that is left, before it is leased."""
        return choose([(stream.work, stream.demand) for stream in self.left])

    async def leased_of(self, best: _Best, choose: Callable[[Sequence[Asked]], _Best]) -> _Best:
        """Lease what is best asked, and return what still is.

        What others have done since the plan may have left less than it is worth.
        """
        planned = {stream.work: stream for stream in self.left}
        await self._lease([planned[work] for work in best.work])
        return choose([(work, stream.demand) for work, stream in self.streams.items()])

    def plan_no_calls(self, best: _Best) -> None:
        """Tell the gauge that the streams of some work have no calls of their own."""
        planned = {stream.work: stream for stream in self.left}
        for work in best.work:
            self._context.gauge.plan(planned[work], planned[work].name, 0, 0)

    async def _lease(self, streams: list[Stream]) -> None:
        """Lease the series of streams, but for those that another run holds, and plan them anew.

        A reload takes its range out of the coverage with it; the streams go on from there.
        """
        context = self._context

        async def claim(connection: Connection) -> list[tuple[Work, Stream]]:
            wanted = [series for stream in streams for series in stream.series]
            self.leased = await progress.claim_free(connection, wanted, context.run_id)
            mine = set(self.leased)
            free = [stream for stream in streams if mine.issuperset(stream.series)]
            wants: dict[Series, int] = {}
            for stream in free:
                wants |= stream.work.wants
            await progress.want_from(connection, wants)
            for stream in free:
                if stream.demand.mode is Mode.reload:
                    for target in stream.work.fed:
                        if target.wanted is not None:
                            span = Spans.of(target.wanted)
                            await progress.invalidate(connection, target.series, span)
            known, symbols = await progress.load_with_symbols(
                connection, self.leased, streams[0].reopen_at
            )
            return [
                (stream.planned(symbols[stream.work.symbol.id], known), stream) for stream in free
            ]

        self.streams = dict(await context.database.run(claim))
        for stream in self.streams.values():
            if stream.demand.mode is Mode.reload:
                stream.demand = replace(stream.demand, mode=Mode.default)

    def note(self, chunk: Chunk) -> None:
        """Note that a chunk is stored."""
        before = self._answered.get(chunk.series, Spans())
        self._answered[chunk.series] = before | chunk.claims

    async def close(self, work: Iterable[Work]) -> None:
        """Be done with the streams of some work that have all they missed."""
        closed = {self.streams[one] for one in work if one.is_closed(self._answered)}
        closed &= set(self.left)
        for stream in closed:
            self._context.outcomes.complete.update(stream.series)
        await self._leave(closed)

    async def fail(self, work: Iterable[Work], error: SeriesError) -> None:
        """Be done with the streams of some work, which ends in an error."""
        failed = {self.streams[one] for one in work} & set(self.left)
        for stream in failed:
            for series in stream.series:
                self._context.outcomes.fail(series, error)
        await self._leave(failed)

    async def _leave(self, streams: set[Stream]) -> None:
        """Give up the leases of streams that have nothing left to do."""
        if not streams:
            return
        self.left = [stream for stream in self.left if stream not in streams]
        series = [series for stream in streams for series in stream.series]
        gone = set(series)
        self.leased = [one for one in self.leased if one not in gone]
        release = partial(progress.release, run_id=self._context.run_id, series=series)
        await self._context.database.run(release)
