"""Peak memory of a run by the number of its series: ``python -m bench.memory 8 120 1000``.

Each series has one full page and a little more. The provider sends from memory what it has
prepared, so the database is the slower of the two: pages would pile up if nothing bounded them.
A thousand series are fifty million bars, which take a quarter of an hour and 7 GB of disk.
"""

import sys

from bench.contestants import Arena
from bench.postgres import Server
from bench.server import Provider
from bench.workload import PAGE_LIMIT, workload

_A_LITTLE = 100


def main() -> None:
    numbers = [int(number) for number in sys.argv[1:]] or [8, 120]
    with Provider.start() as provider, Server.start() as server:
        server.prepare([])
        for series in numbers:
            loads = workload((PAGE_LIMIT + _A_LITTLE) * series, series)
            provider.prepare(loads)
            with server.fresh() as database:
                timed = Arena(provider, database, server.postmaster).load(loads)
            print(
                f"{series:,} series: peak {timed.peak_bytes / 1e6:,.0f} MB, {timed.bars:,} bars, "
                f"{timed.bars / timed.seconds:,.0f} bars/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
