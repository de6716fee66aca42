"""The planning of the watchlist by the library: no start-up, no output. Prints its seconds."""

import asyncio
import time

from backfill import api
from bench.workload import NOW


def main() -> None:
    settings = api.Settings.load()
    began = time.perf_counter()
    asyncio.run(api.plan(settings, api.Job(as_of=NOW)))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
