"""The grouped part of a run: a session that many series miss is asked for once for all of them."""

from functools import partial
from itertools import product

import structlog

from backfill.core.coverage import Span, Spans
from backfill.core.grouped import group, is_closed
from backfill.core.grouped_day import read_day
from backfill.core.paging import Chunk
from backfill.core.plan import frontier_ms
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.core.wire import GroupedDay
from backfill.core.work import Work
from backfill.errors import LeaseLost, SeriesError
from backfill.providers.base import GroupedDays
from backfill.run.context import Context
from backfill.run.prepare import grouping
from backfill.run.stream import Stream
from backfill.run.writing import write
from backfill.store import progress
from backfill.store.counts import Counts
from backfill.store.pool import Connection

log = structlog.stdlib.get_logger()


class GroupedPart:
    """Asks for the grouped sessions of a run, newest first, before its streams begin.

    Each answer is one transaction. What it leaves open of a series (its ticker isn't in it, the
    plan refuses it, another run holds the series) goes the usual way: by its own stream, which
    plans anew. ``left`` are the streams that still have something to do; ``leased`` the series of
    theirs that are leased by now.
    """

    def __init__(self, context: Context, streams: list[Stream]) -> None:
        self.left = list(streams)
        self.leased = list[Series]()
        self._context = context
        self._answered: dict[Work, Spans] = {}
        self._stream_of: dict[Work, Stream] = {}

    async def run(self) -> None:
        """Fetch what is worth a grouped call.

        Raises
        ------
        SharedFault
            What ends the whole run.
        Stopped
            If the run is to end.
        """
        context, provider = self._context, self._context.provider
        if not isinstance(provider, GroupedDays):
            return
        planned = {stream.work: stream for stream in self.left}
        worth = grouping(
            provider,
            ((work, stream.demand) for work, stream in planned.items()),
        )
        if not worth.sessions:
            return
        context.gauge.days = worth.calls
        for work in worth.work:
            context.gauge.plan(planned[work], planned[work].name, 0, 0)
        await self._lease([planned[work] for work in worth.work])
        # What others have done since the plan may have left less than a grouped call is worth.
        worth = group(self._stream_of, provider.most_grouped)
        gauge = context.gauge
        calls = list(product(worth.sessions, worth.batches))
        try:
            for number, (session, batch) in enumerate(calls):
                gauge.days = len(calls) - number
                with gauge.turn():
                    await self._fetch(provider, session, batch)
        except LeaseLost as error:
            log.warning("grouped.lease_lost", message=str(error))
        except SeriesError as error:
            log.warning("grouped.refused", outcome=error.outcome, message=str(error))
        finally:
            gauge.days = 0

    async def _lease(self, streams: list[Stream]) -> None:
        """Lease the series of streams, but for those that another run holds, and plan them anew."""
        context = self._context

        async def claim(connection: Connection) -> list[tuple[Work, Stream]]:
            wanted = [series for stream in streams for series in stream.series]
            self.leased = await progress.claim_free(connection, wanted, context.run_id)
            mine = set(self.leased)
            wants: dict[Series, int] = {}
            for stream in streams:
                if mine.issuperset(stream.series):
                    wants |= stream.work.wants
            await progress.want_from(connection, wants)
            known, symbols = await progress.load_with_symbols(
                connection, self.leased, streams[0].reopen_at
            )
            return [
                (stream.planned(symbols[stream.work.symbol.id], known), stream)
                for stream in streams
                if mine.issuperset(stream.series)
            ]

        self._stream_of = dict(await context.database.run(claim))
        self._answered = dict.fromkeys(self._stream_of, Spans())

    async def _fetch(self, provider: GroupedDays, session: Span, work: tuple[Work, ...]) -> None:
        context, rules = self._context, self._context.rules
        calendar = work[0].calendar
        date = calendar.day_of(session.start_ms)
        adjustment = rules.adjustment_of(Timeframe.d1)
        day = await context.client.fetch(
            provider.grouped(date, adjustment, [one.symbol.listed_as for one in work]),
            partial(provider.read_grouped, adjustment=adjustment),
            asker=f"grouped {Timeframe.d1}",
        )
        log.info("fetch.page", session=str(date), bars=len(day.bars), last=True)
        chunks = await context.reader.apart(
            partial(read_day, work, session, day, rules.now_ms, self._final_ms(work[0], day))
        )
        if chunks:
            await self._write(chunks, work)
        await self._close(work)

    def _final_ms(self, work: Work, day: GroupedDay) -> int:
        rules = self._context.rules
        now_ms = rules.now_ms - day.delayed_ms
        settling = rules.terms.of(work.symbol.asset_type).settling
        return frontier_ms(work.calendar, Timeframe.d1, settling, now_ms)

    async def _write(self, chunks: list[Chunk], work: tuple[Work, ...]) -> None:
        by_series = {one.targets[0].series: one for one in work}
        series = [chunk.series for chunk in chunks]
        written = await write(
            self._context.writer, [by_series[one] for one in series], series, chunks
        )
        total = Counts()
        for chunk, counts in written.stored:
            if (piece := by_series.get(chunk.series)) is not None:
                self._answered[piece] |= chunk.claims
            total.add(counts)
        log.info(
            "chunk.stored",
            timeframe=str(Timeframe.d1),
            series=len(chunks),
            inserted=total.inserted,
            updated=total.updated,
            unchanged=total.unchanged,
            seconds=written.seconds,
        )

    async def _close(self, work: tuple[Work, ...]) -> None:
        """Be done with the streams that have all they missed, and give their leases up."""
        closed = {
            self._stream_of[one] for one in work if is_closed(one, self._answered[one])
        } & set(self.left)
        if not closed:
            return
        self.left = [stream for stream in self.left if stream not in closed]
        series = [series for stream in closed for series in stream.series]
        self._context.outcomes.complete.update(series)
        self.leased = [one for one in self.leased if one not in self._context.outcomes.complete]
        release = partial(progress.release, run_id=self._context.run_id, series=series)
        await self._context.database.run(release)
