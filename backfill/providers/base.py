"""What a provider is: it builds requests and reads answers, and never touches a socket."""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.series import Symbol
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.core.wire import (
    Dividend,
    GroupedDay,
    Names,
    Owner,
    Page,
    Reference,
    Request,
    Response,
    Split,
)


class Provider(Protocol):
    """A market-data service, as pure functions of requests and responses.

    The ``read_*`` methods raise the error that names the outcome of an answer that holds no data
    (`backfill.errors`); an empty page is data.
    """

    name: str
    feed: str
    base_url: str
    """The service's public address; the settings may name another."""
    adjustments: tuple[str, ...]
    """Adjustments that bars can be asked for, the default first."""
    terms: Mapping[str, Terms]
    """Its plans by name; every provider has ``free`` and ``unlimited``."""
    plan_classes: Mapping[str, str]
    """The classes that have plans of their own, and the asset type that each is; none: one plan."""
    page_size: int
    """The most base aggregates (minutes, or days) that one page holds."""
    key_variables: tuple[str, ...]
    """Environment variables that may hold its key, the preferred one first."""

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        ...

    def base_of(self, symbol: Symbol, timeframe: Timeframe) -> Timeframe:
        """Return the timeframe to fetch for a series: itself, or a finer one to roll up."""
        ...

    def bars(
        self,
        symbol: Symbol,
        calendar: Calendar,
        timeframe: Timeframe,
        span: Span,
        adjustment: str,
    ) -> Request:
        """Ask for the bars of a span of whole slots, newest first."""
        ...

    def read_bars(self, response: Response, symbol: Symbol, adjustment: str) -> Page:
        """Read an answer to `bars`, or to a page's ``next``, and see that it is one."""
        ...

    def grouped(self, day: date, adjustment: str) -> Request | None:
        """Ask for the d1 bars of all US stocks of a session; None where no one call brings them."""
        ...

    def read_grouped(self, response: Response, adjustment: str) -> GroupedDay:
        """Read an answer to `grouped`; a ticker that isn't in it may have traded all the same."""
        ...

    def reference(self, symbol: Symbol) -> Request:
        """Ask what the provider knows of a symbol."""
        ...

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read an answer to `reference`, and see that it is of the symbol."""
        ...

    def names(self, symbol: Symbol) -> Request:
        """Ask under which tickers the company behind a symbol has traded, and since when."""
        ...

    def read_names(self, response: Response) -> Names:
        """Read an answer to `names`."""
        ...

    def owners(self, first: str, last: str) -> Request:
        """Ask whose the active stock tickers are, from one to another, both inclusive, in order."""
        ...

    def read_owners(self, response: Response) -> tuple[list[Owner], Request | None]:
        """Read a page of owners, and the request for the next page."""
        ...

    def splits(self, since: date) -> Request:
        """Ask for every ticker's splits from a day on, oldest first."""
        ...

    def read_splits(self, response: Response) -> tuple[list[Split], Request | None]:
        """Read a page of splits, as listed, and the request for the next page."""
        ...

    def dividends(self, since: date) -> Request:
        """Ask for every ticker's cash dividends from an ex-dividend date on, oldest first."""
        ...

    def read_dividends(self, response: Response) -> tuple[list[Dividend], Request | None]:
        """Read a page of dividends, as listed, and the request for the next page."""
        ...
