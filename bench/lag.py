"""A load by the library, with a look at the event loop. Prints the longest lags, in seconds.

A tick is due every millisecond; what it is late by is how long the loop was kept from a call that
had to leave then.
"""

import asyncio
import json
import sys
import time

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import parse_bound
from bench.workload import NOW

_TICK_S = 0.001


async def _watched(settings: api.Settings, job: api.Job) -> list[float]:
    lags: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            lags.append(time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await api.run(settings, job)
    ticking.cancel()
    return sorted(lags)


def main() -> None:
    tickers, since, until = sys.argv[1:]
    job = api.Job(
        symbols=tuple(tickers.split(",")),
        timeframes=(Timeframe.m1,),
        first=parse_bound(since),
        last=parse_bound(until),
        as_of=NOW,
    )
    lags = asyncio.run(_watched(api.Settings.load(), job))
    print(json.dumps({"p99": lags[len(lags) * 99 // 100], "most": lags[-1]}))


if __name__ == "__main__":
    main()
