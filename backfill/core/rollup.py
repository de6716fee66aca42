"""Roll-ups: the bars of a coarser timeframe from those of a finer one."""

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.grid import Grid


def roll_up(base: Bars, grid: Grid) -> Bars:
    """Return one bar for every slot of ``grid`` that holds base bars.

    ``base`` must be sorted by ``ts_ms`` and hold each bar of those slots; a bar outside the grid
    belongs to no slot and is left out. Open is the first, close the last, volume and count are
    sums, and vwap is weighted by volume. A base bar without vwap or count leaves the slot without.
    """
    slots, inside = grid.floor(base.ts_ms)
    if not inside.all():
        base, slots = base.take(inside), slots[inside]
    if not len(base):
        return Bars.empty()
    first = np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))
    last = np.concatenate((first[1:], [len(slots)])) - 1
    volume = np.add.reduceat(base.volume, first)
    # What was stored before values were bounded may be too large; no vwap is told then.
    with np.errstate(invalid="ignore", over="ignore"):
        vwap = np.add.reduceat(base.vwap * base.volume, first) / volume
    vwap[np.isinf(vwap)] = np.nan
    counted = np.minimum.reduceat(base.trade_count, first) != NO_COUNT
    return Bars(
        ts_ms=slots[first],
        open=base.open[first],
        high=np.maximum.reduceat(base.high, first),
        low=np.minimum.reduceat(base.low, first),
        close=base.close[last],
        volume=volume,
        vwap=vwap,
        trade_count=np.where(counted, np.add.reduceat(base.trade_count, first), NO_COUNT),
    )
