"""What a table must hold, by the simulated market alone, and the calls that filled it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backfill.core.bars import NO_COUNT
from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator

Row = tuple[Any, ...]

NEW_YORK = ZoneInfo("America/New_York")


def midnight_ms(day: date, ticker: str) -> int:
    """Return the start of a day where a ticker trades."""
    zone = ZoneInfo("UTC") if ticker.startswith("X:") else NEW_YORK
    moment = datetime.combine(day, time())
    if ticker.startswith("C:"):
        moment -= timedelta(hours=7)
    return round(moment.replace(tzinfo=zone).timestamp() * 1000)


def true_bars(
    market: Market,
    ticker: str,
    timeframe: Timeframe,
    first: date,
    until: date,
    now: datetime | None = None,
    *,
    adjusted: bool = False,
) -> list[Row]:
    """Return the bars that start from the day ``first`` to before ``until``, ended by ``now``."""
    bars = market.bars(
        ticker,
        timeframe,
        midnight_ms(first, ticker),
        midnight_ms(until, ticker),
        adjusted=adjusted,
        now_ms=round(now.timestamp() * 1000) if now else None,
    )
    return [
        (
            *values,
            None if math.isnan(vwap) else vwap,
            None if count == NO_COUNT else count,
        )
        for *values, vwap, count in zip(
            bars.ts_ms.tolist(),
            bars.open.tolist(),
            bars.high.tolist(),
            bars.low.tolist(),
            bars.close.tolist(),
            bars.volume.tolist(),
            bars.vwap.tolist(),
            bars.trade_count.tolist(),
            strict=True,
        )
    ]


def assert_same(stored: Sequence[Row], true: Sequence[Row], *, rolled_up: bool = False) -> None:
    """Compare rows to the last bit.

    Of rolled-up bars the volume may differ in the last bits of a sum, and the vwap by a
    ten-thousandth.
    """
    assert true, "a comparison with nothing proves nothing"
    assert [row[0] for row in stored] == [row[0] for row in true]
    if not rolled_up:
        assert list(stored) == list(true)
        return
    for mine, theirs in zip(stored, true, strict=True):
        assert (mine[:5], mine[7]) == (theirs[:5], theirs[7])
        assert math.isclose(mine[5], theirs[5], rel_tol=1e-9)
        assert (mine[6] is None) == (theirs[6] is None)
        assert mine[6] is None or math.isclose(mine[6], theirs[6], rel_tol=1e-4)


@dataclass(frozen=True, order=True)
class Asked:
    """A call for bars, as its path spells it; one for a grouped day is of the ticker ``*``."""

    ticker: str
    unit: str
    first: str
    last: str


def asked(simulator: Simulator, since: int = 0) -> list[Asked]:
    """Return the calls for bars after the first ``since`` calls of any kind."""
    calls = []
    for call in simulator.calls[since:]:
        if call.kind == "bars":
            parts = call.path.split("/")
            if parts[3] == "grouped":
                calls.append(Asked("*", "grouped", parts[8], parts[8]))
                continue
            calls.append(Asked(parts[4], f"{parts[6]} {parts[7]}", parts[8], parts[9]))
    return calls
