"""What runs have seen is told to the addresses of `BACKFILL_NOTIFY`: each change once.

What each was told stands in the database, written once it was: a message that doesn't get there is
sent by the next run. None of it changes how a command ends, or keeps it for long.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final, TypeVar
from uuid import uuid4

import structlog

from backfill.audit.stale import stale_states
from backfill.core.told import Change, Matter, Standing, Trouble, changes
from backfill.errors import (
    BackfillError,
    DatabaseError,
    Stopped,
    Unforeseen,
)
from backfill.log import told as fit_to_leave
from backfill.notify.delivery import Destination, deliver
from backfill.notify.seen import Seen
from backfill.present.message import message
from backfill.run.connect import opened
from backfill.run.outcomes import Summary
from backfill.settings import Settings
from backfill.store import notices
from backfill.store.pool import Database

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds may go by: for the database, for a look at bars, and for messages.

    The database has its time thrice: to be opened, to tell what was told, and to note what is.
    """

    database_s: float
    look_s: float
    delivery_s: float

    def within(self, left_s: float) -> "Patience":
        """Return it so long before a deadline: what there is behind it, and a share of the time."""
        share_s = max(left_s, 0.0) / 5
        least = AT_THE_END
        return Patience(
            min(self.database_s, least.database_s + share_s),
            min(self.look_s, least.look_s + share_s),
            min(self.delivery_s, least.delivery_s + share_s),
        )


USUAL: Final = Patience(8.0, 20.0, 10.0)
AT_THE_END: Final = Patience(1.0, 0.5, 1.5)
"""Behind a deadline, after which a command has ten seconds for all that it ends with."""


class Teller:
    """Tells of what a command's runs come to, as they end.

    Parameters
    ----------
    settings
        The settings of the command.
    destinations
        Whom to tell.
    command
        What it is called.
    as_of
        The clock by which its runs judge, None for the real one.
    deadline_s
        In how many seconds from now it is to end, None for never: nobody waits for long then.
    """

    def __init__(
        self,
        settings: Settings,
        destinations: Sequence[Destination],
        command: str,
        *,
        as_of: datetime | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self._settings = settings
        self._destinations = destinations
        self._command = command
        self._as_of = as_of
        self._ends_s = None if deadline_s is None else monotonic() + deadline_s
        self._seen = Seen(as_of)
        self._token = uuid4()
        self._told_unnoted: set[str] = set()

    async def told(self, running: Awaitable[Summary]) -> Summary:
        """Await a run, and tell how it ended, also by an error."""
        summary = await self.ended(running)
        self.note(summary)
        await self.tell()
        return summary

    async def ended(self, running: Awaitable[_T]) -> _T:
        """Await what a command does, and tell of an error that ends it."""
        try:
            return await running
        except Stopped:
            raise
        except Exception as error:
            fault = error if isinstance(error, BackfillError) else Unforeseen.of(error)
            await self.tell_end(str(fault))
            raise

    async def tell_end(self, why: str) -> None:
        """Tell what ended the command before its work did."""
        self._seen.note_end(self._command, fit_to_leave(why))
        await self.tell()

    def note(self, summary: Summary) -> None:
        """Take in how a run ended, to be told later."""
        self._seen.note(summary, self._command)

    def note_job(self, summary: Summary) -> None:
        """Take in how one of many jobs ended: a provider that is away says nothing of others."""
        self._seen.note(summary, f"{self._command} of {summary.provider}")

    async def tell(self, *, in_haste: bool = False) -> None:
        """Tell what has changed by all that was noted; what didn't get there is kept."""
        seen, self._seen = self._seen, Seen(self._as_of)
        if not seen.stands:
            return
        is_told = False
        try:
            is_told = await self._tell(seen, AT_THE_END if in_haste else self._patience())
        finally:
            if not is_told:
                self._seen = seen.followed_by(self._seen)

    def _patience(self) -> Patience:
        return USUAL if self._ends_s is None else USUAL.within(self._ends_s - monotonic())

    async def _tell(self, seen: Seen, patience: Patience) -> bool:
        """Tell each destination what it hasn't heard; return whether all did hear it.

        Without the database nobody knows what they have heard: then they hear what ended the
        command, once from each teller until it has the database again.
        """
        try:
            is_told = await self._tell_changes(seen, patience)
        except Exception as error:
            is_known = isinstance(error, BackfillError | TimeoutError)
            log.warning("notify.unknown", message=_said(error), exc_info=not is_known)
        else:
            self._told_unnoted.clear()
            return is_told
        if ended := seen.ends():
            said = message(ended, seen.reasons)
            left = [one for one in self._destinations if one.digest not in self._told_unnoted]
            self._told_unnoted |= await deliver([(one, said) for one in left], patience.delivery_s)
        return False

    async def _tell_changes(self, seen: Seen, patience: Patience) -> bool:
        """Look at the bars, claim what has changed, send it, and note whom it has reached.

        Raises
        ------
        BackfillError, TimeoutError
            If the database can't be used, before anything was sent.
        """
        destinations = {one.digest: one for one in self._destinations}
        async with (
            asyncio.timeout(patience.database_s) as limit,
            opened(self._settings) as database,
        ):
            limit.reschedule(None)
            is_looked = await _looked(database, self._settings, seen, patience.look_s)
            limit.reschedule(asyncio.get_running_loop().time() + patience.database_s)
            told, unheard = await notices.told(database, list(destinations))
            await _keep_quarantined(database, told, unheard, seen)
            stands = seen.stands if is_looked else seen.bad_news()
            found = {where: changes(heard, stands) for where, heard in told.items()}
            if not any(found.values()):
                return is_looked
            ours = await notices.claim(database, self._token, found)
            limit.reschedule(None)
            reached = await deliver(
                [(destinations[where], message(of, seen.reasons)) for where, of in ours.items()],
                patience.delivery_s,
            )
            try:
                async with asyncio.timeout(patience.database_s):
                    await notices.close(database, self._token, reached)
            except (DatabaseError, TimeoutError) as error:
                # What was claimed is free again in a minute: then it is told once more.
                log.warning("notify.not_noted", message=_said(error))
                return False
        # What another is just telling is kept, too: it may not get there.
        return is_looked and reached == ours.keys() and _counted(ours) == _counted(found)


def _counted(of: Mapping[str, Sequence[Change]]) -> int:
    return sum(map(len, of.values()))


def _said(error: Exception) -> str:
    return "the database takes too long" if isinstance(error, TimeoutError) else str(error)


async def _looked(database: Database, settings: Settings, seen: Seen, within_s: float) -> bool:
    """Look at the bars within a time, which thousands of series may take; return whether it did."""
    try:
        async with asyncio.timeout(within_s):
            await _look(database, settings, seen)
    except TimeoutError:
        log.warning("notify.not_looked", series=len(seen.looked_at), seconds=within_s)
        return False
    return True


async def _look(database: Database, settings: Settings, seen: Seen) -> None:
    """See which of the series that runs looked at aren't fresh."""
    if not seen.looked_at:
        return
    now = seen.as_of or datetime.now(UTC)
    states = await stale_states(database, settings, now, seen.looked_at.values())
    for matter, series in seen.looked_at.items():
        if (state := states.get(series.key)) is not None:
            seen.look(matter, state)


async def _keep_quarantined(
    database: Database, told: notices.Told, unheard: set[Matter], seen: Seen
) -> None:
    """See that nobody takes a series for well while bars of it wait in quarantine.

    A run that finds it well follows soon, also where what the one before found was ``unheard``.
    """
    well = Standing(None)
    heard = {
        matter
        for of in told.values()
        for matter, trouble in of.items()
        if trouble is Trouble.quarantined
    }
    asked = {matter for matter in heard | unheard if seen.stands.get(matter) == well}
    if asked:
        held = await notices.in_quarantine(database, asked)
        seen.stands |= dict.fromkeys(held, Standing(Trouble.quarantined))
