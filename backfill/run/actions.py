"""Corporate actions in a run: asked for once a session, then held against the stored prices."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Final, Generic, TypeVar

import structlog

from backfill.core.calendar import Calendar
from backfill.core.plan import final_session
from backfill.core.splits import usable
from backfill.core.wire import Dividend, Request, Response, Split
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    SeriesError,
    SharedFault,
    Stopped,
)
from backfill.providers.base import Actions
from backfill.run.context import Context
from backfill.run.lists import read_on
from backfill.store import actions as store
from backfill.store.counts import Counts
from backfill.store.pool import Connection
from backfill.store.times import to_time

# Splits have been listed months late, so all of them are asked for every time: two years of them
# are a page. Dividends only as far back as those that were corrected since the last listing.
_DIVIDENDS_AGAIN: Final = timedelta(days=7)
# Decades of splits, or two years of everybody's dividends, may be a hundred pages: twenty minutes
# of the smallest quota. So what one session may cost is bounded, and the next goes on; until then
# no total return is told, and of the splits the newest are asked for apart.
_NEWEST: Final = timedelta(days=60)
_POLL_S: Final = 0.5
_MOST_CASH: Final = 1e12
"""A share's dividend in the smallest of currencies; the sum of larger ones may be no number."""

_Action = TypeVar("_Action", Split, Dividend)

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class _Kind(Generic[_Action]):
    """One of the two listings: how to ask, read and keep it, and how far back it is asked again.

    ``again`` is None for one that begins anew each time. Of one that takes several sessions, what
    is ``newest`` is asked for with each.
    """

    name: str
    ask: Callable[[date], Request]
    read: Callable[[Response], tuple[list[_Action], Request | None]]
    keep: Callable[[Connection, list[_Action]], Awaitable[None]]
    day_of: Callable[[_Action], date]
    finish: Callable[[Connection, date, store.Listing], Awaitable[None]]
    again: timedelta | None = None
    newest: timedelta | None = None


class ActionsDesk:
    """Lists splits and dividends of all tickers, at most once for a session whose d1 is final.

    A listing that fails is tried again for the next session: it never fails a series, which has
    its bars, and asking for what a plan refuses costs a call a session. A run that must stop before
    its end, or dies, keeps the pages it has and leaves the rest to the next run.
    """

    def __init__(self, context: Context, calendar: Calendar) -> None:
        self._context = context
        self._pages = context.lists
        self._calendar = calendar
        self._now = to_time(context.rules.now_ms)
        self._today = calendar.day_of(context.rules.now_ms)
        self._terms = context.rules.terms.of("stock")
        self._since = self._terms.window_start(self._today)
        self._listed: set[store.ActionKey] = set()

    async def sync(self) -> bool:
        """List what is due, then decide which splits apply, by the prices that are stored now.

        Where another run is at it, this one waits until that has ended, or is known to live on.
        Returns whether a stop has left something to another run.

        Raises
        ------
        DatabaseError
            If the database goes away.
        """
        provider = self._context.provider
        if not isinstance(provider, Actions):
            return False
        splits_left = await self.list_splits(waits=True)
        await self._decide()
        dividends = _Kind(
            "dividends",
            provider.dividends,
            provider.read_dividends,
            self._keep_dividends,
            lambda dividend: dividend.ex_dividend_date,
            self._finish_dividends,
            again=_DIVIDENDS_AGAIN,
        )
        return await self._list(dividends, lists=2, waits=True) or splits_left

    async def list_splits(self, *, waits: bool = False) -> bool:
        """List the splits, if that is due; return whether a stop has left that to another run.

        It ``waits`` for a run that is at it, or does without.

        Raises
        ------
        DatabaseError
            If the database goes away.
        """
        provider = self._context.provider
        if not isinstance(provider, Actions):
            return False
        splits = _Kind(
            "splits",
            provider.splits,
            provider.read_splits,
            self._keep_splits,
            lambda split: split.execution_date,
            self._finish_splits,
            newest=_NEWEST,
        )
        return await self._list(splits, lists=3, waits=waits)

    async def _list(self, kind: _Kind[_Action], lists: int, *, waits: bool) -> bool:
        """List a kind, if that is due; return whether a stop has left it to another run."""
        try:
            listing = await self._claim(kind.name, waits=waits)
        except Stopped:
            return True
        if listing is None:
            return False
        self._context.outcomes.relisted.add(self._context.provider.name)

        def warn(error: SeriesError | SharedFault) -> None:
            log.warning(
                "actions.not_listed", kind=kind.name, outcome=error.outcome, message=str(error)
            )

        reading = self._read(kind, listing, self._pages.share(lists))
        return await read_on(self._context, kind.name, reading, warn)

    async def _claim(self, kind: str, *, waits: bool) -> store.Listing | None:
        """Take a list on; None if it is read, or is being read by a run that lives."""
        context = self._context
        session = final_session(self._calendar, self._terms.settling, context.rules.now_ms)
        claim = partial(
            store.claim_session,
            provider=context.provider.name,
            kind=kind,
            session=session,
            run_id=context.run_id,
        )
        seen: store.Held | None = None
        while isinstance(found := await context.database.run(claim), store.Held):
            if not waits or (seen is not None and found != seen):
                return None
            seen = found
            await context.stop.sleep(_POLL_S)
        return found

    async def _read(self, kind: _Kind[_Action], listing: store.Listing, most_pages: float) -> bool:
        """Follow the pages, each kept with how far it brings the listing.

        Returns whether that came to the end of the list, which is noted then.
        """
        context = self._context
        if listing.listed_since is None or self._since < listing.listed_since:
            # Deeper than ever before: that a split is new here doesn't make it news.
            listing = store.Listing(self._since, self._since, None)
        since = listing.next_from or self._since
        request: Request | None = kind.ask(since)
        asked: set[object] = set()
        while request is not None and len(asked) < most_pages:
            self._pages.left -= 1
            asked.add(request.address)
            page, following = await self._fetch(kind, request)
            if following is not None and following.address in asked:
                raise BadAnswer("the provider names the same next page twice")
            reached = max((kind.day_of(one) for one in page), default=since)
            listing = replace(listing, next_from=reached)
            began = since if following is None else None
            await context.database.run(partial(self._write, kind, page, listing, began))
            request = following
        if request is not None and kind.newest is not None:
            self._pages.left -= 1
            newest = kind.ask(self._today - kind.newest)
            page, _ = await self._fetch(kind, newest)
            await context.database.run(lambda connection: kind.keep(connection, page))
        return request is None

    async def _fetch(
        self, kind: _Kind[_Action], request: Request
    ) -> tuple[list[_Action], Request | None]:
        """Ask for a page, or for what the provider has instead where it refuses the request."""
        client = self._context.client
        try:
            return await client.fetch(request, kind.read, asker=kind.name)
        except (NotEntitled, ProviderError) as error:
            if request.instead is None or isinstance(error, ProviderUnavailable):
                raise
            return await client.fetch(request.instead, kind.read, asker=kind.name)

    async def _write(
        self,
        kind: _Kind[_Action],
        page: list[_Action],
        listing: store.Listing,
        began: date | None,
        connection: Connection,
    ) -> None:
        """Keep a page; the last one, which is told where the listing began, ends the listing."""
        await kind.keep(connection, page)
        if began is not None:
            await kind.finish(connection, began, listing)
            next_from = self._today - kind.again if kind.again else None
            listing = replace(listing, next_from=next_from, synced_at=self._now)
        provider = self._context.provider.name
        ended = began is not None
        await store.note_listing(connection, provider, kind.name, listing, ended=ended)

    async def _keep_splits(self, connection: Connection, splits: list[Split]) -> None:
        kept = [one for one in splits if usable(one)]
        self._listed.update((one.ticker, one.execution_date) for one in kept)
        await store.keep_splits(connection, kept, self._now)

    async def _keep_dividends(self, connection: Connection, dividends: list[Dividend]) -> None:
        paid = [one for one in dividends if 0 < one.cash_amount <= _MOST_CASH]
        await store.keep_dividends(connection, paid, self._now)

    async def _finish_splits(
        self, connection: Connection, since: date, listing: store.Listing
    ) -> None:
        context = self._context
        # A listing without any split at all is rather a provider's fault than news.
        dropped = (
            await store.drop_unlisted_splits(connection, since, self._listed)
            if self._listed
            else []
        )
        for ticker, day in dropped:
            log.info("split.dropped", symbol=ticker, execution_date=day.isoformat())
        outdated = await store.invalidate_outdated(
            connection,
            context.run_id,
            listing.synced_at,
            self._now,
            self._calendar.midnight(self._since),
            dropped,
            context.provider.name,
        )
        for one in outdated:
            context.outcomes.count(one.series, Counts(withdrawn=one.expelled))
            log.info(
                "series.outdated",
                symbol=one.series.symbol.ticker,
                timeframe=str(one.series.timeframe),
                expelled=one.expelled,
            )

    async def _finish_dividends(
        self, connection: Connection, since: date, _listing: store.Listing
    ) -> None:
        await store.drop_unlisted_dividends(connection, since, self._now)

    async def _decide(self) -> None:
        """Decide which splits apply; one that is newly set aside makes this run exit 1 (R11).

        All of them where they were listed anew, here or by a run that may have died before this;
        else those of the run's own symbols: a market's worker makes thousands of runs of one each.
        """
        context = self._context
        is_news = context.judges_all or context.provider.name in context.outcomes.relisted
        own = None if is_news else {one.symbol.id for one in context.outcomes.series}
        judged = partial(store.judge_splits, today=self._today, symbols=own)
        for split in await self._context.database.run(judged):
            self._context.outcomes.set_aside.append(split)
            log.warning(
                "split.contradicted",
                symbol=split.ticker,
                execution_date=split.execution_date.isoformat(),
                split_from=split.split_from,
                split_to=split.split_to,
            )
