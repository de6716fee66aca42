"""Taking over the database of another system, and what of its bars lies off the grid."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import uuid4

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.calendar import Calendar
from backfill.core.checks import Reason
from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.settings import Settings
from backfill.store.adopt import (
    Adoption,
    adopt,
    decide,
    finish,
    found_series,
    set_aside,
)
from backfill.store.gaps import stored_ms
from backfill.store.merge import withdraw_bars
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.source import EVER
from backfill.store.times import to_time

_SLICE: Final = 10_000


@dataclass(frozen=True, slots=True)
class OffGrid:
    """The stored bars of a series that start no slot of it.

    ``twins`` counts the slots that two stamps or more name: one session stored twice.
    """

    series: Series
    bars: int
    twins: int
    first: datetime


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of a database that was taken over.

    ``bars`` were there before, and all of them still are but for ``cleaned``, which went to
    quarantine. ``set_aside`` says why nothing is fetched for a symbol.
    """

    steps: tuple[str, ...]
    applied: list[str]
    bars: int
    set_aside: dict[str, str]
    off_grid: list[OffGrid]
    cleaned: int

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "steps": list(self.steps),
            "applied": self.applied,
            "bars": self.bars,
            "set_aside": self.set_aside,
            "off_grid": [
                {
                    "symbol": one.series.symbol.ticker,
                    "timeframe": str(one.series.timeframe),
                    "bars": one.bars,
                    "twins": one.twins,
                    "first": one.first.isoformat(),
                }
                for one in self.off_grid
            ],
            "cleaned": self.cleaned,
        }


async def take_over(
    database: Database,
    settings: Settings,
    *,
    clean: bool,
    tell: Callable[[Adoption], None],
) -> Adopted:
    """Adopt the tables that are there; ``tell`` hears what will be done before it is.

    What an earlier call decided is gone on with from wherever it stood. Rows off the grid stay, or
    go to quarantine if ``clean`` is set, here or in that decision. No coverage is taken from
    rows: what a run finds missing it asks for, whatever they hold.

    Raises
    ------
    UsageError, SchemaMismatch
        If there is nothing to adopt, or it can't be.
    """
    standing = await database.run(partial(decide, provider=settings.provider.name, clean=clean))
    adoption, clean = standing.adoption, standing.clean
    tell(adoption)
    applied = await adopt(database, standing)
    found = await database.run(found_series)
    today = datetime.now(UTC).date()
    calendars = {
        name: await load_calendar(
            database,
            name,
            settings.provider.can.feed,
            min(one.oldest for one in found if one.series.symbol.calendar == name).date(),
            today,
        )
        for name in sorted({one.series.symbol.calendar for one in found})
    }
    off_grid, cleaned = [], 0
    for one in sorted(found, key=lambda one: (one.series.symbol.ticker, one.series.timeframe)):
        strays, reported = await _off_grid(
            database, one.series, calendars[one.series.symbol.calendar]
        )
        if reported is not None:
            off_grid.append(reported)
        if clean and len(strays):
            await _clean(database, one.series, strays)
            cleaned += len(strays)
    await database.run(partial(finish, cleaned=clean))
    return Adopted(
        steps=adoption.steps,
        applied=applied,
        bars=sum(one.bars for one in found),
        set_aside=await database.run(set_aside),
        off_grid=off_grid,
        cleaned=cleaned,
    )


async def _off_grid(
    database: Database, series: Series, calendar: Calendar
) -> tuple[IntColumn, OffGrid | None]:
    """Return the stamps of a series that start no slot of it, and what to say of them."""

    async def load(connection: Connection) -> IntColumn:
        return (await stored_ms(connection, {series: Spans.of(EVER)}))[series]

    stamps = np.sort(await database.run(load))
    slots, inside = calendar.grid(series.timeframe).floor(
        calendar.canonical(series.timeframe, stamps)
    )
    strays = stamps[~(inside & (slots == stamps))]
    if not len(strays):
        return strays, None
    _, held = np.unique(slots[inside], return_counts=True)
    return strays, OffGrid(
        series, len(strays), int(np.count_nonzero(held > 1)), to_time(int(strays[0]))
    )


async def _clean(database: Database, series: Series, strays: IntColumn) -> None:
    """Move stored bars to quarantine, some at a time."""
    run_id = uuid4()
    for start in range(0, len(strays), _SLICE):
        starts = [to_time(ms) for ms in strays[start : start + _SLICE].tolist()]

        async def move(connection: Connection, starts: list[datetime] = starts) -> None:
            await withdraw_bars(connection, run_id, series, starts, Reason.off_grid)

        await database.run(move)
