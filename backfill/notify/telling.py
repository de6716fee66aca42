"""What runs have seen is told to the addresses of `BACKFILL_NOTIFY`: each change once.

What each was told stands in the database, written once it was: a message that doesn't get there is
sent by the next run. None of it changes how a command ends, or keeps it for long.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import uuid4

import structlog

from backfill.audit.stale import stale_states
from backfill.core.freshness import State
from backfill.core.series import Series
from backfill.core.told import Change, Matter, Standing, Trouble, changes
from backfill.errors import (
    BackfillError,
    DatabaseError,
    Interrupted,
    NotEntitled,
    RateLimited,
    SharedFault,
    Stopped,
    Unforeseen,
)
from backfill.log import told as fit_to_leave
from backfill.notify.delivery import Destination, deliver
from backfill.present.message import message
from backfill.run.connect import opened
from backfill.run.outcomes import Failure, Summary
from backfill.settings import Settings
from backfill.store import notices
from backfill.store.pool import Database

_QUARANTINED: Final = "quarantined"
_REFUSED: Final = {RateLimited.outcome, NotEntitled.outcome}
_UNHEARD: Final = "the provider gave no answer at all"
_T = TypeVar("_T")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds may go by: for the database, each time, and until messages are there."""

    database_s: float
    delivery_s: float


USUAL: Final = Patience(8.0, 10.0)
AT_THE_END: Final = Patience(1.0, 1.5)
"""Behind a deadline, after which a command has ten seconds for all that it ends with."""


@dataclass(slots=True)
class Seen:
    """What runs have seen since it was told last: how matters stand, and why.

    ``looked_at`` are the series whose bars are to be looked at, and ``as_of`` is by which clock.
    """

    as_of: datetime | None
    stands: dict[Matter, Standing] = field(default_factory=dict)
    reasons: dict[Matter, Failure] = field(default_factory=dict)
    looked_at: dict[Matter, Series] = field(default_factory=dict)

    def note(self, summary: Summary, command: str) -> None:
        """Take in how a run of a command ended; one that was interrupted has seen nothing."""
        if summary.exit_code == Interrupted.exit_code:
            return
        skipped = set(summary.looked.skipped)
        for series in summary.looked.series:
            if series not in skipped:
                self.looked_at[_matter(series)] = series
                self.stands.setdefault(_matter(series), Standing(None, tried=False))
        for series in summary.looked.in_place:
            self.stands[_matter(series)] = Standing(None)
        for failure in summary.failures:
            self._fail(Matter(failure.symbol, failure.timeframe), failure)
        if summary.exit_code == SharedFault.exit_code:
            self.note_end(command, summary.error or _UNHEARD)
        else:
            self.stands[Matter(command)] = Standing(None)

    def note_end(self, command: str, why: str) -> None:
        """Take in what ended a command before its work did."""
        self._fail(Matter(command), Failure(command, "", "", why))

    def _fail(self, matter: Matter, failure: Failure) -> None:
        self.stands[matter] = Standing(_trouble_of(failure))
        self.reasons[matter] = failure

    def look(self, matter: Matter, state: State) -> None:
        """Take in that the bars of a series aren't fresh, unless it has a trouble that goes before.

        One without bars that was not tried yet is at its first load.
        """
        seen = self.stands[matter]
        if seen.trouble is None and (seen.tried or state is not State.empty):
            self.stands[matter] = Standing(Trouble.stale, seen.tried)

    def ends(self) -> list[Change]:
        """Return what ended commands before their work did."""
        return [
            Change(matter, None, standing.trouble)
            for matter, standing in self.stands.items()
            if not matter.timeframe and standing.trouble is not None
        ]

    def followed_by(self, later: "Seen") -> "Seen":
        """Return what both have seen; what was tried goes before what wasn't, then the later."""
        untried = {
            matter
            for matter, standing in later.stands.items()
            if not standing.tried and matter in self.stands
        }
        news = {matter: one for matter, one in later.stands.items() if matter not in untried}
        return Seen(
            self.as_of,
            self.stands | news,
            self.reasons | later.reasons,
            self.looked_at | later.looked_at,
        )


def _matter(series: Series) -> Matter:
    return Matter(series.symbol.ticker, str(series.timeframe))


def _trouble_of(failure: Failure) -> Trouble:
    if failure.outcome in _REFUSED:
        return Trouble.refused
    return Trouble.quarantined if failure.outcome == _QUARANTINED else Trouble.failing


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
    is_bounded
        Whether it has a deadline, behind which nobody waits for long.
    """

    def __init__(
        self,
        settings: Settings,
        destinations: Sequence[Destination],
        command: str,
        *,
        as_of: datetime | None = None,
        is_bounded: bool = False,
    ) -> None:
        self._settings = settings
        self._destinations = destinations
        self._command = command
        self._as_of = as_of
        self._is_bounded = is_bounded
        self._seen = Seen(as_of)
        self._token = uuid4()

    async def told(self, running: Awaitable[Summary]) -> Summary:
        """Await a run, and tell how it ended, also by an error."""
        summary = await self.ended(running)
        self.note(summary)
        await self.tell(in_haste=self._is_bounded and summary.exit_code == Stopped.exit_code)
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

    async def tell(self, *, in_haste: bool = False) -> None:
        """Tell what has changed by all that was noted; what didn't get there is kept."""
        seen, self._seen = self._seen, Seen(self._as_of)
        if not seen.stands:
            return
        is_told = False
        try:
            is_told = await self._tell(seen, AT_THE_END if in_haste else USUAL)
        finally:
            if not is_told:
                self._seen = seen.followed_by(self._seen)

    async def _tell(self, seen: Seen, patience: Patience) -> bool:
        """Tell each destination what it hasn't heard; return whether all did hear it.

        Without the database nobody knows what they have heard: then they hear what ended the
        command.
        """
        try:
            return await self._tell_changes(seen, patience)
        except Exception as error:
            is_known = isinstance(error, BackfillError | TimeoutError)
            log.warning("notify.unknown", message=_said(error), exc_info=not is_known)
        if ended := seen.ends():
            said = message(ended, seen.reasons)
            await deliver([(one, said) for one in self._destinations], patience.delivery_s)
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
            await _look(database, self._settings, seen)
            told = await notices.told(database, list(destinations))
            await _keep_quarantined(database, told, seen)
            found = {where: changes(heard, seen.stands) for where, heard in told.items()}
            if not any(found.values()):
                return True
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
        return reached == ours.keys() and _counted(ours) == _counted(found)


def _counted(of: Mapping[str, Sequence[Change]]) -> int:
    return sum(map(len, of.values()))


def _said(error: Exception) -> str:
    return "the database takes too long" if isinstance(error, TimeoutError) else str(error)


async def _look(database: Database, settings: Settings, seen: Seen) -> None:
    """See which of the series that runs looked at aren't fresh."""
    if not seen.looked_at:
        return
    now = seen.as_of or datetime.now(UTC)
    states = await stale_states(database, settings, now, seen.looked_at.values())
    for matter, series in seen.looked_at.items():
        if (state := states.get(series.key)) is not None:
            seen.look(matter, state)


async def _keep_quarantined(database: Database, told: notices.Told, seen: Seen) -> None:
    """See that nobody is told that a series is well while bars of it wait in quarantine."""
    well = Standing(None)
    asked = {
        matter
        for of in told.values()
        for matter, trouble in of.items()
        if trouble is Trouble.quarantined and seen.stands.get(matter) == well
    }
    if asked:
        held = await notices.in_quarantine(database, asked)
        seen.stands |= dict.fromkeys(held, Standing(Trouble.quarantined))
