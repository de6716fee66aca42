"""What every bar of the simulated market is: the truth that served and stored bars are held to."""

# Over 300 lines: the market is one function of ticker, timeframe and time, with its caches.

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from typing import Final, Literal
from zlib import crc32

import numpy as np

from backfill.core.bars import NO_COUNT, Bars, FloatColumn
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.simulator.market.cache import Cache
from backfill.simulator.market.listings import (
    DIVIDENDS,
    LISTINGS,
    SPLITS,
    TENURES,
    Dividend,
    Listing,
    Split,
    Tenure,
)
from backfill.simulator.market.night import EVENING_MS, night_bars
from backfill.simulator.market.prices import (
    VOLUME_UNIT,
    Path,
    day_bars,
    draw_path,
    minute_bars,
    on_basis,
    roll_up,
)
from backfill.simulator.market.sessions import Grid, Sessions, sessions_of

PATH_BYTES: Final = 150_000_000
MONTH_BYTES: Final = 130_000_000
DAY_BYTES: Final = 20_000_000
"""What a market may hold of what it has drawn; the paths of its whole universe fit."""

_FOREVER_MS: Final = 2**62
_NIGHT: Final = 1

_UNITS: Final[dict[Timeframe, Literal["day", "week", "month"]]] = {
    Timeframe.d1: "day",
    Timeframe.w1: "week",
    Timeframe.mn1: "month",
}


class Market:
    """A deterministic market: a bar depends on the seed, its ticker and its time alone.

    Neither the order in which bars are asked for, nor the process, nor the day matters. Regular
    minutes lie within their day's bar, but an equity's day is not the sum of its minutes. Stocks
    trade at night, too, before every session from ``nights_from`` on.
    """

    def __init__(self, seed: int = 7, nights_from: date | None = None) -> None:
        self.seed = seed
        self._nights_from = (nights_from or date.max).toordinal()
        self._paths = Cache[Path](PATH_BYTES, lambda path: path.nbytes)
        self._months = Cache[Bars](MONTH_BYTES, _nbytes)
        self._pair_days = Cache[Bars](DAY_BYTES, _nbytes)

    @property
    def tickers(self) -> tuple[str, ...]:
        """Every ticker there ever is, the named ones first."""
        return tuple(ticker for ticker in dict.fromkeys((*LISTINGS, *TENURES)) if ticker in TENURES)

    def tenures(self, ticker: str) -> tuple[Tenure, ...]:
        """Return who has ever traded under a ticker, oldest first; nobody under an unknown one."""
        return TENURES.get(ticker, ())

    def owner(self, ticker: str, day: date) -> Listing | None:
        """Return whose a ticker is on a day: the last to have it, unless under a new name now."""
        begun = [tenure for tenure in self.tenures(ticker) if tenure.since <= day]
        if not begun:
            return None
        listing = LISTINGS[begun[-1].company]
        renamed = begun[-1].until <= day and listing.delisted_on is None
        return None if renamed else listing

    def company(self, figi: str) -> Listing | None:
        """Return the company of a FIGI."""
        return next((one for one in LISTINGS.values() if one.figi == figi), None)

    def names(self, company: str, day: date) -> list[tuple[str, date]]:
        """Return the tickers that a company has taken on by a day, the latest first."""
        taken = [
            (ticker, tenure.since)
            for ticker, tenures in TENURES.items()
            for tenure in tenures
            if tenure.company == company and tenure.since <= day
        ]
        return sorted(taken, key=lambda name: name[1], reverse=True)

    def listing(self, ticker: str) -> Listing:
        """Return the company that is listed under a ticker last; KeyError for an unknown one."""
        return LISTINGS[ticker]

    def sessions(self, ticker: str) -> Sessions:
        """Return the trading days of the market on which a ticker is listed."""
        return sessions_of(LISTINGS[ticker].market)

    def splits(self) -> tuple[Split, ...]:
        """Return every split that is ever listed, also one that never happens."""
        return SPLITS

    def dividends(self) -> tuple[Dividend, ...]:
        """Return every dividend that is ever listed."""
        return DIVIDENDS

    def bars(
        self,
        ticker: str,
        timeframe: Timeframe,
        start_ms: int,
        end_ms: int,
        *,
        adjusted: bool = False,
        regular: bool = False,
        hours: tuple[int, int] | None = None,
        now_ms: int | None = None,
    ) -> Bars:
        """Return the bars that start in ``[start_ms, end_ms)``, on the canonical grid.

        Weeks start on Monday, those of crypto too. With ``now_ms`` these are the bars that have
        ended by then, adjusted for the splits known by then. With ``regular`` minutes and hours are
        made of what traded in regular sessions, with ``hours`` of what traded in sessions from one
        hour of the clock to another.
        """
        now = _FOREVER_MS if now_ms is None else now_ms
        sessions = self.sessions(ticker)
        zone = sessions.zone
        start_ms, end_ms = zone.clamp(start_ms), zone.clamp(end_ms)
        if start_ms >= end_ms:
            return Bars.empty()
        daily = not timeframe.is_intraday
        grid = (
            Grid(zone, _UNITS[timeframe]) if daily else Grid(zone, "intraday", timeframe.length_ms)
        )
        base = self.base(
            ticker,
            *grid.snap(start_ms, end_ms - 1),
            daily=daily,
            adjusted=adjusted,
            now_ms=now,
        )
        if regular and not daily:
            base = (part.take(sessions.is_regular(part.ts_ms)) for part in base)
        if hours is not None and not daily:
            base = (part.take(sessions.is_within(part.ts_ms, *hours)) for part in base)
        bars = Bars.concat([roll_up(part, grid.floor(part.ts_ms))[0] for part in base])
        starts = bars.ts_ms
        return bars.take((starts >= start_ms) & (starts < end_ms) & (grid.ends(starts) <= now))

    def base(
        self,
        ticker: str,
        start_ms: int,
        end_ms: int,
        *,
        daily: bool,
        adjusted: bool,
        now_ms: int,
        newest_first: bool = False,
    ) -> Iterator[Bars]:
        """Yield the base aggregates that start in a range: minutes or days, known at an instant.

        Days come in one part; minutes month by month, since a bar made of minutes never spans two
        months. A part is sorted in itself. A bar that the instant lies within is the bar so far.
        """
        end_ms = min(end_ms, now_ms)
        if daily:
            yield self._days(ticker, start_ms, end_ms, now_ms, adjusted=adjusted)
            return
        sessions, life = self.sessions(ticker), self._life(ticker)
        evening_ms = 0 if LISTINGS[ticker].is_pair else EVENING_MS
        months = _months(sessions, life, start_ms + evening_ms, end_ms + evening_ms)
        for year_month, rows in reversed(months) if newest_first else months:
            minutes = self._minutes(ticker, year_month, rows)
            minutes = minutes.take(
                slice(*(int(at) for at in np.searchsorted(minutes.ts_ms, (start_ms, end_ms))))
            )
            if len(minutes):
                yield _so_far(self._basis(ticker, minutes, now_ms, adjusted=adjusted), now_ms)

    def _days(
        self, ticker: str, start_ms: int, end_ms: int, now_ms: int, *, adjusted: bool
    ) -> Bars:
        sessions, life = self.sessions(ticker), self._life(ticker)
        first, last = np.searchsorted(sessions.midnight_ms[life], (start_ms, end_ms)) + life.start
        rows = slice(int(first), int(last))
        midnights = sessions.midnight_ms[rows]
        forming = len(midnights) > 0 and now_ms < sessions.zone.next_midnight(int(midnights[-1]))
        whole = slice(rows.start, rows.stop - 1) if forming else rows
        days = self._whole_days(ticker, whole)
        days = self._basis(ticker, days, now_ms, adjusted=adjusted)
        if not forming:
            return days
        parts = list(
            self.base(
                ticker, int(midnights[-1]), now_ms, daily=False, adjusted=adjusted, now_ms=now_ms
            )
        )
        today = Bars.concat(parts)
        return Bars.concat([days, roll_up(today, np.full(len(today), midnights[-1]))[0]])

    def _whole_days(self, ticker: str, rows: slice) -> Bars:
        """Return the raw bars of some sessions: a day of a pair is the sum of its minutes."""
        listing, sessions, life = LISTINGS[ticker], self.sessions(ticker), self._life(ticker)
        midnights = sessions.midnight_ms[rows]
        if not len(midnights):
            return Bars.empty()
        if listing.is_pair:
            end_ms = int(midnights[-1]) + 1
            days = Bars.concat(
                [
                    self._pair_month(ticker, year_month, month)
                    for year_month, month in _months(sessions, life, int(midnights[0]), end_ms)
                ]
            )
            return days.take((days.ts_ms >= midnights[0]) & (days.ts_ms < end_ms))
        path = self._path(ticker).take(slice(rows.start - life.start, rows.stop - life.start))
        days = day_bars(listing, path, self._raw_factor(ticker, midnights), midnights)
        halted = [day.toordinal() for day in listing.halted]
        return days.take(~np.isin(sessions.ordinals[rows], halted))

    def _pair_month(self, ticker: str, year_month: tuple[int, int], rows: slice) -> Bars:
        def rolled() -> Bars:
            minutes = self._minutes(ticker, year_month, rows)
            day = Grid(self.sessions(ticker).zone, "day")
            return roll_up(minutes, day.floor(minutes.ts_ms))[0]

        return self._pair_days.get((ticker, year_month), rolled)

    def _minutes(self, ticker: str, year_month: tuple[int, int], rows: slice) -> Bars:
        """Return the raw minutes of a month; ``rows`` are its sessions in the ticker's life."""

        def drawn() -> Bars:
            listing, sessions = LISTINGS[ticker], self.sessions(ticker)
            offset = self._life(ticker).start
            path = self._path(ticker).take(slice(rows.start - offset, rows.stop - offset))
            factor = self._raw_factor(ticker, sessions.midnight_ms[rows])
            seed = [self.seed, crc32(ticker.encode()), *year_month]
            days = minute_bars(np.random.default_rng(seed), listing, path, factor, sessions, rows)
            if listing.is_pair or sessions.ordinals[rows.stop - 1] < self._nights_from:
                return days
            first = int(np.searchsorted(sessions.ordinals[rows], self._nights_from))
            nights = night_bars(
                np.random.default_rng([*seed, _NIGHT]),
                listing,
                path.take(slice(first, None)),
                factor[first:],
                sessions.ordinals[rows][first:],
                sessions.midnight_ms[rows][first:],
            )
            both = Bars.concat([days, nights])
            return both.take(np.argsort(both.ts_ms, kind="stable"))

        return self._months.get((ticker, year_month), drawn)

    def _path(self, ticker: str) -> Path:
        def drawn() -> Path:
            rng = np.random.default_rng([self.seed, crc32(ticker.encode())])
            ordinals = self.sessions(ticker).ordinals[self._life(ticker)]
            return draw_path(rng, LISTINGS[ticker], ordinals)

        return self._paths.get(ticker, drawn)

    def _life(self, ticker: str) -> slice:
        """Return the sessions on which a ticker is listed."""
        listing, ordinals = LISTINGS[ticker], self.sessions(ticker).ordinals
        last = (listing.delisted_on or date.max).toordinal()
        return slice(
            int(np.searchsorted(ordinals, listing.list_date.toordinal())),
            int(np.searchsorted(ordinals, last, side="right")),
        )

    def _raw_factor(self, ticker: str, ts_ms: np.ndarray) -> FloatColumn:
        """Return how many of today's shares one share was at each instant."""
        factor = np.ones(len(ts_ms))
        for split, at_ms in self._happened(ticker):
            factor[ts_ms < at_ms] *= split.split_to / split.split_from
        return factor

    def _basis(self, ticker: str, bars: Bars, now_ms: int, *, adjusted: bool) -> Bars:
        """Put raw bars on the share basis of an instant: splits count once they are announced."""
        factor = np.ones(len(bars))
        if adjusted:
            zone = self.sessions(ticker).zone
            for split, at_ms in self._happened(ticker):
                if max(at_ms, zone.midnight(split.announced)) <= now_ms:
                    factor[bars.ts_ms < at_ms - EVENING_MS] *= split.split_from / split.split_to
        return on_basis(bars, factor) if (factor != 1.0).any() else bars

    def _happened(self, ticker: str) -> list[tuple[Split, int]]:
        """Return the ticker's true splits, with the midnight from which they hold."""
        zone = self.sessions(ticker).zone
        return [
            (split, zone.midnight(split.execution_date))
            for split in SPLITS
            if (split.company or split.ticker) == ticker and split.happened
        ]


def _months(
    sessions: Sessions, life: slice, start_ms: int, end_ms: int
) -> list[tuple[tuple[int, int], slice]]:
    """Return the months that a range touches, each with its sessions within a ticker's life."""
    first = int(np.searchsorted(sessions.midnight_ms, start_ms, side="right")) - 1
    last = int(np.searchsorted(sessions.midnight_ms, end_ms))
    first, last = max(first, life.start), min(last, life.stop)
    months = []
    while first < last:
        day = date.fromordinal(int(sessions.ordinals[first]))
        begin = date(day.year, day.month, 1).toordinal()
        end = date(day.year + day.month // 12, day.month % 12 + 1, 1).toordinal()
        within = np.searchsorted(sessions.ordinals, (begin, end))
        rows = slice(max(int(within[0]), life.start), min(int(within[1]), life.stop))
        months.append(((day.year, day.month), rows))
        first = rows.stop
    return months


def _so_far(minutes: Bars, now_ms: int) -> Bars:
    """Cut the last minute down to what it is at an instant within it."""
    elapsed = (now_ms - int(minutes.ts_ms[-1])) / MINUTE_MS
    if elapsed >= 1.0:
        return minutes
    last = minutes.take(slice(-1, None))
    units = np.ceil(last.volume * elapsed / VOLUME_UNIT)
    counted = last.trade_count != NO_COUNT
    forming = replace(
        last,
        high=last.open,
        low=last.open,
        close=last.open,
        volume=units * VOLUME_UNIT,
        vwap=np.where(np.isnan(last.vwap), np.nan, last.open),
        trade_count=np.where(counted, np.ceil(last.trade_count * elapsed), NO_COUNT).astype(
            np.int64
        ),
    )
    return Bars.concat([minutes.take(slice(-1)), forming])


def _nbytes(bars: Bars) -> int:
    return sum(getattr(bars, field.name).nbytes for field in fields(bars))
