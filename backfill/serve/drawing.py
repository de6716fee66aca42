"""A series as the drawing library is fed with it: checked here, since its production build isn't.

The library takes times in seconds that rise, each once, and prices that are finite numbers in their
order; of anything else it draws nonsense or nothing. Days, weeks and months stand at midnight UTC
of their date, as the library names days by UTC.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from math import floor, isfinite, log10
from operator import itemgetter
from typing import Any, Final, NamedTuple

from backfill.audit.picture import Missing, Picture
from backfill.core.calendar import bar_begins, trade_date
from backfill.core.splits import Status
from backfill.store.history import StoredBar
from backfill.store.times import to_ms

_LARGEST: Final = 9e13
"""Beyond some 9.007e13 the library's own numbers give out."""
_DIGITS: Final = 5
_LEAST_DECIMALS: Final = 2
_MOST_DECIMALS: Final = 12


class Candle(NamedTuple):
    """A bar at a time in seconds."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that isn't a bar, at a time in seconds: what it is, and in words."""

    time: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: candles, places without one, spans of time that are shaded, and marks.

    ``blank`` are places on the axis of time that have no bar. The bars in ``left_out`` can't be
    drawn, each with the reason.
    """

    candles: tuple[Candle, ...]
    blank: tuple[int, ...]
    extended: tuple[tuple[int, int], ...]
    marks: tuple[Mark, ...]
    left_out: tuple[tuple[datetime, str], ...]
    decimals: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types, bars as columns."""
        return {
            "bars": {
                name: [candle[place] for candle in self.candles]
                for place, name in enumerate(Candle._fields)
            },
            "blank": list(self.blank),
            "extended": [list(span) for span in self.extended],
            "marks": [{"time": one.time, "kind": one.kind, "text": one.text} for one in self.marks],
            "left_out": len(self.left_out),
            "decimals": self.decimals,
        }


def drawn(picture: Picture) -> Drawing:
    """Return what is drawn of a picture."""
    candles: list[Candle] = []
    left_out: list[tuple[datetime, str]] = []
    outside: list[bool] = []
    for bar, is_regular in zip(picture.bars, picture.is_regular, strict=True):
        candle = _candle(_time(picture, to_ms(bar.ts)), bar)
        if isinstance(candle, str):
            left_out.append((bar.ts, candle))
        elif candles and candle.time <= candles[-1].time:
            left_out.append((bar.ts, "it stands no later than the bar before it"))
        else:
            candles.append(candle)
            outside.append(not is_regular)
    times = [candle.time for candle in candles]
    marks = sorted(_marks(picture, times), key=lambda mark: (mark.time, mark.kind))
    empty = {_time(picture, at) for one in picture.missing for at in one.starts_ms}
    blank = sorted((empty | {mark.time for mark in marks}).difference(times))
    return Drawing(
        candles=tuple(candles),
        blank=tuple(blank),
        extended=tuple(_runs(zip(times, outside, strict=True))),
        marks=tuple(marks),
        left_out=tuple(left_out),
        decimals=_decimals([candle.close for candle in candles]),
    )


def _candle(time: int, bar: StoredBar) -> Candle | str:
    """Return a bar as it is drawn, or why it can't be."""
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    given = [number for number in numbers if number is not None]
    if len(given) < len(numbers):
        return "a number is missing"
    if not all(isfinite(number) and abs(number) <= _LARGEST for number in given):
        return "a number is too large, or none"
    candle = Candle(time, *given)
    if not all(candle.low <= price <= candle.high for price in (candle.open, candle.close)):
        return "its prices contradict each other"
    return candle


def _time(picture: Picture, at_ms: int) -> int:
    """Return where an instant stands on the axis of time, in seconds."""
    if picture.timeframe.is_intraday:
        return at_ms // 1000
    day = trade_date(picture.symbol.calendar, at_ms)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _marks(picture: Picture, times: list[int]) -> Iterator[Mark]:
    for one in picture.missing:
        yield Mark(_time(picture, one.starts_ms[0]), "gap", missing_text(one))
    for rejected in picture.beside.rejected:
        at = _time(picture, to_ms(rejected.ts))
        yield Mark(at, "quarantined", rejected.reason.replace("_", " "))
    for split in picture.beside.splits:
        applied = "" if split.status == Status.applied else f" ({split.status})"
        for time in _on(picture, split.on, times):
            yield Mark(time, "split", f"split {split.ratio}{applied}")
    for paid in picture.beside.dividends:
        for time in _on(picture, paid.on, times):
            yield Mark(time, "dividend", f"dividend {paid.amount:g} {paid.currency}")


def missing_text(one: Missing) -> str:
    """Return a gap in words."""
    bars = "1 bar" if one.gap.slots == 1 else f"{one.gap.slots:,} bars"
    return f"{bars} {one.gap.reason.replace('_', ' ') if one.gap.reason else 'missing'}"


def _on(picture: Picture, day: date, times: list[int]) -> list[int]:
    """Return the time of the first bar from a day, or the week or month that holds it, on.

    It is the only one, where there is such a bar.
    """
    begins = _time(picture, bar_begins(picture.symbol.calendar, day, picture.timeframe))
    at = bisect_left(times, begins)
    return times[at : at + 1]


def _runs(outside: Iterable[tuple[int, bool]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last time of bars in a row that lie outside of the session."""
    for lies_outside, run in groupby(outside, key=itemgetter(1)):
        if lies_outside:
            times = [time for time, _ in run]
            yield times[0], times[-1]


def _decimals(closes: list[float]) -> int:
    """Return how many decimals show a usual price with five digits."""
    usual = sorted(closes)[len(closes) // 2] if closes else 0
    if usual <= 0:
        return _LEAST_DECIMALS
    return min(max(_DIGITS - 1 - floor(log10(usual)), _LEAST_DECIMALS), _MOST_DECIMALS)
