"""What a provider is: it builds requests and reads answers, and never touches a socket.

Bars are all that it must have. What else it may have is a protocol of its own here; who needs that
looks whether the provider fulfils it. What lists of everybody's name (splits, owners, grouped days)
they name as `Instrument` does: ``BRK.B``, whatever the provider writes.
"""

# Over 300 lines: all that a provider may have stands beside what it must have.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from backfill.errors import NotEntitled

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from backfill.core.archive import Held
    from backfill.core.asked import Asked
    from backfill.core.capabilities import Capabilities
    from backfill.core.instrument import Instrument
    from backfill.core.market_files import MarketReader
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
    base_url: str
    """The service's public address; an account may name another."""
    can: Capabilities
    terms: Mapping[str, Terms]
    """Its plans by name; every provider has ``free`` and ``unlimited``."""
    plan_classes: Mapping[str, tuple[str, ...]]
    """The classes that have plans of their own, and the asset types of each; none: one plan."""
    key_variables: tuple[tuple[str, ...], ...]
    """For each key that it takes, the environment variables that may hold it, the preferred first.

    None where it takes no key.
    """
    keys_at: str
    """The address of the page that gives keys out; empty where it takes none."""
    example: str
    """A symbol that whoever has an account may ask it for."""

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the headers that carry the keys, which come in the order of their variables."""
        ...

    def spelling(self, instrument: Instrument) -> str:
        """Return how the provider spells what a ticker names."""
        ...

    def instrument(self, spelling: str) -> Instrument | None:
        """Return what a spelling of the provider's names; None if no rule of its own reads it."""
        ...

    def bars(self, asked: Asked) -> Request:
        """Ask for bars; where an answer takes several pages, newest first."""
        ...

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read an answer to `bars`, or to a page's ``next``, and see that it is one."""
        ...


class Keyless:
    """What all providers have in common that take no key, and have one plan for everybody."""

    key_variables: tuple[tuple[str, ...], ...] = ()
    keys_at = ""
    plan_classes: Mapping[str, tuple[str, ...]] = {}

    def headers(self, keys: Sequence[str]) -> dict[str, str]:  # noqa: ARG002  # it takes none
        """Return no header."""
        return {}


@runtime_checkable
class ByNameOnly(Protocol):
    """It is asked by who names it, and nobody is led to it: ``caution`` says why."""

    caution: str


@runtime_checkable
class Proven(Protocol):
    """It is asked only for what is ``proven`` to be spelled so there: `instrument` reads no other.

    Preferred shares are spelled in another way by each, and a wrong guess may be another share.
    """

    proven: re.Pattern[str]


def spelled(provider: Provider, instrument: Instrument) -> str:
    """Return how a provider spells what a ticker names.

    Raises
    ------
    NotEntitled
        If that names something else there, so that another's bars would come, or may.
    """
    spelling = provider.spelling(instrument)
    meant = provider.instrument(spelling)
    if isinstance(provider, Proven) and not provider.proven.fullmatch(spelling):
        raise NotEntitled(
            f"how {provider.name} spells {instrument} is not proven, and not guessed: a class of "
            "shares is one letter, as in BRK.B"
        )
    if meant is not None and meant != instrument:
        raise NotEntitled(f"{provider.name} can't be asked for {instrument}: {spelling} is {meant}")
    return spelling


@runtime_checkable
class GroupedDays(Protocol):
    """One call brings the d1 bars of a session of many US stocks."""

    most_grouped: int | None
    """How many stocks a call may name; None where it brings all there are."""

    def grouped(self, day: date, adjustment: str, tickers: Sequence[str]) -> Request:
        """Ask for the d1 bars of a session, of these tickers at least."""
        ...

    def read_grouped(self, response: Response, adjustment: str) -> GroupedDay:
        """Read an answer to `grouped`; a ticker that isn't in it may have traded all the same."""
        ...


@runtime_checkable
class ManySymbols(Protocol):
    """One call brings the bars of a stretch of many stocks, as many in all as of a single one."""

    most_symbols: int
    """How many stocks a call may name."""

    def many(self, asked: Sequence[Asked]) -> Request:
        """Ask for the bars of several symbols, which differ by symbol and span alone."""
        ...

    def read_many(self, response: Response, asked: Sequence[Asked]) -> list[Page | None]:
        """Read an answer to `many`: all of what each asks for, or None if that isn't proven."""
        ...


@runtime_checkable
class References(Protocol):
    """It tells whether a ticker exists, and since when it trades."""

    def reference(self, symbol: Symbol) -> Request:
        """Ask what the provider knows of a symbol."""
        ...

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read an answer to `reference`, and see that it is of the symbol."""
        ...


@runtime_checkable
class OtherHost(Protocol):
    """It answers some questions at another address of its own, which gets the same keys.

    ``other_variable`` is the environment variable by which an account names another one.
    """

    other_url: str
    other_variable: str
    other_meaning: str


@runtime_checkable
class Archives(Provider, Protocol):
    """It has finished periods of bars as whole files (`Capabilities.archive`), at another address.

    ``archive_variable`` is the environment variable by which an account names another one. Requests
    there carry none of the keys, count as calls and take nothing from the quota.
    """

    archive_url: str
    archive_variable: str
    archive_meaning: str

    def held_in(self, path: str) -> Held | None:
        """Return what a file holds, by its path below the address; None for no path of its own."""
        ...


@runtime_checkable
class SymbolFiles(Archives, Protocol):
    """Its files hold one symbol's bars of one timeframe each, and have their checksums beside them.

    The ``read_*`` methods raise `FileMissing` for an answer that says that there is no such file.
    """

    def checksum(self, asked: Asked, period: Timeframe) -> Request:
        """Ask for the checksum of the file that holds what is asked for, which is of one period."""
        ...

    def read_checksum(self, response: Response, asked: Asked, period: Timeframe) -> str:
        """Read an answer to `checksum`, and see that it is that file's."""
        ...

    def file(self, asked: Asked, period: Timeframe) -> Request:
        """Ask for the file; its path is the request's target."""
        ...

    def read_file(self, response: Response, asked: Asked, period: Timeframe, checksum: str) -> Page:
        """Read the bars that are asked for out of a file.

        Raises
        ------
        BadAnswer
            If its checksum is another, or it isn't a file of just these bars.
        """
        ...


@runtime_checkable
class MarketArchives(Archives, Protocol):
    """Its files hold a session's bars of every symbol, as gzipped text in a bucket of S3.

    The bucket has keys of its own: an id and a secret, in ``file_key_variables``. The bars are of
    one ``file_adjustment``.
    """

    bucket: str
    file_key_variables: tuple[str, str]
    file_adjustment: str

    def market_path(self, day: date, timeframe: Timeframe) -> str:
        """Return where the file of a session is, below the bucket."""
        ...

    def market_reader(self, tickers: Collection[str]) -> MarketReader:
        """Return what reads the bars of some tickers, as it spells them, out of a file."""
        ...


@runtime_checkable
class FormerNames(Protocol):
    """It tells what a company was called before."""

    def names(self, symbol: Symbol) -> Request:
        """Ask under which tickers the company behind a symbol has traded, and since when."""
        ...

    def read_names(self, response: Response) -> Names:
        """Read an answer to `names`."""
        ...


@runtime_checkable
class Companies(References, FormerNames, Protocol):
    """It tells what became of a company whose ticker is nobody's, or another's, by now."""

    def reference_on(self, symbol: Symbol, day: date) -> Request:
        """Ask what the provider knew of a symbol on a day; `read_reference` reads the answer."""
        ...

    def names_of(self, figi: str) -> Request:
        """Ask under which tickers a company has traded; `read_names` reads the answer."""
        ...


@runtime_checkable
class Owners(Protocol):
    """It lists whose tickers are."""

    def owners(self, first: str, last: str) -> Request:
        """Ask whose the active stock tickers are, from one to another, both inclusive, in order."""
        ...

    def read_owners(self, response: Response) -> tuple[list[Owner], Request | None]:
        """Read a page of owners, and the request for the next page."""
        ...


@runtime_checkable
class Actions(Protocol):
    """It lists corporate actions."""

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
