"""What crosses the seam between providers and the fetcher: requests, responses, pages."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from backfill.core.dataclass import dataclass

if TYPE_CHECKING:
    from backfill.core.bars import Bars
    from backfill.core.raw import Oddities


class Kind(StrEnum):
    """What a request is counted as in the summary."""

    bars = "bars"
    lookup = "lookup"


@dataclass(frozen=True, slots=True)
class Request:
    """A GET to send: ``target`` is a path below the provider's base URL, or an absolute URL.

    It is a path below the provider's other URL where it is ``at_other``. ``cost`` is what it takes
    from the quota; ``instead`` what to ask where the provider refuses this or doesn't have it.
    ``head`` asks for the head of the answer alone. The key is not part of it: the fetcher adds the
    provider's headers when it sends.
    """

    target: str
    params: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = Kind.bars
    cost: int = 1
    instead: "Request | None" = None
    at_other: bool = False
    head: bool = False

    @property
    def address(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What tells it from another request."""
        return self.target, tuple(self.params.items())


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read to its end; header names in lower case.

    A provider gets it unpacked, whatever its ``content-encoding`` says.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One readable answer to a request for bars, as the provider stamped and ordered them.

    ``next`` asks for the page after it; None when the provider says that this was the last.
    ``delayed_ms`` is how far behind the clock the provider holds its newest bars back;
    ``base_count`` how many base aggregates (minutes, or days) it says that the page was made of;
    ``oddities`` what came where a bar holds something else than numbers. ``silent_before_ms`` is
    the start of the bar before which the last page says nothing, where a provider has only so many
    of the newest; ``silent_from_ms`` the start of the slot from which on it says nothing yet.
    ``unconfirmed`` marks an answer without any bar that proves nothing by itself, since the
    provider has given such ones for ranges that it has bars of: it is asked for once more at once,
    and believed when an answer of another day agrees. Bars of one symbol that came ``among_others``
    were held against the timeframe with those.
    """

    bars: "Bars"
    next: Request | None
    delayed_ms: int = 0
    base_count: int | None = None
    oddities: "Oddities" = field(default_factory=dict)
    silent_before_ms: int | None = None
    silent_from_ms: int | None = None
    unconfirmed: bool = False
    among_others: bool = False


@dataclass(frozen=True, slots=True)
class GroupedDay:
    """One session's bars of every ticker: ``bars[i]`` is of ``tickers[i]``, as it was stamped.

    ``delayed_ms`` is how far behind the clock the provider holds its newest bars back.
    """

    tickers: Sequence[str]
    bars: "Bars"
    delayed_ms: int = 0
    oddities: "Oddities" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the provider's reference says of a ticker; dates are exchange dates.

    ``renamed`` is what the company that had the ticker is called by now, if that is known;
    ``is_known`` tells whether anybody has the ticker.
    """

    ticker: str
    listed_on: date | None
    delisted_on: date | None
    figi: str | None
    renamed: "DatedName | None" = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class DatedName:
    """A ticker that a company took on some day; dates are exchange dates, sessions or not."""

    ticker: str
    since: date


@dataclass(frozen=True, slots=True)
class Names:
    """The tickers that the company behind one has had, and which company that is."""

    figi: str | None
    dated: tuple[DatedName, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an active ticker is, by the list of all tickers."""

    ticker: str
    figi: str | None


@dataclass(frozen=True, slots=True)
class Split:
    """One share split: from ``execution_date`` on, ``split_from`` shares are ``split_to``."""

    ticker: str
    execution_date: date
    split_from: float
    split_to: float


@dataclass(frozen=True, slots=True)
class Dividend:
    """One cash dividend: ``cash_amount`` of ``currency`` per share of its ex-dividend date.

    ``dividend_type`` tells in the provider's words how it recurs: ``recurring``, ``special`` …
    """

    ticker: str
    ex_dividend_date: date
    cash_amount: float
    dividend_type: str
    currency: str
    pay_date: date | None
