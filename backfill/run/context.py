"""What all that is fetched in a lane of a run shares."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from backfill.core.series import Symbol
from backfill.core.work import Rules
from backfill.fetch.gauge import Gauge
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.providers.base import Provider
from backfill.run.allowance import Allowance
from backfill.run.archived import ArchiveDesk
from backfill.run.gathered import Gathered
from backfill.run.outcomes import Outcomes
from backfill.run.room import Room
from backfill.run.writers import Writer, Writers
from backfill.store.pool import Database

if TYPE_CHECKING:
    from backfill.fetch.client import Client
    from backfill.fetch.objects import Objects


@dataclass(frozen=True, slots=True)
class Context:
    """What all streams of a lane share.

    ``archive`` reads the provider's files, where it has some, ``objects`` those of all its market.
    ``look_up`` asks the provider's reference about a symbol, at most once a run, and returns the
    symbol as it is known then; it is told since when the ticker is known to trade. ``stop`` ends
    the lane, ``gathered`` are its small pages that wait to be written. The lanes of a run share the
    ``reader``, which does what takes long with an answer, ``room``, which bounds the pages that are
    asked for and not written yet, and the ``writers``, who bound how many are written at once.
    ``lists`` are the pages that everybody's lists may still cost; the ``tally`` counts and measures
    what the lane does. Where files come ``oldest_first``, it is for one piece of work that nothing
    cuts short. ``listing`` is held while splits are listed before their turn; whoever
    ``judges_all`` decides of every split, since a run before this may have died over it.
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
    writers: Writers
    lists: Allowance
    tally: Tally
    archive: ArchiveDesk | None = None
    objects: "Objects | None" = None
    judges_all: bool = False
    oldest_first: bool = False
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    gathered: Gathered = field(default_factory=Gathered)

    @property
    def gauge(self) -> Gauge:
        """What measures the lane."""
        return self.tally.gauge

    @property
    def writer(self) -> Writer:
        """What writing takes of it."""
        return Writer(
            self.provider.name,
            self.run_id,
            self.database,
            self.outcomes,
            self.writers,
            self.gauge,
            self.rules.now_ms,
            self.rules,
        )
