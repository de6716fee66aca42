"""New owners of tickers: noticed in the list of all tickers, once in thirty days."""

from functools import partial

import structlog

from backfill.core.calendar import Calendar
from backfill.core.plan import final_session
from backfill.core.series import Symbol
from backfill.core.wire import Owner
from backfill.errors import SeriesError, SharedFault
from backfill.providers.base import Owners
from backfill.run.allowance import Allowance
from backfill.run.context import Context
from backfill.run.lists import read_on
from backfill.run.reference import ReferenceDesk
from backfill.store import owners as store
from backfill.store import universe
from backfill.store.times import to_time

log = structlog.stdlib.get_logger()


class OwnersDesk:
    """Reads the list of all tickers where it holds those that are kept, some pages a session.

    It goes on where the session before stopped, and begins again thirty days after it last began.
    A FIGI that is not known is filled in. A ticker that has another by now is looked up, and marked
    if the reference says so too. A list that can't be read is tried again for the next session: it
    never fails a series.
    """

    def __init__(
        self, context: Context, calendar: Calendar, reference: ReferenceDesk, pages: Allowance
    ) -> None:
        rules = context.rules
        self._context = context
        self._reference = reference
        self._pages = pages
        self._now = to_time(rules.now_ms)
        self._session = final_session(calendar, rules.terms.of("stock").settling, rules.now_ms)

    async def sync(self) -> bool:
        """Read on in the list, if that is due; return whether a stop has left it to another run.

        Raises
        ------
        DatabaseError
            If the database goes away.
        """
        database, provider = self._context.database, self._context.provider.name
        lister = self._context.provider
        if not isinstance(lister, Owners):
            return False
        sweep = await database.run(
            partial(
                store.claim_sweep,
                provider=provider,
                session=self._session,
                now=self._now,
                run_id=self._context.run_id,
            )
        )
        if sweep is None:
            return False
        return await read_on(self._context, "tickers", self._read(lister, sweep), _warn)

    async def _read(self, lister: Owners, sweep: store.Sweep) -> bool:
        """Ask for a page from each kept ticker on that the one before did not come to.

        Returns whether none is left, which is noted then.
        """
        context = self._context
        kept = {
            symbol.listed_as: symbol
            for symbol in await context.database.run(universe.known_symbols)
            if symbol.is_share
            and symbol.listing_of is None
            and symbol.retired_on is None
            and symbol.successor_figi is None
        }
        left = sorted(ticker for ticker in kept if sweep.reached is None or ticker > sweep.reached)
        read = False
        while left and self._pages.left >= 1:
            self._pages.left -= 1
            owners, following = await context.client.fetch(
                lister.owners(left[0], left[-1]),
                lister.read_owners,
                asker="tickers",
            )
            read = True
            for owner in owners:
                if owner.ticker in kept:
                    await self._compare(kept[owner.ticker], owner)
            reached = owners[-1].ticker if owners and following else left[-1]
            left = [ticker for ticker in left[1:] if ticker > reached]
            await self._note(reached if left else None)
        if not read and not left:
            await self._note(None)
        return not left

    async def _compare(self, symbol: Symbol, owner: Owner) -> None:
        if owner.figi is None or owner.figi == symbol.figi:
            return
        if symbol.figi is None:
            await self._context.database.run(
                partial(store.note_figi, symbol=symbol, figi=owner.figi)
            )
            return
        found = await self._reference.look_again(symbol)
        if found.successor_figi is not None:
            log.warning(
                "symbol.new_owner",
                symbol=symbol.ticker,
                figi=symbol.figi,
                successor_figi=found.successor_figi,
            )

    async def _note(self, reached: str | None) -> None:
        provider = self._context.provider.name
        await self._context.database.run(
            partial(store.note_sweep, provider=provider, reached=reached, now=self._now)
        )


def _warn(error: SeriesError | SharedFault) -> None:
    log.warning("owners.not_listed", outcome=error.outcome, message=str(error))
