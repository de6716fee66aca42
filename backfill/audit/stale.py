"""Which of some series are stale, in a database that a run has just left."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from backfill.audit.status import judged, silent
from backfill.audit.tracked import tracked_series
from backfill.core.freshness import State
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.run.job import Scope
from backfill.settings import Settings
from backfill.store import status as store
from backfill.store.pool import Database

_NAMED: Final = 100
"""So many symbols are looked up by name; beyond that all of them are."""


async def stale_states(
    database: Database, settings: Settings, now: datetime, series: Collection[Series]
) -> dict[tuple[SymbolId, Timeframe], State]:
    """Return the state of those of some series, by their keys, that are kept and aren't fresh.

    Bars aren't counted for that, as `backfill.audit.status` does: it is asked after each run.

    Raises
    ------
    DatabaseError
        If the database can't be used.
    """
    tickers = list(dict.fromkeys(one.symbol.ticker for one in series))
    timeframes = list(dict.fromkeys(one.timeframe for one in series))
    scope = Scope(tickers if len(tickers) <= _NAMED else None, timeframes)
    tracked = await tracked_series(database, settings, now, scope, missing_ok=True)
    asked = {one.key for one in series}
    due = [(one, one.due(now)) for one in tracked if one.judged and one.series.key in asked]
    asks = list(silent((one, span, one.known.newest_bar_ms) for one, span in due))
    quiet = await database.run(lambda connection: store.silences(connection, asks))
    states = {
        one.series.key: judged(
            one, span, one.known.newest_bar_ms, quiet.get(one.series, store.Quiet())
        )[0]
        for one, span in due
    }
    return {key: state for key, state in states.items() if state is not State.fresh}
