"""Loads into a database that stands near or far, by this build, one beside it, and two peers.

``python -m bench far --beside ../older`` puts a link with a delay before the database, and has
everybody load the same bars over it, turn by turn, for each distance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.build import HERE, Build, builds_with
from bench.contestants import OURS, PEERS, Arena, Contestant, Timed
from bench.link import far
from bench.page import publish
from bench.postgres import Database, Server
from bench.results import Spread
from bench.server import Provider
from bench.workload import bars_in, workload

_DELAYS_MS: Final = (0, 20, 60, 100, 150)
_PEERS: Final = tuple(one for one in PEERS if one.name in {"massive_copy", "polars_adbc"})


@dataclass(frozen=True, slots=True)
class Far:
    """What is loaded: so many bars of so many pairs, a page or more each."""

    bars: int = 210_000
    series: int = 14
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class FarLoad:
    """One load over a link: who, how far, from the first request to the last commit."""

    who: str
    delay_ms: int
    bars: int
    seconds: float
    round_trips: int
    cpu_s: float


def measure(beside: Path | None, given: Far, say: Callable[[str], None]) -> list[FarLoad]:
    """Run every load."""
    some = workload(given.bars, given.series)
    builds = builds_with(beside)
    contestants: list[Build | Contestant] = [*builds, *_PEERS]
    with Provider.start() as provider, Server.start() as server:
        provider.prepare(some)
        for build in builds:
            server.prepare([load.ticker for load in some], build)

        def loaded(who: Build | Contestant, delay_ms: int) -> FarLoad:
            build = who if isinstance(who, Build) else HERE
            with server.fresh(build) as database, far(database.url, delay_ms / 1000) as link:
                arena = Arena(provider, Database(link.url), server.postmaster, build)
                timed = arena.load(some) if isinstance(who, Build) else arena.let(who, some)
                if (found := database.digest(None).rows) != bars_in(some):
                    raise RuntimeError(f"the table holds {found:,} bars")
            name = _name(who)
            say(f"{delay_ms} ms: {name}: {timed.seconds:.2f} s, {link.round_trips} trips")
            return _told(name, delay_ms, timed, link.round_trips)

        return [
            loaded(who, delay_ms)
            for _ in range(given.rounds)
            for delay_ms in _DELAYS_MS
            for who in contestants
        ]


def write(loads: Sequence[FarLoad], document: Path) -> str:
    """Keep every measurement, write the table into a page between its marks, and return it."""
    return publish("far", loads, "\n".join(_lines(loads)), document)


def _name(who: Build | Contestant) -> str:
    if isinstance(who, Contestant):
        return who.title
    return OURS.title if who is HERE else f"{OURS.title}, {who.name}"


def _told(who: str, delay_ms: int, timed: Timed, round_trips: int) -> FarLoad:
    cpu_s = timed.cpu_s + timed.postgres_cpu_s
    return FarLoad(who, delay_ms, timed.bars, timed.seconds, round_trips, cpu_s)


def _lines(loads: Sequence[FarLoad]) -> Iterator[str]:
    """Yield a row for each contestant: its seconds at each distance, and its round trips.

    These are of the whole command, and hardly depend on the distance.
    """
    delays_ms = list(dict.fromkeys(one.delay_ms for one in loads))
    head = ["who", *(f"{delay_ms} ms" for delay_ms in delays_ms), "round trips"]
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---'] * len(head))} |"
    for who in dict.fromkeys(one.who for one in loads):
        mine = [one for one in loads if one.who == who]
        seconds = {
            delay_ms: Spread.of(one.seconds for one in mine if one.delay_ms == delay_ms).median
            for delay_ms in delays_ms
        }
        trips = Spread.of(one.round_trips for one in mine)
        cells = [f"{one:.1f} s" for one in seconds.values()]
        yield f"| {' | '.join([who, *cells, f'{trips.least:,.0f}–{trips.most:,.0f}'])} |"
