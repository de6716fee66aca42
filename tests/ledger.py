"""The quota's ledger as a value in memory: what the database's functions are held against.

Times are whole microseconds. It says again, in another language, what a key's row is changed to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SECOND: Final = 1_000_000
HEAD_US: Final = 30 * SECOND
TICKET_US: Final = 2 * SECOND

Windows = Sequence[tuple[int, int]]
"""(calls, microseconds), as the ledger is told them: stretched by the clocks' allowance."""


@dataclass
class Call:
    """A call that may still count: until ``latest`` it can have been counted at the provider."""

    id: int | None
    cost: int
    latest: int
    open: bool


@dataclass
class Ticket:
    """A process that waits: the cost of its first call, how many wait, since when, until when."""

    process: int
    cost: int
    waiting: int
    since: int
    told: int


@dataclass
class Ledger:
    """What the row of a key holds."""

    calls: list[Call] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    longest: int = 0
    paused_until: int = -1

    def take(
        self, now: int, process: int, first: int, costs: Sequence[int], windows: Windows
    ) -> tuple[int, int | None]:
        """Take slots; how many are granted, and when to come back for the others."""
        self.longest = max([self.longest, *(period for _, period in windows)])
        kept = [call for call in self.calls if call.latest + self.longest >= now]
        for call in kept:
            call.open = call.open and call.latest >= now
        if len(kept) > 200:
            kept = self._merged(kept, now, windows)
        queue = sorted(
            (one for one in self.tickets if one.told + TICKET_US >= now),
            key=lambda one: (one.since, one.process),
        )
        mine = next((one for one in queue if one.process == process), None)
        if mine is None:
            mine = Ticket(process, 0, 0, now, 0)
            queue.append(mine)
        used = [
            sum(call.cost for call in kept if call.latest + period >= now) for _, period in windows
        ]
        granted, told = 0, None
        if self.paused_until > now:
            told = self.paused_until
        else:
            room = min(
                (limit - used for (limit, _), used in zip(windows, used, strict=True)),
                default=10**9,
            )
            granted, left, reserved = _round(now, queue, mine, costs, room)
            if granted < len(costs):
                told = self._turn(
                    now, kept, windows, used, room - left, costs[granted],
                    sum(
                        one.cost
                        for one in queue
                        if one is not mine
                        and one.waiting > reserved[one.process]
                        and (
                            granted
                            or (one.since, one.process) < (mine.since, process)
                        )
                    ),
                )  # fmt: skip
        if windows:
            self.calls = kept + [
                Call(first + nth, costs[nth], now + HEAD_US, open=True) for nth in range(granted)
            ]
            self.tickets = [one for one in queue if one is not mine]
            if granted < len(costs):
                assert told is not None
                since = now if granted else mine.since
                left_over = len(costs) - granted
                self.tickets.append(Ticket(process, costs[granted], left_over, since, told))
        return granted, told

    @staticmethod
    def _turn(
        now: int,
        kept: list[Call],
        windows: Windows,
        used: list[int],
        spent: int,
        cost: int,
        ahead: int,
    ) -> int:
        """When enough calls have left every window for those ahead and for one of this cost."""
        latest = []
        for (limit, period), taken in zip(windows, used, strict=True):
            lacking = taken + spent + ahead + cost - limit
            if lacking <= 0:
                continue
            freed, at = 0, now
            for call in sorted(kept, key=lambda call: call.latest):
                if call.open or call.latest + period < now:
                    continue
                freed += call.cost
                if freed >= lacking:
                    at = call.latest
                    break
            latest.append(at + period + 1)
        return max(latest)

    def _merged(self, kept: list[Call], now: int, windows: Windows) -> list[Call]:
        merged: dict[tuple[bool, int, int], Call] = {}
        own = sorted((period, limit) for limit, period in windows)
        for nth, call in enumerate(kept):
            period, limit = next(
                (one for one in own if call.latest + one[0] >= now), (self.longest, 10**9)
            )
            single = call.open or limit <= 200
            bucket = -nth if single else call.latest * 200 // period
            key = call.open, period, bucket
            if key in merged:
                held = merged[key]
                latest = max(held.latest, call.latest)
                merged[key] = Call(None, held.cost + call.cost, latest, call.open)
            else:
                merged[key] = call
        return list(merged.values())

    def note(
        self,
        now: int,
        answered: Sequence[tuple[int, int]] = (),
        unwritten: Sequence[int] = (),
        leaving: int = -1,
    ) -> None:
        """Note answers, each with how long ago its head came, and give slots back."""
        ago = dict(answered)
        for call in self.calls:
            if call.id is not None and call.id in ago:
                call.latest, call.open = min(call.latest, now - ago[call.id]), False
        self.calls = [call for call in self.calls if call.id is None or call.id not in unwritten]
        self.tickets = [one for one in self.tickets if one.process != leaving]

    def pause(self, now: int, length: int) -> None:
        """Let nobody send for so long."""
        self.paused_until = max(self.paused_until, now + length)

    def doubt(self, now: int, length: int) -> None:
        """Count all calls anew."""
        for call in self.calls:
            call.latest = now + (HEAD_US if call.open else 0)
        self.tickets = []
        self.paused_until = now + length


def _round(
    now: int, queue: list[Ticket], mine: Ticket, costs: Sequence[int], room: int
) -> tuple[int, int, dict[int, int]]:
    """Let room go round whose time has come: what is mine, what is left, and what others get."""
    granted = 0
    got = {one.process: 0 for one in queue}
    while True:
        went = False
        for one in queue:
            if granted == len(costs):
                return granted, room, got
            if one is not mine and (one.told > now or got[one.process] == one.waiting):
                continue
            cost = costs[granted] if one is mine else one.cost
            if cost > room:
                return granted, room, got
            room -= cost
            went = True
            got[one.process] += 1
            granted += one is mine
        if not went:
            return granted, room, got
