"""Rows of a file: which series each is of, as the file names it or the user does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from backfill.core.bars import NO_STAMPS, Bars, IntColumn
from backfill.core.cells import BadRow
from backfill.core.series import IMPORT, ticker_traits
from backfill.core.stamps import NO_ZONE, Stamps, Told
from backfill.core.ticker import Ticker, spelling, spelling_of
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.errors import UsageError


class Key(NamedTuple):
    """A series as a file names it."""

    ticker: str
    timeframe: Timeframe

    def __str__(self) -> str:
        return f"{self.ticker} {self.timeframe}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the user says of a file.

    ``symbols`` and ``timeframes`` are what its bars are of where it has no column for that, and
    otherwise those that are wanted of it, all without any. ``columns`` are the names of columns by
    what they hold, as `headings.FIELDS`; ``zone`` is that of times without an offset.
    """

    symbols: tuple[str, ...] = ()
    timeframes: tuple[Timeframe, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    zone: ZoneInfo | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Some rows of one series, in the file's order; ``numbers`` are their lines, or rows, in it.

    ``elsewhere_ms`` are the stamps of those of a day or longer that were written as a midnight, or
    as a day, by another clock than UTC's.
    """

    key: Key
    bars: Bars
    numbers: IntColumn
    elsewhere_ms: IntColumn = field(default_factory=lambda: NO_STAMPS)


class Sorter:
    """Sorts the rows of a file by their series, as it names them or as the user does."""

    def __init__(self, reading: Reading, *, names_symbol: bool, names_timeframe: bool) -> None:
        wanted = {spelling(one): one for one in reading.symbols}
        self._timeframes = {str(one): one for one in reading.timeframes}
        self._wanted = wanted if names_symbol else {}
        self._tickers: dict[str, str] = {}
        self._first_named: dict[str, str] = {}
        self._keys: dict[tuple[str | None, str | None], Key | None] = {}
        if not names_symbol:
            if len(wanted) != 1:
                raise UsageError("the file names no symbol: say which its bars are of, --symbol S")
            [self._only_ticker] = wanted.values()
            _see_ticker(self._only_ticker)
        if not names_timeframe:
            if len(self._timeframes) != 1:
                raise UsageError(
                    "the file names no timeframe: say which its bars are of, --timeframe T"
                )
            [self._only_timeframe] = self._timeframes.values()

    def sort(
        self,
        tickers: Sequence[str] | None,
        timeframes: Sequence[str] | None,
        bars: Bars,
        told: Stamps,
        numbers: IntColumn,
    ) -> list[Rows]:
        """Return rows by their series; those of no wanted one are passed over.

        Raises
        ------
        BadRow
            If one names a symbol or timeframe that there can't be, or no instant where it has to.
        """
        found = []
        for key, rows in self._parted(tickers, timeframes, len(bars)):
            mine, what = bars.take(rows), told.told[rows]
            elsewhere = NO_STAMPS
            if key.timeframe.is_intraday:
                vague = np.flatnonzero((what == Told.day) | (what == Told.midnight))
                if len(vague):
                    is_day = what[vague[0]] == Told.day
                    why = f"a day without a time begins no {key.timeframe} bar"
                    raise BadRow(_at(rows, int(vague[0])), why if is_day else NO_ZONE)
            else:
                elsewhere = mine.ts_ms[(what != Told.instant) & (mine.ts_ms % DAY_MS != 0)]
            found.append(Rows(key, mine, numbers[rows], elsewhere))
        return found

    def _parted(
        self, tickers: Sequence[str] | None, timeframes: Sequence[str] | None, count: int
    ) -> Iterator[tuple[Key, slice | IntColumn]]:
        if tickers is None and timeframes is None:
            yield Key(self._only_ticker, self._only_timeframe), slice(count)
            return
        places: dict[tuple[str | None, str | None], int] = {}
        unnamed: Sequence[str | None] = (None,) * count
        pairs = zip(
            unnamed if tickers is None else tickers,
            unnamed if timeframes is None else timeframes,
            strict=True,
        )
        codes = np.fromiter((places.setdefault(one, len(places)) for one in pairs), np.int64, count)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(places) + 1))
        merged: dict[Key, list[IntColumn]] = {}
        for pair, code in places.items():
            rows = order[bounds[code] : bounds[code + 1]]
            if pair not in self._keys:
                self._keys[pair] = self._key(pair, int(rows[0]))
            if (key := self._keys[pair]) is not None:
                merged.setdefault(key, []).append(rows)
        for key, parts in merged.items():
            yield key, parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))

    def _key(self, pair: tuple[str | None, str | None], row: int) -> Key | None:
        """Return the series that a row names; None for one that isn't wanted."""
        ticker, timeframe = pair
        try:
            named = self._only_ticker if ticker is None else self._ticker(ticker)
        except UsageError as error:
            raise BadRow(row, str(error)) from None
        if timeframe is None:
            kept = self._only_timeframe
        elif timeframe in set(Timeframe):
            kept = Timeframe(timeframe)
        else:
            raise BadRow(row, f"timeframe {timeframe!r} is not one of: {' '.join(Timeframe)}")
        if timeframe is not None and self._timeframes and kept not in self._timeframes.values():
            return None
        return None if named is None else Key(named, kept)

    def _ticker(self, text: str) -> str | None:
        """Return a ticker as it was written first; None for one that isn't wanted."""
        if self._wanted:
            return self._wanted.get(spelling_of(text))
        _see_ticker(text)
        return self._first_named.setdefault(spelling(text), text)


def _see_ticker(text: str) -> None:
    """See that bars of a file may be of a symbol.

    Raises
    ------
    UsageError
        If it is none that is kept, or a provider's own bars of one.
    """
    ticker_traits(text)
    venue = Ticker.read(text).provider
    if venue not in {None, IMPORT}:
        plain = Ticker.read(text).plain
        raise UsageError(
            f"{text} is what {venue} itself is asked for: import into {plain}, or {plain}@{IMPORT}"
        )


def _at(rows: slice | IntColumn, index: int) -> int:
    return index if isinstance(rows, slice) else int(rows[index])
