"""What a job of the queue is: one fetch, the key by which it is queued once, and its text."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from backfill.core.archive import Use
from backfill.core.series import Source, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.errors import UnreadableJob

_VERSION: Final = 1
_ENTRY: Final = "fetch:"


class Kind(StrEnum):
    """What a fetch asks for."""

    series = "series"
    """A symbol's base series, and what is rolled up from it."""
    days = "days"
    """Sessions of many symbols, a call each."""
    batch = "batch"
    """The newest bars of many symbols, in a call."""
    files = "files"
    """Files of a whole market, a session each."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch: whom it asks for what, and of which series.

    Two fetches never feed the same series but where they were asked for apart: leases are by
    series, so days and files of the same symbols are one fetch, however many they are.

    Parameters
    ----------
    kind
        What it asks for.
    source
        Where its bars come from: provider, feed and adjustment.
    base
        The timeframe that is fetched.
    series
        The series that it feeds, as tickers and timeframes.
    symbol_id
        The symbol's; None where there are several.
    mode, first, last, as_of, archive
        As a run is asked: how much, of which range, by which clock, and whether files are read.
    priority
        The watchlist's; a higher one is served first.
    """

    kind: Kind
    source: Source
    base: Timeframe
    series: tuple[tuple[str, Timeframe], ...]
    symbol_id: SymbolId | None = None
    mode: Mode = Mode.default
    first: Bound | None = None
    last: Bound | None = None
    as_of: datetime | None = None
    archive: Use = Use.auto
    priority: int = 0

    @property
    def entrypoint(self) -> str:
        """The name under which workers of its provider take it."""
        return entrypoint_of(self.source.provider)

    @property
    def key(self) -> str:
        """What it is queued once by: a JSON array, since a ticker may hold any separator.

        What is asked of the same series in another mode, range or clock, or of others beside them,
        is another fetch: its last element tells them apart.
        """
        symbol = str(self.symbol_id) if self.symbol_id is not None else None
        digest = sha256(self.text.encode()).hexdigest()[:16]
        return json.dumps([self.kind, *self.source.origin, symbol, self.base, digest])

    @property
    def text(self) -> str:
        """What is stored of it; `read` makes it of that again, but for symbol and priority."""
        return json.dumps(
            {
                "version": _VERSION,
                "kind": self.kind,
                "provider": self.source.provider,
                "feed": self.source.feed,
                "adjustment": self.source.adjustment,
                "base": self.base,
                "series": self.series,
                "mode": self.mode,
                "from": _told(self.first.at if self.first else None),
                "to": _told(self.last.at if self.last else None),
                "as_of": _told(self.as_of),
                "archive": self.archive,
            },
            separators=(",", ":"),
        )

    @property
    def name(self) -> str:
        """What people call it: its symbol, or how many there are, and its timeframes."""
        tickers = list(dict.fromkeys(ticker for ticker, _ in self.series))
        timeframes = " ".join(dict.fromkeys(timeframe for _, timeframe in self.series))
        named = tickers[0] if len(tickers) == 1 else f"{len(tickers):,} symbols"
        return f"{named} {timeframes}"


def entrypoint_of(provider: str) -> str:
    """Return the name under which workers take a provider's fetches."""
    return f"{_ENTRY}{provider}"


def provider_of(entrypoint: str) -> str:
    """Return the provider of a name under which workers take fetches."""
    return entrypoint.removeprefix(_ENTRY)


def read(text: str | bytes) -> Fetch:
    """Return the fetch that a text says.

    Raises
    ------
    UnreadableJob
        If it says none that this version knows.
    """
    try:
        said: dict[str, Any] = json.loads(text)
        if said["version"] != _VERSION:
            raise UnreadableJob(
                f"the job is of another version of backfill ({said['version']!r} for {_VERSION})"
            )
        return Fetch(
            kind=Kind(said["kind"]),
            source=Source(said["provider"], said["feed"], said["adjustment"]),
            base=Timeframe(said["base"]),
            series=tuple((ticker, Timeframe(one)) for ticker, one in said["series"]),
            mode=Mode(said["mode"]),
            first=_bound(said["from"]),
            last=_bound(said["to"]),
            as_of=datetime.fromisoformat(said["as_of"]) if said["as_of"] else None,
            archive=Use(said["archive"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableJob(f"the job can't be read ({type(error).__name__}: {error})") from None


def _told(at: date | datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def _bound(text: str | None) -> Bound | None:
    if text is None:
        return None
    return Bound(datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text))
