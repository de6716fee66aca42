"""Faults on demand: which calls are hit, and by what."""

import random
import re
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any, Literal
from urllib.parse import urlencode

from backfill.simulator.actions import BEFORE_THE_ORIGIN, LACKS, TOGETHER, Action
from backfill.simulator.calls import Call
from backfill.simulator.wire.base import EVERYBODY, Kind, Lack


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A rule: calls that match all of it are hit by its action.

    Parameters
    ----------
    action
        What happens.
    path
        A regular expression that is searched for in the decoded path and query.
    ticker
        Only calls about this ticker; of a grouped day, `Action.BEHIND` and `Action.LACKING` hit
        only this ticker's bar.
    kind
        Only calls for bars, or only look-ups.
    skip, times
        Leave out so many matching calls first, then hit so many; None for all.
    since, until
        Hit only from the one until the other, by the market's clock: ``until`` heals.
    probability, seed
        The chance of a matching call to be hit, by a generator of its own, which also draws the
        delays of `Action.LATE`.
    counted
        When the provider counts the call that `Action.STATUS`, `Action.RESET` or `Action.HANG`
        hits: ``before`` that; ``never``, since a gateway or the network stops it on its way; or
        ``after``, since a gateway gives up at once while the call goes on and arrives later.
    status, body, headers
        The answer of `Action.STATUS`; without a body it is the provider's own.
    bytes_per_s
        The pace of `Action.DRIP`.
    in_s, back_s
        The least and the most seconds that `Action.LATE` adds to a call's way in, before it is
        counted, and to its answer's way back. What is on its way in arrives, even when its sender
        has left.
    stall_s
        The silence of `Action.STALL`.
    behind_s
        How far `Action.BEHIND` is behind the market's clock.
    size
        The length of a streamed body once it is unpacked.
    span_ms
        The bars to edit, copy or drop, ``[start, end)`` by their wire stamps; None for the one in
        the middle of the page. Of `Action.LACKING` the minutes and days that start in it, so a
        session from an instant on, or from midnight to midnight all of it.
    bars_of
        In a grouped day, the bars to edit, copy or drop are this ticker's.
    bar
        Letters of a bar (``t o h l c v vw n``) and their new values, which need not make sense.
    """

    action: Action
    path: str = ""
    ticker: str | None = None
    kind: Kind | None = None
    skip: int = 0
    times: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    probability: float = 1.0
    seed: int = 0
    counted: Literal["before", "after", "never"] = "before"
    status: int = 500
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    bytes_per_s: float = 100.0
    in_s: tuple[float, float] = (0.0, 0.0)
    back_s: tuple[float, float] = (0.0, 0.0)
    stall_s: float = 1.0
    behind_s: float = 0.0
    size: int = 2**30
    span_ms: tuple[int, int] | None = None
    bars_of: str | None = None
    bar: dict[str, Any] = field(default_factory=lambda: {"v": -1.0})

    def __post_init__(self) -> None:
        if self.counted != "before" and self.action not in BEFORE_THE_ORIGIN:
            raise ValueError(
                f"{self.action.value} is the provider's own: it counts the call before"
            )
        if self.action is Action.LACKING and self.span_ms is None:
            raise ValueError("lacking needs span_ms")

    def matches(self, call: Call) -> bool:
        """Whether the rule is about a call at all."""
        return (
            (self.kind is None or call.kind == self.kind)
            and (
                self.ticker is None
                or self.ticker in call.about
                or (self.action in LACKS and EVERYBODY in call.about)
            )
            and re.search(self.path, f"{call.path}?{urlencode(call.query)}") is not None
        )


@dataclass(frozen=True, slots=True)
class Way:
    """How a call travels: its delays, and the fault that meets it before the provider counts it."""

    in_s: float = 0.0
    back_s: float = 0.0
    fault: Fault | None = None


class Faults:
    """The rules in force; the first one that hits a call has it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._lock = Lock()

    def inject(self, fault: Fault) -> None:
        """Add a rule after those in force."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Drop every rule."""
        with self._lock:
            self._rules.clear()

    def way(self, call: Call, now: datetime) -> Way:
        """Return how a call travels, at an instant of the market's clock."""
        with self._lock:
            late = [
                rule.delays()
                for rule in self._rules
                if rule.fault.action is Action.LATE and rule.hits(call, now)
            ]
            stopped = self._first(call, now, counted_before=False)
        return Way(sum(in_s for in_s, _ in late), sum(back_s for _, back_s in late), stopped)

    def hit(self, call: Call, now: datetime) -> Fault | None:
        """Return the fault that a call meets once it has been counted."""
        with self._lock:
            return self._first(call, now, counted_before=True)

    def lacks(self, call: Call, now: datetime) -> tuple[Lack, ...]:
        """Return what of the market the provider does not have for a call."""
        with self._lock:
            faults = [
                rule.fault
                for rule in self._rules
                if rule.fault.action in LACKS and rule.hits(call, now)
            ]
        return tuple(
            Lack(fault.ticker, span_ms=fault.span_ms)
            if fault.action is Action.LACKING
            else Lack(fault.ticker, behind_ms=round(fault.behind_s * 1000))
            for fault in faults
        )

    def _first(self, call: Call, now: datetime, *, counted_before: bool) -> Fault | None:
        return next(
            (
                rule.fault
                for rule in self._rules
                if rule.fault.action not in TOGETHER
                and (rule.fault.counted == "before") is counted_before
                and rule.hits(call, now)
            ),
            None,
        )

    @property
    def in_force(self) -> list[Fault]:
        """The rules, in order."""
        with self._lock:
            return [rule.fault for rule in self._rules]


class _Rule:
    """A fault and how many calls have matched it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._matched = 0
        self._rng = random.Random(fault.seed)  # noqa: S311  # repeatable on purpose

    def delays(self) -> tuple[float, float]:
        """Draw the delays of a call, on its way in and back."""
        return self._rng.uniform(*self.fault.in_s), self._rng.uniform(*self.fault.back_s)

    def hits(self, call: Call, now: datetime) -> bool:
        """Count a matching call and tell whether it is hit."""
        if not self._in_force(now) or not self.fault.matches(call):
            return False
        if self._rng.random() >= self.fault.probability:
            return False
        self._matched += 1
        past = self._matched - self.fault.skip
        return past > 0 and (self.fault.times is None or past <= self.fault.times)

    def _in_force(self, now: datetime) -> bool:
        since, until = self.fault.since, self.fault.until
        return (since is None or since <= now) and (until is None or now < until)
