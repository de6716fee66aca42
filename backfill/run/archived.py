"""Reading a file of an archive in place of the calls for its period."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from backfill.core.archive import FileRead, FilesOrCalls, Use
from backfill.core.asked import Asked
from backfill.core.plain import storable
from backfill.core.plan import PlannedRange, plan_ranges
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request, Response
from backfill.core.work import Work
from backfill.errors import FileMissing, GeoBlocked, ProviderDown, ProviderError, RateLimited
from backfill.providers.base import Archives, SymbolFiles
from backfill.providers.refusals import refuse_status

if TYPE_CHECKING:
    from backfill.fetch.client import Client

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Versions:
    """Tells which ``version`` of a file an archive has, and what each of its files holds."""

    archives: Archives
    version: Callable[[str], Awaitable[str | None]]


@dataclass(slots=True)
class ArchiveDesk:
    """Reads a provider's files; ``choice`` is by which it was decided that they are read.

    An archive that can't be had (``is_down``) is left alone: calls bring the same.
    """

    client: "Client"
    provider: SymbolFiles
    choice: FilesOrCalls
    is_down: bool = False

    async def read(
        self, asked: Asked, period: Timeframe, queued: Callable[[], None]
    ) -> tuple[Page, FileRead]:
        """Fetch a file and its checksum, and return what it brings of what is asked for.

        ``queued`` is called when a request is about to be sent.

        Raises
        ------
        FileMissing
            If the archive has no such file, or no checksum of it, or can't be had.
        BadAnswer
            If it isn't what its checksum is of, or holds something else; none of it is believed.
        SeriesError, SharedFault
            Whatever else became of a request, where it was said that files are always read.
        """
        if self.is_down:
            raise FileMissing("the archive can't be had")
        try:
            return await self._read(asked, period, queued)
        except FileMissing:
            raise
        except (ProviderError, RateLimited, ProviderDown, GeoBlocked) as error:
            if self.choice.use is Use.always:
                raise
            self.is_down = True
            log.warning("archive.unreachable", outcome=error.outcome, message=str(error))
            raise FileMissing(f"the archive can't be had: {error}") from None

    async def _read(
        self, asked: Asked, period: Timeframe, queued: Callable[[], None]
    ) -> tuple[Page, FileRead]:
        provider = self.provider
        asker = f"{asked.symbol.ticker} {asked.timeframe}"
        checksum = await self.client.fetch(
            provider.checksum(asked, period),
            partial(provider.read_checksum, asked=asked, period=period),
            asker,
            queued,
        )
        request = provider.file(asked, period)

        def read(response: Response) -> tuple[Page, FileRead]:
            page = provider.read_file(response, asked, period, checksum)
            path, size = request.target.lstrip("/"), len(response.body)
            return page, FileRead(path, _etag(response), checksum, size)

        return await self.client.fetch(request, read, asker, queued)

    async def version(self, path: str) -> str | None:
        """Ask which version of a file the archive has; None where it has none, or names none.

        Raises
        ------
        SeriesError, SharedFault
            What became of the request.
        """
        return await self.client.fetch(Request(f"/{path}", cost=0, head=True), _version, path)

    def instead(self, work: Work, planned: PlannedRange) -> tuple[PlannedRange, ...]:
        """Return what brings a range whose file is missing, newest first."""
        law = self.provider.can.pages
        if self.is_down:
            return plan_ranges(work.calendar, work.base, planned.claims, law)
        return self.choice.instead(work.calendar, work.base, planned, law)


def _version(response: Response) -> str | None:
    if response.status == 404:
        return None
    refuse_status(response, "")
    return _etag(response)


def _etag(response: Response) -> str | None:
    """Return the name of a version as the database holds it, to be compared with that."""
    etag = response.headers.get("etag")
    return None if etag is None else storable(etag)
