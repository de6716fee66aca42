"""One piece of work under way: leased, then asked for page by page, turn by turn."""

# Over 300 lines: one state machine; its table and its transitions are read together.

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

import structlog

from backfill.core.archive import FileRead
from backfill.core.asked import Asked
from backfill.core.capabilities import Capabilities
from backfill.core.coverage import Span, Spans
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import PlannedRange, newest_first
from backfill.core.planning import plan_piece, requests, to_fetch
from backfill.core.series import ListingVerdict, Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request
from backfill.core.work import Demand, Mode, Work
from backfill.errors import (
    BadAnswer,
    FileMissing,
    GeoBlocked,
    NotEntitled,
    ProviderError,
    RateLimited,
    UnknownSymbol,
)
from backfill.run.behind import Behind, Place, is_large
from backfill.run.context import Context
from backfill.run.listing import bears_on_listing, jumps_unexplained, settle
from backfill.run.rolling import roll_up_local
from backfill.run.room import Share, size_of
from backfill.run.writing import ChunksOf, Written, write
from backfill.store import progress
from backfill.store.gaps import stored_ms
from backfill.store.pool import Connection
from backfill.store.progress import Lease
from backfill.store.times import to_time

_DENIED_FOR: Final = timedelta(days=1)
_REFUSALS: Final = (
    BadAnswer, GeoBlocked, NotEntitled, ProviderError, RateLimited, UnknownSymbol,
)  # fmt: skip
"""What becomes of a request, and of no write."""

log = structlog.stdlib.get_logger()


class State(StrEnum):
    """Where a stream stands, and what its next turn does.

    ============ =================================================== ==========================
    state        a turn                                              leads to
    ============ =================================================== ==========================
    ``waiting``  leases the series, plans them anew, and rolls up    due, done; or stays waiting
                 what stored bars answer for                         behind another run's lease
    ``due``      asks for the first page of the next range           paging, due, outdated, done
    ``paging``   asks for the next page of that range                paging, due, outdated, done
    ``outdated`` plans anew, by what is known of the symbol now,     due, done; asks at once if
                 and does what ``due`` does                          something is due
    ``done``     nothing is left to ask for                          –
    ============ =================================================== ==========================

    A page is written behind the turn that fetched it (`backfill.run.behind`). A turn is outdated
    once a write has found the symbol to be known otherwise by now.
    """

    waiting = "waiting"
    due = "due"
    paging = "paging"
    outdated = "outdated"
    done = "done"


class Stream:
    """The requests for one symbol in one fetched timeframe, and the series that they feed."""

    def __init__(self, context: Context, work: Work, demand: Demand) -> None:
        self.work = work
        self.demand = demand
        self._context = context
        self._state = State.waiting
        self._ranges = list(work.ranges)
        self._paging: Paging | None = None
        self._newer: Paging | None = None
        self._request: Request | None = None
        self._seen: set[object] = set()
        self._any_bars = False
        self._symbol = work.symbol
        self._behind = Behind(self._write)
        self._written_outdated = False
        self._again: PlannedRange | None = None

    @property
    def leased(self) -> bool:
        """Whether its series are leased."""
        return self._state is not State.waiting

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
        return self._state is State.done

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.work.symbol.ticker} {self.work.base}"

    @property
    def left(self) -> tuple[int, int]:
        """How many calls it probably takes still, and how many slots those ask for."""
        if self.fetched or not self._ranges:
            return 0, 0
        first, *others = self._ranges
        calls, slots = first.calls, first.slots
        if self._paging is not None:
            pages = self._context.rules.can.pages.pages(self.work.calendar, self.work.base)
            rest = Span(first.span.start_ms, max(self._paging.upto_ms, first.span.start_ms))
            calls, slots = max(pages.expected(rest), 1), pages.grid.count(rest)
        return calls + sum(one.calls for one in others), slots + sum(one.slots for one in others)

    @property
    def reopen_at(self) -> datetime | None:
        """Until when slots must have been known to be empty to be asked for again, if at all."""
        if not self.demand.mode.reopens:
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
        await self._begin(found)
        return None

    async def _begin(self, work: Work) -> None:
        """Begin with a plan, and with what stored bars answer for; drop what was under way."""
        self.work = work
        ranges = work.oldest_first if self._context.oldest_first else work.ranges
        self._ranges = list(ranges)
        self._symbol = work.symbol
        self._paging = self._newer = self._request = self._again = None
        self._seen.clear()
        for target in work.targets:
            if target.refusal is not None:
                self._context.outcomes.fail(target.series, target.refusal)
        self._state = State.due
        left = await roll_up_local(self._context, work, self.demand.mode, self._write)
        if left:
            missing = to_fetch(work.targets) | left
            rules = self._context.rules
            law, files = rules.can.pages, rules.files(self.demand.mode)
            self._ranges = list(
                requests(work.symbol, work.calendar, work.base, missing, law, files=files)
            )
        self._stand()

    def _stand(self) -> None:
        """Note where the stream stands now, by what is left and what the last write found."""
        if self._written_outdated:
            self._state, self._written_outdated = State.outdated, False
        elif self._state is not State.outdated:
            under_way = State.due if self._paging is None else State.paging
            self._state = under_way if self._ranges else State.done

    async def _plan(self, connection: Connection) -> Work:
        """Plan the series by what is known now of them, and of their symbol."""
        symbol_id = self.work.symbol.id
        known, symbols = await progress.load_with_symbols(connection, self.series, self.reopen_at)
        return await self._with_cut_sessions(connection, self.planned(symbols[symbol_id], known))

    def planned(self, symbol: Symbol, known: progress.Known) -> Work:
        """Return the work as it is by what is known now of the symbol and of the series."""
        if self.work.stands(symbol, known):
            return self.work
        return plan_piece(
            symbol,
            [series.timeframe for series in self.series],
            self.work.base,
            calendar=self.work.calendar,
            rules=self._context.rules,
            demand=replace(self.demand, mode=_resumed(self.demand.mode)),
            known=known,
        )

    async def _with_cut_sessions(self, connection: Connection, work: Work) -> Work:
        """Tell each target what is stored of the sessions that it asks for only a part of."""
        cuts = {target.series: target.cut_sessions(work.calendar) for target in work.targets}
        if not any(cuts.values()):
            return work
        stored = await stored_ms(connection, cuts)
        targets = [replace(target, stored_ms=stored[target.series]) for target in work.targets]
        return replace(work, targets=tuple(targets))

    async def advance(self, queued: Callable[[], None]) -> None:
        """Fetch the next page once there is room for it, and have it written behind those before.

        ``queued`` is called when the request queues for a slot. Room is held until the page is
        written; nothing else is waited for before that but the provider and the database.

        Raises
        ------
        BackfillError
            What became of the request, or of the write of a page before.
        """
        context = self._context
        await self._caught_up()
        if self._state is State.outdated:
            await self.written()
            await self._begin(await context.database.run(self._plan))
            if self.fetched:
                return
        most, slots = context.rules.can.pages.most_bars, self._ranges[0].slots
        if self._ranges[0].file is not None:
            most = None
        with context.gauge.idle():
            share = await context.room.take(slots if most is None else min(slots, most))
        try:
            await self._fetch(queued, share)
        except _REFUSALS as error:
            share.release()
            if not self._is_newer_left:
                raise
            # It must not keep what is newer from its place, today and in every run to come.
            log.warning("range.put_off", outcome=error.outcome, message=str(error))
            self._put_off()
        except BaseException:
            share.release()
            raise
        if self.fetched:
            await self.written()

    async def _fetch(self, queued: Callable[[], None], share: Share) -> None:
        """Fetch the next page into the share of room that it has, and begin to write it."""
        context = self._context
        work, planned = self.work, self._ranges[0]
        asked = work.asked(planned, context.rules.adjustment_of(work.base))
        if self._paging is None or self._request is None:
            self._paging = Paging(work, planned, context.rules.now_ms, self._newer)
            self._request = context.provider.bars(asked)
        if planned is self._again:
            context.tally.retries += planned.calls
            self._again = None
        try:
            page, file = await self._read(asked, self._request, queued)
        except FileMissing as error:
            if context.archive is None:
                raise
            log.info("archive.missing", message=str(error))
            instead = context.archive.instead(work, planned)
            self._go_on_newest_first([*instead, *self._ranges[1:]])
            share.release()
            return
        log.info("fetch.page", bars=len(page.bars), last=page.next is None)
        if self._is_newer_left and (
            self._paging.leaves_a_question(page)
            or bears_on_listing(self.work, self._paging, page, self._symbol)
        ):
            # Whose bars these are is told by how they go on.
            self._put_off()
            share.release()
            return
        self._any_bars |= len(page.bars) > 0
        await self._look_up(self._paging, page)
        if bears_on_listing(self.work, self._paging, page, self._symbol):
            await self.written()
            if self._state is not State.outdated:
                await self._settle(self._paging, page)
        if self._state is State.outdated or not await self._take(self._paging, page, file, share):
            log.info("page.asked_again", bars=len(page.bars))
            share.release()

    @property
    def _is_newer_left(self) -> bool:
        """Whether something newer than the range in hand is left: it comes right after that."""
        first, *following = self._ranges[:2]
        return any(one.span.end_ms > first.span.end_ms for one in following)

    def _put_off(self) -> None:
        """Ask for the range in hand again at its turn, after what is newer."""
        self._again = self._ranges[0]
        self._go_on_newest_first(self._ranges)

    def _go_on_newest_first(self, ranges: Sequence[PlannedRange]) -> None:
        """Go on with ranges, the newest first, whatever came first so far."""
        self._ranges = newest_first(ranges)
        self._paging = self._request = None
        self._stand()

    async def _take(self, paging: Paging, page: Page, file: FileRead | None, share: Share) -> bool:
        """Read what a page proves and have it written; False where a write so far outdates it."""
        context, work, listed_ms = self._context, self.work, self._listed_ms(page)
        final_ms = context.rules.final_ms(work.symbol, work.calendar, work.base, page.delayed_ms)
        read = partial(paging.read, page, listed_ms, final_ms)
        chunks = await context.reader.apart(read, last=True)
        if paging.ends_in_silence and self._is_newer_left:
            # Whether the provider is late or nobody traded is told by what is newer.
            self._put_off()
            return False
        share.shrink(size_of(chunks))
        await self._caught_up()
        await self._behind.room_for(chunks, file)
        self._stand()
        if self._state is State.outdated:
            return False
        bars = sum(len(one.bars) for one in chunks)
        context.gauge.read(bars)
        written = self._behind.put(chunks, file)
        share.until_done(written)
        written.add_done_callback(lambda _: context.gauge.wrote(bars))
        self._follow(page, listed_ms)
        self._stand()
        return True

    async def _read(
        self, asked: Asked, request: Request, queued: Callable[[], None]
    ) -> tuple[Page, FileRead | None]:
        """Return the next page of the newest range: out of a file, or the answer to a call."""
        context, period = self._context, self._ranges[0].file
        if context.archive is not None and period is not None:
            return await context.archive.read(asked, period, queued)
        page = await context.client.fetch(
            request,
            partial(context.provider.read_bars, asked=asked),
            asker=self.name,
            queued=queued,
            once_more=partial(_worth_insisting, context.rules.can),
        )
        return page, None

    async def written(self) -> None:
        """Wait until all pages are written; raises what went wrong with one."""
        await self._behind.done()
        self._stand()

    async def _caught_up(self) -> None:
        """See how the writes ended that have; raises what went wrong with one."""
        await self._behind.caught_up()
        self._stand()

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
            self._ranges = self._after(listed_ms)
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
        if not self._any_bars:
            self._context.gauge.doubt(self)
        try:
            self._symbol = await self._context.look_up(self._symbol, paging.trades_since(page))
        except UnknownSymbol:
            if not self._any_bars:
                raise
        if self._symbol.identity != self.work.symbol.identity:
            self._state = State.outdated

    async def _settle(self, paging: Paging, page: Page) -> None:
        """See what a page says of the symbol's listing.

        The plan of weeks or months is outdated if the bars break there: days are asked instead.
        """
        found = await settle(self._context, self.work, paging, page, self._symbol)
        if found.named_as != self.work.symbol.named_as:
            self._state = State.outdated
            return
        if found.cut_on != self.work.symbol.cut_on:
            if self.work.base in {Timeframe.w1, Timeframe.mn1}:
                self._state = State.outdated
            at_ms = self.work.calendar.begins(found.listed_on or date.min, self.work.base)
            self._ranges[1:] = [one for one in self._ranges[1:] if one.span.end_ms > at_ms]
        self._symbol = found
        self.work = replace(self.work, symbol=found, known=None)

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

    async def _write(
        self,
        given: Sequence[Chunk] | ChunksOf,
        file: FileRead | None = None,
        place: Place | None = None,
    ) -> bool:
        """Write chunks, of a file maybe, and note if the symbol is known otherwise by now.

        Returns whether it isn't: what was asked for by the same plan may be written, too.
        """
        written = await self._stored(given, file, place)
        self._written_outdated |= bool(written.outdated)
        for chunk, counts in written.stored:
            log.info(
                "chunk.stored",
                timeframe=str(chunk.series.timeframe),
                inserted=counts.inserted,
                updated=counts.updated,
                unchanged=counts.unchanged,
                seconds=written.seconds,
            )
        return not written.outdated

    async def _stored(
        self, given: Sequence[Chunk] | ChunksOf, file: FileRead | None, place: Place | None
    ) -> Written:
        """Write chunks as soon as there is a turn; a small page goes along with those of others."""
        context, confirms = self._context, self._any_bars
        if place is None or place.before is not None or callable(given) or is_large(given, file):
            return await write(
                context.writer,
                [self.work],
                self.series,
                given,
                confirms=confirms,
                file=file,
                place=place,
            )
        return await context.gathered.write(
            context.writer, self.work, given, place, confirms=confirms
        )


def _worth_insisting(can: Capabilities, page: Page) -> bool:
    return can.insists and page.unconfirmed


def _resumed(mode: Mode) -> Mode:
    """Once a reload has taken its range out of coverage, what is missing says the rest."""
    return Mode.default if mode is Mode.reload else mode
