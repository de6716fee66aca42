"""A load by the library, with a look at the event loop. Prints when, and how late it was, as JSON.

A tick is due every millisecond; what it is late by is how long the loop was kept from a call that
had to leave then. Instants are in seconds of the epoch, lags in seconds.
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


async def _watched(settings: api.Settings, job: api.Job) -> list[tuple[float, float]]:
    lags: list[tuple[float, float]] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            lags.append((time.time(), time.perf_counter() - due))

    ticking = asyncio.create_task(tick())
    await api.run(settings, job)
    ticking.cancel()
    return lags


def main() -> None:
    tickers, since, until = sys.argv[1:]
    job = api.Job(
        symbols=tuple(tickers.split(",")),
        timeframes=(Timeframe.m1,),
        first=parse_bound(since, NOW.date()),
        last=parse_bound(until, NOW.date()),
        as_of=NOW,
    )
    print(json.dumps(asyncio.run(_watched(api.Settings.load(), job))))


if __name__ == "__main__":
    main()
