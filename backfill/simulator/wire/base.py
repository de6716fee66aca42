"""What a wire is: one provider's protocol, as pure functions of a call, the market and the clock.

A wire says what a call is about, what it costs, whether a key is asked for, and what is answered.
When calls are admitted, what goes wrong with them and how answers travel is common to all wires.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

from backfill.core.bars import Bars
from backfill.simulator.market.market import Market

Plan = Literal["unlimited", "free"]
Kind = Literal["bars", "lookup"]

EVERYBODY: Final = "*"
"""Stands among the tickers of a call that is about all there are."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What the provider does not have of a ticker, or of all: a span, or the last ``behind_ms``."""

    ticker: str | None
    behind_ms: int = 0
    span_ms: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One call and all that its answer depends on.

    ``path`` is decoded; ``base_url`` is where the call came. ``lacks`` says what of the market's
    bars is not there to be served; ``used`` how much of the quota's first window is used, with this
    call.
    """

    path: str
    query: Mapping[str, str]
    market: Market
    now_ms: int
    plan: Plan
    base_url: str
    request_id: str
    lacks: tuple[Lack, ...] = ()
    used: int = 0

    def there_until_ms(self, ticker: str) -> int:
        """Return the instant up to which a ticker's bars are there to be served."""
        return self.now_ms - max((lack.behind_ms for lack in self._lacks_of(ticker)), default=0)

    def served(self, ticker: str, base: Bars) -> Bars:
        """Return the minutes or days of a ticker that are there to be served."""
        for lack in self._lacks_of(ticker):
            if lack.span_ms is not None:
                start_ms, end_ms = lack.span_ms
                base = base.take((base.ts_ms < start_ms) | (base.ts_ms >= end_ms))
        return base

    def _lacks_of(self, ticker: str) -> list[Lack]:
        return [lack for lack in self.lacks if lack.ticker in {None, ticker}]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status and a body, a `Blob` or one to encode as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Blob(ABC):
    """A body that is sent as it is, and not as JSON."""

    content_type: ClassVar[str]

    @property
    @abstractmethod
    def data(self) -> bytes:
        """Its bytes."""


class Refused(Exception):
    """The call can't be answered with data."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call is: its kind, the market's tickers that it is about, and what it costs."""

    kind: Kind
    about: tuple[str, ...] = ()
    cost: int = 1


Lie: TypeAlias = Callable[[Ask, Any], Any]
"""Makes of a true body one that says what is not so."""


class Wire(Protocol):
    """The protocol of one provider."""

    name: str
    """Of the provider."""
    lies: Mapping[str, Lie]
    """By the names of faults, those that only this protocol has words for."""

    def tickers(self, market: Market) -> tuple[str, ...]:
        """Return what of the market it serves, by the market's names."""
        ...

    def key_in(self, headers: Mapping[str, str], query: dict[str, str]) -> str | None:
        """Take the key out of a call; None where no key is asked for."""
        ...

    def see(self, path: str, query: Mapping[str, str]) -> Seen:
        """Return what a call is."""
        ...

    def answer(self, method: str, ask: Ask) -> Answer:
        """Answer a call whose key is right and whose turn it is."""
        ...

    def refusal(self, status: int, ask: Ask) -> Answer:
        """Refuse a call, in the provider's words."""
        ...

    def coarser(self, ask: Ask) -> Ask:
        """Return what asks for much longer bars than a call does."""
        ...

    def rows(self, ask: Ask, body: Any) -> Sequence[Any]:
        """Return the bars of a body; none where it holds something else."""
        ...

    def with_rows(self, body: Any, rows: list[Any]) -> Any:
        """Return a body with other bars."""
        ...

    def stamp_ms(self, row: Any) -> int:
        """Return the start of a bar, in epoch ms."""
        ...

    def edited(self, row: Any, values: Mapping[str, Any]) -> Any:
        """Return a bar with other values, by the letters ``t o h l c v vw n``."""
        ...

    def is_of(self, row: Any, ticker: str) -> bool:
        """Whether a bar says that it is of a ticker."""
        ...

    def with_nan(self, data: bytes) -> bytes:
        """Put a bare NaN where the first close was."""
        ...


class Public:
    """What wires have in common that ask for no key, and whose bars don't say whose they are."""

    def key_in(
        self,
        headers: Mapping[str, str],  # noqa: ARG002  # no key is asked for
        query: dict[str, str],  # noqa: ARG002
    ) -> str | None:
        """Ask for no key."""
        return None

    def is_of(self, row: Any, ticker: str) -> bool:  # noqa: ARG002  # they don't say
        """Bars don't say whose they are."""
        return False


def epoch_ms(instant: datetime) -> int:
    """Return epoch milliseconds; an instant without a zone is UTC."""
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)
