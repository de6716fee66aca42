"""The conformance table: what is said of each provider, which every one of them is held to.

A provider joins by a module with its `Entry` and one line in `ENTRIES`; what every provider shows
is in ``test_conformance.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import HOUR_MS, Timeframe
from backfill.errors import BackfillError
from backfill.providers import account_name
from backfill.providers.base import Provider
from backfill.simulator import Action

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"

Bar = tuple[int, float, float, float, float, float, float | None, int | None]


@dataclass(frozen=True)
class Page:
    """A recorded page: what was asked for, how many bars it has, its first and its last."""

    file: str
    ticker: str
    timeframe: Timeframe
    first: date
    until: date
    bars: int
    oldest: Bar
    newest: Bar
    adjustment: str = "raw"


@dataclass(frozen=True)
class Refusal:
    """A recorded or documented answer that holds no bars, and the outcome that it is."""

    status: int
    body: str | Path
    outcome: type[BackfillError]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body's bytes."""
        return self.body.encode() if isinstance(self.body, str) else self.body.read_bytes()


def priced_alone(bars: Bars) -> Bars:
    """Return bars as providers tell them that have neither a vwap nor a count."""
    return replace(bars, vwap=np.full(len(bars), np.nan), trade_count=np.full(len(bars), NO_COUNT))


@dataclass(frozen=True)
class Entry:
    """What is said of a provider.

    Parameters
    ----------
    provider
        The provider.
    ticker, unknown
        A symbol that its simulator serves, as a user writes it, and one that it has not.
    market_ticker
        What the simulated market calls the first.
    spellings
        How it spells what users write.
    derived
        The timeframes that it has not of that symbol's asset type, and what each is made of.
    pages, refusals
        Its recorded answers to requests for bars.
    read_elsewhere
        Recorded answers to other requests, whose readers have tests of their own.
    quota
        A quota in its unit that holds a few calls.
    told
        What its answers tell of the market's bars.
    is_regular
        Whether its minutes and hours are of regular sessions only.
    hours
        From which hour of the exchange's clock to which they are, where it has hours of its own.
    lacks
        The timeframes of that symbol that it has nothing for.
    frame
        The timeframe that is asked for where one is enough.
    says
        What its answers say of themselves, by the faults that contradict it: such an answer is
        refused. What another provider's answers say can't be told of its own.
    """

    provider: Provider
    ticker: str
    market_ticker: str
    unknown: str
    spellings: Mapping[str, str]
    pages: tuple[Page, ...]
    refusals: tuple[Refusal, ...]
    quota: str
    derived: Mapping[Timeframe, Timeframe] = field(default_factory=dict)
    read_elsewhere: frozenset[str] = frozenset()
    told: Callable[[Bars], Bars] = lambda bars: bars
    is_regular: bool = False
    hours: tuple[int, int] | None = None
    lacks: frozenset[Timeframe] = frozenset()
    frame: Timeframe = Timeframe.d1
    says: frozenset[Action] = frozenset()

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider.name

    @property
    def account(self) -> str:
        """The name of the account by which it is asked, which feeds of one service share."""
        return account_name(self.name)

    @property
    def folder(self) -> Path:
        """Where its recorded answers are: those of all feeds of a service."""
        return FIXTURES / self.account

    @property
    def evening_ms(self) -> int:
        """How long before midnight its trade dates begin."""
        return (24 - self.hours[0]) * HOUR_MS if self.hours and self.hours[0] > 12 else 0

    def __str__(self) -> str:
        return self.name
