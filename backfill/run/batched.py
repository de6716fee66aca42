"""The part of a run that asks for the newest bars of many symbols in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from backfill.core.batched import Batch, range_of
from backfill.core.paging import Chunk, Paging
from backfill.core.wire import Page
from backfill.core.work import Work
from backfill.errors import BadAnswer, LeaseLost, SeriesError
from backfill.providers.base import ManySymbols
from backfill.run.context import Context
from backfill.run.parted import batching
from backfill.run.together import Together
from backfill.run.writing import write
from backfill.store.gaps import stored_ms

log = structlog.stdlib.get_logger()


class BatchedPart:
    """Asks for the batches of a run before its streams begin.

    Each answer is one transaction. A series leaves the part, and goes on by a call of its own,
    where the answer proves nothing of it, is wrong about it, or leaves a question that the
    reference or the splits have to answer; so do all where the provider refuses a batch.
    """

    def __init__(self, context: Context, together: Together) -> None:
        self._context = context
        self._together = together

    async def run(self) -> None:
        """Fetch what is worth it.

        Raises
        ------
        SharedFault
            What ends the whole run.
        Stopped
            If the run is to end.
        """
        context, provider, together = self._context, self._context.provider, self._together
        if not isinstance(provider, ManySymbols):
            return
        choose = partial(batching, provider, context.rules)
        worth = together.best(choose)
        if not worth.batches:
            return
        together.plan_no_calls(worth)
        worth = await together.leased_of(worth, choose)
        gauge = context.gauge
        try:
            for number, batch in enumerate(worth.batches):
                gauge.days = worth.calls - number
                with gauge.turn():
                    await self._fetch(provider, batch)
        except LeaseLost as error:
            log.warning("batch.lease_lost", message=str(error))
        finally:
            gauge.days = 0

    async def _fetch(self, provider: ManySymbols, batch: Batch) -> None:
        """Ask for a batch, and write what its answer proves."""
        context = self._context
        adjustment = context.rules.adjustment_of(batch.work[0].base)
        asked = [one.asked(range_of(one), adjustment) for one in batch.work]
        try:
            pages = await context.client.fetch(
                provider.many(asked),
                partial(provider.read_many, asked=asked),
                asker=f"{len(asked)} symbols {batch.work[0].base}",
            )
        except SeriesError as error:
            log.warning("batch.refused", outcome=error.outcome, message=str(error))
            return
        brought = {
            work: page for work, page in zip(batch.work, pages, strict=True) if page is not None
        }
        bars = sum(len(page.bars) for page in brought.values())
        log.info("fetch.page", symbols=len(asked), bars=bars, last=len(brought) == len(asked))
        served = await self._with_cut_sessions(list(brought))
        chunks = await context.reader.apart(
            partial(self._chunks, [(served[work], page) for work, page in brought.items()]),
            last=True,
        )
        if chunks:
            await self._write(chunks)
        own = {served[work]: work for work in brought}
        await self._together.close([own[work] for work in chunks])

    async def _with_cut_sessions(self, works: Sequence[Work]) -> Mapping[Work, Work]:
        """Tell each target what is stored of the sessions that it asks for only a part of."""
        cuts = {
            target.series: target.cut_sessions(one.calendar)
            for one in works
            for target in one.targets
        }
        stored = await self._context.database.run(partial(stored_ms, wanted=cuts))
        return {
            one: replace(
                one,
                targets=tuple(
                    replace(target, stored_ms=stored[target.series]) for target in one.targets
                ),
            )
            for one in works
        }

    def _chunks(self, brought: Sequence[tuple[Work, Page]]) -> dict[Work, list[Chunk]]:
        """Return what an answer brings to each piece of work that it leaves no question of."""
        rules = self._context.rules
        taken: dict[Work, list[Chunk]] = {}
        for work, page in brought:
            paging = Paging(work, range_of(work), rules.now_ms)
            if paging.leaves_a_question(page) or paging.jumps(page, page.bars.oldest(0)):
                continue
            final_ms = rules.final_ms(work.symbol, work.calendar, work.base, page.delayed_ms)
            try:
                taken[work] = paging.read(page, None, final_ms)
            except BadAnswer as error:
                log.warning("batch.wrong", symbol=work.symbol.ticker, message=str(error))
        return taken

    async def _write(self, brought: Mapping[Work, list[Chunk]]) -> None:
        """Write the chunks of some work in one transaction."""
        chunks = [chunk for some in brought.values() for chunk in some]
        series = [chunk.series for chunk in chunks]
        written = await write(self._context.writer, list(brought), series, chunks)
        for chunk, _ in written.stored:
            self._together.note(chunk)
        written.log_together(len(chunks), timeframe=str(next(iter(brought)).base))
