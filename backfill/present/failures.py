"""Failures in blocks: those of one cause are told of once, with how many series share it."""

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from backfill.core.dataclass import dataclass
from backfill.core.plain import argument
from backfill.core.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backfill.run.outcomes import Failure

_NUMBERS: Final = re.compile(r"\d[\d.,:TZ-]*")
_ORDER: Final = {str(timeframe): place for place, timeframe in enumerate(Timeframe)}
_LISTED: Final = 12


@dataclass(frozen=True, slots=True)
class Block:
    """Series that failed for one cause.

    ``message`` is the first one's; ``varies`` tells that others name their own ticker or numbers
    in it. ``symbols`` are in order, timeframes from the finest on.
    """

    outcome: str
    message: str
    varies: bool
    provider: str
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    series: int

    @property
    def counted(self) -> str:
        """How many series these are, and of which timeframes.

        >>> Block("x", "", False, "", ("A", "B"), ("h1", "d1"), 4).counted
        '4 series: 2 symbols × h1 d1'
        """
        timeframes = " ".join(self.timeframes)
        if self.series == 1:
            return f"{self.symbols[0]} {timeframes}"
        symbols = f"{len(self.symbols):,} symbols" if len(self.symbols) > 1 else self.symbols[0]
        return f"{self.series:,} series: {symbols} × {timeframes}"

    def named(self, most: int = _LISTED) -> str:
        """Name the symbols, the first of them if there are many."""
        more = len(self.symbols) - most
        named = " ".join(self.symbols[:most])
        return f"{named} and {more:,} more" if more > 0 else named

    @property
    def why(self) -> str:
        """The message, marked as an example where the others differ in a name or a number."""
        return f"such as: {self.message}" if self.varies else self.message


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends failures: something to type or to set, with the words around it."""

    what: str
    before: str = ""
    after: str = ""


def remedy(block: Block, most: int) -> Remedy | None:
    """Return what mends the failures of a block, naming some symbols at most.

    A mismatch of sources names it in its own message.
    """
    named = block.symbols[:most]
    symbols = argument(",".join(named))
    timeframes = "".join(f" --timeframe {one}" for one in block.timeframes)
    match block.outcome:
        case "source_mismatch":
            return None
        case "not_entitled":
            return Remedy("BACKFILL_PLAN", before="set ", after=" to the plan that you have")
        case "unknown_symbol":
            command = " ".join(["backfill watch remove", *map(argument, named)])
        case "quarantined":
            each = "".join(f" --symbol {argument(one)}" for one in named)
            command = f"backfill quarantine list{each}{timeframes}"
        case _ if len(named) == 1:
            command = f"backfill run --symbol {symbols}{timeframes}"
        case _:
            command = f"backfill run --symbols {symbols}{timeframes}"
    return Remedy(command, after=", then the others" if len(named) < len(block.symbols) else "")


def blocks(failures: "Iterable[Failure]") -> list[Block]:
    """Return failures by their cause, the causes of the most series first.

    Messages that differ only in the ticker, or in numbers, tell of one cause.
    """
    alike: dict[tuple[str, str, str], list[Failure]] = defaultdict(list)
    for one in failures:
        alike[one.outcome, one.provider, _cause(one)].append(one)
    found = [_block(some) for some in alike.values()]
    return sorted(found, key=lambda block: -block.series)


def _cause(failure: "Failure") -> str:
    """Return a message without what is its own series'."""
    ticker = re.escape(failure.symbol)
    text = re.sub(rf"(?<![\w.]){ticker}(?![\w])", "\0", failure.message)
    return _NUMBERS.sub("0", text)


def _block(failures: "list[Failure]") -> Block:
    first = failures[0]
    timeframes = Counter(one.timeframe for one in failures)
    return Block(
        outcome=first.outcome,
        message=first.message,
        varies=any(one.message != first.message for one in failures),
        provider=first.provider,
        symbols=tuple(sorted({one.symbol for one in failures})),
        timeframes=tuple(sorted(timeframes, key=lambda one: _ORDER.get(one, len(_ORDER)))),
        series=len(failures),
    )
