"""Gaps as one JSON object on one line, in pieces as they are made.

Of many gaps a Python object for each time would be most of what a look at a table costs.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text
from backfill.store.times import to_time

if TYPE_CHECKING:
    from backfill.api import Findings, Repair
    from backfill.audit.gaps import SeriesGaps
    from backfill.audit.verify import Verification
    from backfill.core.gaps import Gap

_AT_ONCE: Final = 2_000


def findings(found: "Findings") -> Iterator[str]:
    """Return gaps as JSON; ``verified`` only where that was asked for."""
    yield from _found(found.gaps, found.verification)
    yield "}"


def repair(done: "Repair") -> Iterator[str]:
    """Return a repair as JSON: the gaps left, what was found before, and the run."""
    yield from _found(done.left, done.found.verification)
    yield f', "run": {json_text(done.summary and done.summary.as_dict())}}}'


def _found(left: "Sequence[SeriesGaps]", verification: "Verification | None") -> Iterator[str]:
    yield '{"series": ['
    for number, one in enumerate(left):
        symbol, timeframe = json_text(one.series.symbol.ticker), str(one.series.timeframe)
        between = ", " if number else ""
        yield f'{between}{{"symbol": {symbol}, "timeframe": "{timeframe}", "gaps": ['
        for first in range(0, len(one.gaps), _AT_ONCE):
            lot = one.gaps[first : first + _AT_ONCE]
            yield (", " if first else "") + ", ".join(_each(lot))
        yield "]}"
    yield "]"
    if verification is not None:
        yield f', "verified": {json_text(verification.as_dict())}'


def _each(gaps: "Sequence[Gap]") -> Iterator[str]:
    """Return gaps, each as an object; ``reason`` and ``again`` only where it has them."""
    starts = _iso([gap.span.start_ms for gap in gaps])
    ends = _iso([gap.span.end_ms for gap in gaps])
    for gap, start, end in zip(gaps, starts, ends, strict=True):
        more = ""
        if gap.reason:
            more = f', "reason": "{gap.reason}"'
        if gap.again_ms:
            more += f', "again": "{to_time(gap.again_ms).isoformat()}"'
        yield f'{{"from": "{start}", "to": "{end}", "slots": {gap.slots}{more}}}'


def _iso(ts_ms: Sequence[int]) -> list[str]:
    """Return instants, of whole seconds as the bounds of slots are, in UTC as ISO 8601 has them."""
    import numpy as np

    seconds = np.array(ts_ms, np.int64) // 1000
    texts: list[str] = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    return [f"{text}+00:00" for text in texts]
