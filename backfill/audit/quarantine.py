"""Asking again for bars in quarantine: their slots leave the coverage, and a run does the rest."""

from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import structlog

from backfill.core.bars import IntColumn
from backfill.core.coverage import Spans
from backfill.core.grid import Grid
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.errors import NoCalendar
from backfill.store import progress, status, universe
from backfill.store.empty import reopen
from backfill.store.pool import Connection, Database
from backfill.store.quarantine import Choice, QuarantinedBar, quarantined_bars
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Reopened:
    """A series of which the next run asks again for some slots, and how many."""

    symbol: str
    timeframe: Timeframe
    slots: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {"symbol": self.symbol, "timeframe": str(self.timeframe), "slots": self.slots}


async def retry(database: Database, choice: Choice, feed: str, today: date) -> list[Reopened]:
    """Take the slots of the chosen bars out of coverage, and return of which series.

    These are the bars' own series and those rolled up from them. Nothing is asked again for a bar
    that lies in no slot, such as one stamped on a Saturday, for a slot that was never covered,
    where the table holds a bar by now, or of a retired symbol.
    """
    bars = await database.run(partial(quarantined_bars, choice=choice))
    lacking = [bar for bar in bars if not bar.stored and "@" not in bar.symbol]
    found: list[Reopened] = []
    for ticker, group in groupby(lacking, key=lambda bar: bar.symbol):
        try:
            found += await _retry(database, ticker, list(group), feed, today)
        except NoCalendar as error:
            log.warning("series.left_out", symbol=ticker, message=str(error))
    return found


async def _retry(
    database: Database, ticker: str, bars: list[QuarantinedBar], feed: str, today: date
) -> list[Reopened]:
    """Reopen the slots of one symbol's bars, in one transaction, finest timeframe first."""
    [symbol] = await database.run(partial(universe.by_ticker, tickers=[ticker]))
    first = min(bar.ts for bar in bars).date()
    calendar = await load_calendar(database, symbol.calendar, feed, first, today)

    async def work(connection: Connection) -> list[Reopened]:
        series = [
            Series(symbol, timeframe)
            for symbol_id, timeframe in await status.claimed_series(connection)
            if symbol_id == symbol.id
        ]
        known = await progress.load_progress(connection, series)
        found = []
        for one in series:
            source = known[one.key].source
            origins = {one.timeframe, source.derived_from if source else None}
            stamps = np.array([to_ms(bar.ts) for bar in bars if bar.timeframe in origins], np.int64)
            grid = calendar.grid(one.timeframe)
            slots = _slots_around(grid, calendar.canonical(one.timeframe, stamps))
            spans = slots & known[one.key].coverage
            if spans:
                await progress.invalidate(connection, one, spans)
                await reopen(connection, one, spans)
                found.append(Reopened(ticker, one.timeframe, sum(map(grid.count, spans))))
        return found

    return await database.run(work)


def _slots_around(grid: Grid, ts_ms: IntColumn) -> Spans:
    slots, inside = grid.floor(ts_ms)
    return Spans.union(grid.widen((start, start + 1)) for start in slots[inside].tolist())
