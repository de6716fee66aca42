"""What a run probably takes, and how far it is as its gauges tell it: values for who shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from backfill.core.estimate import FILL, PastRun, seconds_expected, seconds_left
from backfill.run.lane import Lane, by_account
from backfill.run.outcomes import Outcomes
from backfill.run.planned import Expected, Plan
from backfill.store import runs
from backfill.store.pool import Connection, Database
from backfill.store.size import TableSize, table_size


@dataclass(frozen=True, slots=True)
class Slowest:
    """The symbol and timeframe that has the most calls before it."""

    name: str
    calls: int
    calls_in_all: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: symbols, calls and bars by now, and the seconds that it still takes.

    ``stored_bytes`` is by what a bar takes in this table. Look-ups count as calls.
    """

    symbols: int
    symbols_done: int
    failed: int
    calls: int
    calls_in_all: int
    bars: int
    stored_bytes: int
    seconds_left: float
    slowest: Slowest | None


def progress_of(lanes: Sequence[Lane], outcomes: Outcomes, bytes_per_bar: float) -> Progress:
    """Return how far lanes are by now."""
    left = [lane.tally.gauge.left(lane.account.quota, lane.tally.flight.limit) for lane in lanes]
    calls = sum(lane.tally.calls + lane.tally.lookups for lane in lanes)
    stored = outcomes.bars.inserted + outcomes.bars.updated + outcomes.bars.unchanged
    symbols = {series.symbol.id for series in outcomes.series}
    going = {series.symbol.id for series in outcomes.unfinished(outcomes.series)}
    return Progress(
        symbols=len(symbols),
        symbols_done=len(symbols - going),
        failed=len(outcomes.failed),
        calls=calls,
        calls_in_all=calls + round(sum(one.left.calls for one in left)),
        bars=stored,
        stored_bytes=round(outcomes.bars.inserted * bytes_per_bar),
        seconds_left=seconds_left(left),
        slowest=_slowest(lanes),
    )


def _slowest(lanes: Sequence[Lane]) -> Slowest | None:
    found = [one for lane in lanes if (one := lane.tally.gauge.slowest) is not None]
    if not found:
        return None
    return Slowest(*max(found, key=lambda one: one[2] - one[1]))


async def expected(database: Database, lanes: Sequence[Lane], parts: Sequence[Plan]) -> Expected:
    """Return what the parts of a plan probably take, by earlier runs and by the table."""

    async def look(connection: Connection) -> tuple[TableSize, dict[str, list[PastRun]]]:
        past = {one.name: await runs.past_runs(connection, one.name) for one in lanes}
        return await table_size(connection), past

    size, past = await database.run(look)
    seconds = [
        seconds_expected(
            one.lanes[0].account.quota,
            one.calls,
            round(one.bars * FILL),
            [run for lane in one.lanes for run in past[lane.name]],
            one.lanes[0].rules.can.cost,
        )
        for one in by_account(lanes, parts)
    ]
    return Expected(
        seconds=round(max(seconds, default=0.0), 1),
        runs=sum(map(len, past.values())),
        bytes=round(sum(part.bars for part in parts) * size.bytes_per_bar),
        bytes_per_bar=round(size.bytes_per_bar, 1),
        measured=size.is_measured,
    )
