"""How true the estimate of a run is, a fifth into real runs: ``python -m bench.estimates``.

Each load runs by the library against the simulated provider, its answers late where the load says
so, into a fresh database. What the line on the terminal would have shown at each half second is
kept; printed is what it said at a tenth, a fifth, a half and four fifths, beside what it took from
there. Two minutes on an idle machine with two cores.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import parse_bound
from backfill.settings import AccountSettings, Secret
from backfill.simulator import Action, Fault, Simulator, run_in_thread
from bench.postgres import Server

_NOW: Final = datetime(2024, 11, 12, 12, tzinfo=UTC)
_KEY: Final = "bench-key"
_SHARES: Final = (0.1, 0.2, 0.5, 0.8)
_KNOWN: Final = tuple(f"SIM{number:03}" for number in range(40))


@dataclass(frozen=True, slots=True)
class Load:
    """What is loaded, under which quota, and how many seconds each answer is late at most."""

    name: str
    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    since: str
    quota: str = "unlimited"
    late_s: float = 0.0


LOADS: Final = (
    Load("days, by a quota", _KNOWN, (Timeframe.d1,), "2y", "5/3s"),
    Load("days, by two windows", _KNOWN, (Timeframe.d1,), "2y", "3/1s,12/10s"),
    Load("minutes, slow answers", _KNOWN[:4], (Timeframe.m1,), "1y", late_s=3.0),
    Load(
        "minutes and what is made of them",
        (*_KNOWN[:3], "X:BTCUSD"),
        (Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.d1),
        "6mo",
    ),
    Load(
        "half of the tickers unknown",
        tuple(name for number in range(8) for name in (_KNOWN[number], f"NOSUCH{number}")),
        (Timeframe.m15, Timeframe.d1),
        "2y",
        "4/2s",
    ),
)


async def _measured(load: Load, database: str, provider: str) -> list[tuple[float, float]]:
    """Run a load; return the estimates as (seconds since the plan, seconds left), then the end."""
    settings = api.Settings(
        database_url=Secret(database),
        provider_url=provider,
        plan="unlimited",
        accounts={"massive": AccountSettings(keys=(Secret(_KEY),))},
        quota_override=load.quota,
        log_format="json",
    )
    job = api.Job(
        symbols=load.symbols,
        timeframes=load.timeframes,
        first=parse_bound(load.since, _NOW.date()),
        as_of=_NOW,
    )
    seen: list[tuple[float, float]] = []
    looking: list[asyncio.Task[None]] = []

    async def look(running: api.Running) -> None:
        began_s = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            seen.append((time.monotonic() - began_s, running.progress().seconds_left))

    began_s = time.monotonic()

    def begin(running: api.Running) -> None:
        nonlocal began_s
        began_s = time.monotonic()
        looking.append(asyncio.create_task(look(running)))

    await api.run(settings, job, on_plan=begin)
    took_s = time.monotonic() - began_s
    for task in looking:
        task.cancel()
    return [*seen, (took_s, 0.0)]


def main() -> None:
    from backfill import log

    log.configure("json", [_KEY])
    with Server.start() as server:
        server.prepare([])
        for load in LOADS:
            simulator = Simulator(key=_KEY, now=_NOW, quota=load.quota)
            if load.late_s:
                simulator.inject(Fault(action=Action.LATE, back_s=(load.late_s / 2, load.late_s)))
            with run_in_thread(simulator), server.fresh() as database:
                *seen, (took_s, _) = asyncio.run(_measured(load, database.url, simulator.url))
            said = []
            for share in _SHARES:
                at_s, left_s = min(seen, key=lambda one: abs(one[0] - share * took_s))
                off = left_s / (took_s - at_s) - 1
                said.append(f"{share:.0%}: {left_s:.0f} s of {took_s - at_s:.0f} ({off:+.0%})")
            print(f"{load.name}: {took_s:.0f} s; {', '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
