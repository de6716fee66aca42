"""One piece of work under way: leased, fetched page by page, each page written behind the fetch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from backfill.core.bars import Bars
from backfill.core.coverage import Span, Spans
from backfill.core.local import roll_up_stored
from backfill.core.pages import BaseAggregates
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import PlannedRange, frontier_ms, one_page_spans
from backfill.core.planning import plan_piece, requests, to_fetch
from backfill.core.series import ListingVerdict, Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request
from backfill.core.work import Demand, Mode, Rules, Target, Work
from backfill.errors import BadAnswer, UnknownSymbol
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.providers.base import Provider
from backfill.run.allowance import Allowance
from backfill.run.listing import jumps_unexplained, settle
from backfill.run.outcomes import Outcomes
from backfill.run.room import Room, Share, size_of
from backfill.store import progress, universe
from backfill.store.bars import Counts, write_chunks
from backfill.store.derived import stored_bases
from backfill.store.gaps import stored_ms
from backfill.store.pool import Connection, Database
from backfill.store.progress import Lease
from backfill.store.times import to_time

if TYPE_CHECKING:
    from backfill.fetch.client import Client

_ROLLED_UP: Final = BaseAggregates(50_000)
"""How much of a stored base is rolled up in one transaction."""
_DENIED_FOR: Final = timedelta(days=1)

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Context:
    """What all streams of a lane share.

    ``look_up`` asks the provider's reference about a symbol, at most once a run, and returns the
    symbol as it is known then; it is told since when the ticker is known to trade. ``stop`` ends
    the lane. The lanes of a run share the ``reader``, which does what takes long with an answer,
    ``room``, which bounds the pages that are asked for and not written yet, and the ``writers``,
    who bound how many are written at once. ``lists`` are the pages that everybody's lists may
    still cost; ``listing`` is held while splits are listed before their turn.
    """

    run_id: UUID
    database: Database
    client: "Client"
    provider: Provider
    rules: Rules
    outcomes: Outcomes
    look_up: Callable[[Symbol, date | None], Awaitable[Symbol]]
    stop: StopSignal
    reader: Reader
    room: Room
    writers: asyncio.Semaphore
    lists: Allowance
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Stream:
    """The requests for one symbol in one fetched timeframe, and the series that they feed."""

    def __init__(self, context: Context, work: Work, demand: Demand) -> None:
        self.work = work
        self.demand = demand
        self.leased = False
        self._context = context
        self._ranges = list(work.ranges)
        self._paging: Paging | None = None
        self._newer: Paging | None = None
        self._request: Request | None = None
        self._seen: set[object] = set()
        self._any_bars = False
        self._outdated = False
        self._symbol = work.symbol
        self._writing: asyncio.Task[None] | None = None

    @property
    def series(self) -> list[Series]:
        """The series that it feeds."""
        return self.work.series

    @property
    def upto_ms(self) -> int:
        """Where the newest range that it still has to fetch ends, in epoch ms."""
        return max((planned.span.end_ms for planned in self._ranges), default=0)

    @property
    def misses_newest(self) -> bool:
        """Whether a series misses the newest of the bars that it should hold."""
        return any(
            hull.end_ms == target.wanted.end_ms
            for target in self.work.targets
            if target.wanted is not None and (hull := target.missing.hull) is not None
        )

    @property
    def fetched(self) -> bool:
        """Whether no request is left to send."""
        return not self._ranges and not self._outdated

    @property
    def reopen_at(self) -> datetime | None:
        """Until when slots must have been known to be empty to be asked for again, if at all."""
        if self.demand.mode not in {Mode.default, Mode.incremental}:
            return None
        return to_time(self._context.rules.now_ms)

    async def lease(self) -> Lease | None:
        """Lease the series and plan them anew from what is known now.

        Returns the lease of another run if that stands in the way; then nothing has changed.
        """
        work = self.work

        async def claim(connection: Connection) -> Lease | Work:
            lease = await progress.claim(connection, self.series, self._context.run_id)
            if lease is not None:
                return lease
            await progress.want_from(connection, work.wants)
            for target in work.fed:
                if target.wanted is not None and self.demand.mode is Mode.reload:
                    wanted = Spans.of(target.wanted)
                    await progress.invalidate(connection, target.series, wanted)
            return await self._plan(connection)

        found = await self._context.database.run(claim)
        if isinstance(found, Lease):
            return found
        self.leased = True
        self._take(found)
        await self._derive_stored()
        return None

    async def _derive_stored(self) -> None:
        """Take from stored bars of the base what they answer for; fetch what they leave open."""
        work, rules = self.work, self._context.rules
        left: dict[tuple[Series, Span], Spans] = {}

        async def roll_up(connection: Connection, target: Target, span: Span) -> list[Chunk]:
            chunk, left[target.series, span] = await self._rolled_up(connection, target, span)
            return [chunk]

        for target in work.fed:
            for span in one_page_spans(
                work.calendar, target.series.timeframe, target.local, _ROLLED_UP
            ):
                await self._write(partial(roll_up, target=target, span=span))
        if any(left.values()):
            still = Spans.union(span for spans in left.values() for span in spans)
            missing = to_fetch(work.targets) | still
            self._ranges = list(
                requests(work.symbol, work.calendar, work.base, missing, rules.can.pages)
            )

    async def _rolled_up(
        self, connection: Connection, target: Target, span: Span
    ) -> tuple[Chunk, Spans]:
        """Roll up a span in the transaction that writes it, from what its base holds then."""
        work, base = self.work, Series(self.work.symbol, self.work.base)
        known = await progress.load_progress(connection, [base])
        if base.key not in known:
            return Chunk(target.series, target.source, Bars.empty(), Spans()), Spans.of(span)
        slots, wanted = Spans.of(span), {target.series: (base, Spans.of(span))}
        now = to_time(self._context.rules.now_ms)
        [stored] = (await stored_bases(connection, work.calendar, wanted, known, now)).values()
        chunk, left = roll_up_stored(
            work.calendar,
            target.series,
            target.source,
            slots,
            stored,
            work.day_final_ms,
            target.stored_ms,
            every_hour=self.demand.mode is Mode.repair,
        )
        return replace(chunk, replaces=target.replaces), left

    async def _plan(self, connection: Connection) -> Work:
        """Plan the series by what is known now of them, and of their symbol."""
        known = await progress.load_progress(connection, self.series, self.reopen_at)
        symbol = await universe.by_id(connection, self.work.symbol.id)
        return await self._with_cut_sessions(connection, self.planned(symbol, known))

    def planned(self, symbol: Symbol, known: progress.Known) -> Work:
        """Return the work as it is by what is known now of the symbol and of the series."""
        return plan_piece(
            symbol,
            [series.timeframe for series in self.series],
            self.work.base,
            calendar=self.work.calendar,
            rules=self._context.rules,
            demand=replace(self.demand, mode=_resumed(self.demand.mode)),
            known=known,
        )

    def _take(self, work: Work) -> None:
        """Begin with a plan; whatever was under way of the one before is dropped."""
        self.work, self._ranges = work, list(work.ranges)
        self._symbol = work.symbol
        self._paging = self._newer = self._request = None
        self._seen.clear()
        self._outdated = False
        for target in work.targets:
            if target.refusal is not None:
                self._context.outcomes.fail(target.series, target.refusal)

    async def _with_cut_sessions(self, connection: Connection, work: Work) -> Work:
        """Tell each target what is stored of the sessions that it asks for only a part of."""
        cuts = {target.series: target.cut_sessions(work.calendar) for target in work.targets}
        if not any(cuts.values()):
            return work
        stored = await stored_ms(connection, cuts)
        targets = [replace(target, stored_ms=stored[target.series]) for target in work.targets]
        return replace(work, targets=tuple(targets))

    async def advance(self, queued: Callable[[], None]) -> None:
        """Fetch the next page once there is room for it, and have it written behind the one before.

        ``queued`` is called when the request queues for a slot. Room is held until the page is
        written; nothing else is waited for before that but the provider and the database.

        Raises
        ------
        BackfillError
            What became of the request, or of the write of the page before.
        """
        context = self._context
        if self._outdated:
            self._take(await context.database.run(self._plan))
            await self._derive_stored()
            if not self._ranges:
                return
        most, slots = context.rules.can.pages.most_bars, self._ranges[0].slots
        share = await context.room.take(slots if most is None else min(slots, most))
        try:
            await self._fetch(queued, share)
        except BaseException:
            share.release()
            raise
        if not self._ranges:
            await self.written()

    async def _fetch(self, queued: Callable[[], None], share: Share) -> None:
        """Fetch the next page into the share of room that it has, and begin to write it."""
        context = self._context
        work, planned = self.work, self._ranges[0]
        asked = work.asked(planned, context.rules.adjustment)
        if self._paging is None or self._request is None:
            self._paging = Paging(work, planned, context.rules.now_ms, self._newer)
            self._request = context.provider.bars(asked)
        page = await context.client.fetch(
            self._request,
            partial(context.provider.read_bars, asked=asked),
            asker=f"{work.symbol.ticker} {work.base}",
            queued=queued,
        )
        log.info("fetch.page", bars=len(page.bars), last=page.next is None)
        self._any_bars |= len(page.bars) > 0
        await self._look_up(self._paging, page)
        await self.written()
        if not self._outdated:
            await self._settle(self._paging, page)
        if self._outdated:
            log.info("page.asked_again", bars=len(page.bars))
            share.release()
            return
        listed_ms = self._listed_ms(page)
        chunks = await context.reader.apart(
            partial(self._paging.read, page, listed_ms, self._final_ms(page))
        )
        share.shrink(size_of(chunks))

        async def given(_connection: Connection) -> list[Chunk]:
            return chunks

        self._writing = asyncio.create_task(self._write(given))
        share.until_done(self._writing)
        self._follow(page, listed_ms)

    async def written(self) -> None:
        """Wait until the last page is written; raises what went wrong with it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def deny(self) -> None:
        """Note that the plan refuses what is left of the range in hand."""
        span = self._ranges[0].span
        if self._paging is not None:
            span = Span(span.start_ms, self._paging.upto_ms)
        until = to_time(self._context.rules.now_ms) + _DENIED_FOR

        async def note(connection: Connection) -> None:
            for series in self.series:
                await progress.deny(connection, series, span, until)

        await self._context.database.run(note)

    async def release(self) -> None:
        """Give the leases up."""
        if self.leased:
            await self._context.database.run(
                partial(progress.release, run_id=self._context.run_id, series=self.series)
            )

    def _follow(self, page: Page, listed_ms: int | None) -> None:
        """Go on with the next page, unless that could hold nothing but another company's bars."""
        self._request = page.next
        reaches = self._paging is not None and self._paging.reaches(listed_ms)
        if page.next is None or reaches:
            self._ranges = self._ranges[1:] if not reaches else self._after(listed_ms)
            self._paging, self._newer = None, self._paging
        elif page.next.address in self._seen:
            raise BadAnswer("the provider names the same next page twice")
        else:
            self._seen.add(page.next.address)

    def _after(self, listed_ms: int | None) -> list[PlannedRange]:
        """Return the ranges that follow, but for those before the symbol's listing."""
        return [one for one in self._ranges[1:] if listed_ms is None or one.span.end_ms > listed_ms]

    async def _look_up(self, paging: Paging, page: Page) -> None:
        """Ask the reference about the symbol if a page leaves it open whose its bars are.

        The plan is outdated if that tells of other names, or of another owner of the ticker.

        Raises
        ------
        UnknownSymbol
            If the provider has no bars of the symbol and doesn't know it.
        """
        if not paging.leaves_a_question(page) and not await jumps_unexplained(
            self._context, self.work, paging, page
        ):
            return
        try:
            self._symbol = await self._context.look_up(self._symbol, paging.trades_since(page))
        except UnknownSymbol:
            if not self._any_bars:
                raise
        self._outdated |= self._symbol.identity != self.work.symbol.identity

    async def _settle(self, paging: Paging, page: Page) -> None:
        """See what a page says of the symbol's listing.

        The plan of weeks or months is outdated if the bars break there: days are asked instead.
        """
        found = await settle(self._context, self.work, paging, page, self._symbol)
        if found.named_as != self.work.symbol.named_as:
            self._outdated = True
            return
        if found.cut_on != self.work.symbol.cut_on:
            self._outdated |= self.work.base in {Timeframe.w1, Timeframe.mn1}
            at_ms = self.work.calendar.begins(found.listed_on or date.min, self.work.base)
            self._ranges[1:] = [one for one in self._ranges[1:] if one.span.end_ms > at_ms]
        self._symbol = found
        self.work = replace(self.work, symbol=found)

    def _listed_ms(self, page: Page) -> int | None:
        """Where the life of the symbol begins, if no page to come may reach beyond it."""
        symbol, calendar = self._symbol, self.work.calendar
        if symbol.listed_on is None:
            return None
        if symbol.listing is ListingVerdict.doubted and page.next is not None:
            return None
        if symbol.listing is None and symbol.reference_listed_on is not None:
            return None
        return calendar.begins(symbol.listed_on, self.work.base)

    def _final_ms(self, page: Page) -> int:
        """Up to where an answer is final: earlier if the provider holds back its newest bars."""
        rules = self._context.rules
        now_ms = rules.now_ms - page.delayed_ms
        settling = rules.terms.of(self.work.symbol.asset_type).settling
        return frontier_ms(self.work.calendar, self.work.base, settling, now_ms)

    async def _write(self, chunks_of: Callable[[Connection], Awaitable[list[Chunk]]]) -> None:
        context, symbol = self._context, self.work.symbol
        began = asyncio.get_running_loop().time()

        async def write(connection: Connection) -> list[tuple[Chunk, Counts]] | None:
            # What is known of the symbol changes under these locks; a page of an outdated plan
            # may hold another company's bars.
            await progress.lock_progress(connection, self.series, context.run_id)
            known = await universe.by_id(connection, symbol.id)
            if known.identity != symbol.identity:
                return None
            if self._any_bars and not symbol.confirmed:
                await universe.confirm(connection, symbol.id)
            now = to_time(context.rules.now_ms)
            chunks = await chunks_of(connection)
            return await write_chunks(
                connection,
                context.run_id,
                chunks,
                self.work.calendar,
                now,
                self.work.day_final_ms,
            )

        async with context.writers:
            written = await context.database.run(write)
        if written is None:
            self._outdated = True
            return
        for chunk, counts in written:
            context.outcomes.count(chunk.series, counts)
            log.info(
                "chunk.stored",
                timeframe=str(chunk.series.timeframe),
                inserted=counts.inserted,
                updated=counts.updated,
                unchanged=counts.unchanged,
                seconds=round(asyncio.get_running_loop().time() - began, 4),
            )
            if counts.rejected:
                log.warning(
                    "bars.quarantined",
                    timeframe=str(chunk.series.timeframe),
                    bars=counts.rejected,
                    reasons=sorted({str(reason) for reason in chunk.reasons}),
                )


def _resumed(mode: Mode) -> Mode:
    """Once a reload has taken its range out of coverage, what is missing says the rest."""
    return Mode.default if mode is Mode.reload else mode
