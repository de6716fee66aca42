"""The grouped part of a run: a session that many series miss is asked for once for all of them."""

from functools import partial
from itertools import product

import structlog

from backfill.core.coverage import Span
from backfill.core.grouped_day import read_day
from backfill.core.paging import Chunk
from backfill.core.timeframe import Timeframe
from backfill.core.work import Work
from backfill.errors import LeaseLost, SeriesError
from backfill.providers.base import GroupedDays
from backfill.run.context import Context
from backfill.run.parted import grouping
from backfill.run.together import Together
from backfill.run.writing import write

log = structlog.stdlib.get_logger()


class GroupedPart:
    """Asks for the grouped sessions of a run, newest first, before its streams begin.

    Each answer is one transaction. What it leaves open of a series (its ticker isn't in it, the
    plan refuses it, another run holds the series) goes the usual way: by its own stream, which
    plans anew.
    """

    def __init__(self, context: Context, together: Together) -> None:
        self._context = context
        self._together = together

    async def run(self) -> None:
        """Fetch what is worth a grouped call.

        Raises
        ------
        SharedFault
            What ends the whole run.
        Stopped
            If the run is to end.
        """
        context, provider, together = self._context, self._context.provider, self._together
        if not isinstance(provider, GroupedDays):
            return
        choose = partial(grouping, provider)
        worth = together.best(choose)
        if not worth.sessions:
            return
        context.gauge.days = worth.calls
        together.plan_no_calls(worth)
        worth = await together.leased_of(worth, choose)
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
        final_ms = rules.final_ms(work[0].symbol, calendar, Timeframe.d1, day.delayed_ms)
        chunks = await context.reader.apart(
            partial(read_day, work, session, day, rules.now_ms, final_ms),
            last=True,
        )
        if chunks:
            await self._write(chunks, work)
        await self._together.close(work)

    async def _write(self, chunks: list[Chunk], work: tuple[Work, ...]) -> None:
        by_series = {one.targets[0].series: one for one in work}
        series = [chunk.series for chunk in chunks]
        written = await write(
            self._context.writer, [by_series[one] for one in series], series, chunks
        )
        for chunk, _ in written.stored:
            if chunk.series in by_series:
                self._together.note(chunk)
        written.log_together(len(chunks), timeframe=str(Timeframe.d1))
