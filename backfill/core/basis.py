"""Whether a provider's bars are on another share basis than the same bars were stored on.

Who adjusts prices for splits changes all that is older than a split on the day it takes effect.
Bars that were stored before it then look right and are wrong. Two answers of one bar tell: all its
prices differ by one factor.
"""

from collections.abc import Iterable
from math import exp, log
from typing import TYPE_CHECKING, Final

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.grid import Grid
from backfill.core.timeframe import DAY_MS, Timeframe

if TYPE_CHECKING:
    from backfill.core.bars import Bars, FloatColumn

RAW: Final = "raw"
"""The adjustment of bars whose basis no split changes."""
_PRICES: Final = ("open", "high", "low", "close")
_LEAST: Final = log(1.004)
"""No split changes less; corrections do."""
_PLAIN: Final = log(1.2)
"""So far one price alone is seldom moved by the market; where one tells, the bar before decides."""
_EXACT: Final = 1e-4
_CENT: Final = 0.0051
"""Half of a cent, to which adjusted prices may have been rounded."""


@dataclass(frozen=True, slots=True)
class Rebase:
    """That bars which came again are ``factor`` times lower than they were stored.

    The oldest of them starts at ``ts_ms``, and was stored as opening at ``was``. It is not clear
    that this is a split where one price alone tells, which may have been corrected: the only bar of
    several, or bars that are all at one price.
    """

    factor: float
    ts_ms: int
    was: float
    is_clear: bool

    def fits(self, close: float) -> bool:
        """Whether the bar that is stored before them closed at prices as they were stored.

        A split moves that as well, a correction doesn't: then it is nearer to what came.

        >>> [Rebase(10.0, 0, 100.0, is_clear=False).fits(close) for close in (104.0, 9.6)]
        [True, False]
        """
        return abs(log(close / self.was)) <= abs(log(close * self.factor / self.was))


def rebased(stored: "Bars", came: "Bars") -> Rebase | None:
    """Return by which factor the oldest of bars that came again were higher when they were stored.

    None unless all prices of a bar are that one factor apart. Newer bars may have been stored on
    the new basis.

    >>> from backfill.core.bars import Bars
    >>> was = Bars.of([(0, 100.0, 130.0, 90.0, 120.0, 5.0, None, None)])
    >>> now = Bars.of([(0, 10.0, 13.0, 9.0, 12.0, 50.0, None, None)])
    >>> rebased(was, now)
    Rebase(factor=10.0, ts_ms=0, was=100.0, is_clear=True)
    >>> rebased(now, now)
    """
    import numpy as np

    from backfill.core.bars import is_among

    again = stored.take(is_among(stored.ts_ms, came.ts_ms))
    was = _prices(again)
    now = _prices(came.take(is_among(came.ts_ms, stored.ts_ms)))
    if not was.size or not ((was > 0) & (now > 0)).all():
        return None
    sizes = np.log(was / now)
    slack = _EXACT + _CENT / np.minimum(was, now)
    # Each price tells a range of what the factor may be. A bar whose ranges have nothing in common
    # was corrected, and tells nothing.
    least, most = (sizes - slack).max(axis=0), (sizes + slack).min(axis=0)
    told = least <= most
    if not told.any():
        return None
    was, slack = was[:, told], slack[:, told]
    # From the oldest bar on, what all of them have in common.
    least, most = np.maximum.accumulate(least[told]), np.minimum.accumulate(most[told])
    alike = least <= most
    first = len(alike) if alike.all() else int(np.argmin(alike))
    size = float(least[first - 1] + most[first - 1]) / 2
    most_slack = 2 * float(slack[:, :first].max())
    spread = float(np.log(was[:, :first].max() / was[:, :first].min()))
    is_flat, is_alone = spread <= most_slack, first == 1 < len(alike)
    is_plain = abs(size) >= _PLAIN
    if abs(size) < max(_LEAST, most_slack) or (is_flat and (is_alone or not is_plain)):
        return None
    is_clear = not is_flat and not (is_alone and is_plain)
    return Rebase(float(f"{exp(size):.4g}"), int(again.ts_ms[told][0]), float(was[0, 0]), is_clear)


def doubtful(again: Spans, covered: Spans, newest_ms: int | None) -> Spans:
    """Return where the stored bars of an adjusted series may be on another basis than its others.

    That is what is to be loaded ``again``: a split put it on an old basis, or somebody wants all of
    it anew, who may know of one. Before anything is loaded, all of the series is on one basis: then
    nothing is covered, and its newest bar is one of those.

    >>> doubtful(Spans.of((0, 30)), Spans.of((30, 50)), 40)
    Spans(items=(Span(start_ms=0, end_ms=30),))
    >>> doubtful(Spans.of((0, 50)), Spans(), 40)
    Spans(items=())
    """
    hull = again.hull
    if hull is None or not (covered or (newest_ms is not None and newest_ms >= hull.end_ms)):
        return Spans()
    return again


def beside(
    grid: Grid, timeframe: Timeframe, missing: Spans, covered: Spans, newest_ms: int | None
) -> Spans:
    """Return the covered slots right before and after what is missing: of a week of days, or a day.

    What is asked for with them shows whether it is on the basis of what is stored there. Those
    before it end no later than with the newest stored bar, which starts at ``newest_ms``: after
    that there is none to tell, as of a halt before a reverse split.
    """
    reach_ms = DAY_MS if timeframe.is_intraday else 7 * DAY_MS
    newest = None if newest_ms is None else grid.index_from(newest_ms + 1) - 1
    return Spans.union(_edges(grid, reach_ms, missing, covered, newest))


def _edges(
    grid: Grid, reach_ms: int, missing: Spans, covered: Spans, newest: int | None
) -> Iterable[Span]:
    for start_ms, end_ms in missing:
        before, after = grid.index_from(start_ms) - 1, grid.index_from(end_ms)
        if newest is not None:
            before = min(before, newest)
        if before >= 0:
            last_ms = grid.end_of(before)
            first = min(grid.index_from(last_ms - reach_ms), before)
            yield from Spans.of((grid.start_of(first), last_ms)) & covered
        if after < len(grid):
            first_ms = grid.start_of(after)
            last = max(grid.index_from(first_ms + reach_ms) - 1, after)
            yield from Spans.of((first_ms, grid.end_of(last))) & covered


def _prices(bars: "Bars") -> "FloatColumn":
    import numpy as np

    return np.stack([getattr(bars, name) for name in _PRICES])
