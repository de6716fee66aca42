"""What a provider's plan allows: how often it may be asked, how deep, and when bars are final."""

import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date, timedelta
from typing import Final, Self

from backfill.core.dataclass import dataclass
from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.errors import UsageError

_WINDOW = re.compile(r"(\d+)/(\d+(?:\.\d+)?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_CALLS = 1_000_000
_LONGEST_S = 366 * 86400

CLOCK_ALLOWANCE: Final = 0.001
"""By how much of a time two clocks may tell it differently: twice what each is steered by."""


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any ``period_s`` seconds."""

    limit: int
    period_s: float

    @property
    def held_s(self) -> float:
        """How long a call counts on a clock that may be the faster one, in seconds."""
        return self.period_s * (1 + CLOCK_ALLOWANCE)

    def __str__(self) -> str:
        return f"{self.limit}/{self.period_s:g}s"


@dataclass(frozen=True, slots=True)
class Quota:
    """The sliding windows that hold at once; without any, calls are unlimited.

    >>> Quota.parse("8/60s,800/1d").windows
    (Window(limit=8, period_s=60.0), Window(limit=800, period_s=86400.0))
    """

    windows: tuple[Window, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``5/60s``, several windows as ``8/60s,800/1d``, or ``unlimited``.

        Raises
        ------
        UsageError
            If the text is none of these, or a window allows no call.
        """
        if text.strip() == "unlimited":
            return cls()
        windows = []
        for part in text.split(","):
            match = _WINDOW.fullmatch(part.strip())
            if match is None or not _is_window(int(match[1]), float(match[2]), match[3]):
                raise UsageError(
                    f"quota {text!r} is not a list of calls/period like 5/60s or 8/60s,800/1d, "
                    "nor 'unlimited'"
                )
            windows.append(Window(int(match[1]), float(match[2]) * _UNIT_S[match[3]]))
        return cls(tuple(windows))

    def __str__(self) -> str:
        return ",".join(map(str, self.windows)) or "unlimited"

    @property
    def burst(self) -> int | None:
        """What may go at once on a key that has rested; None for no bound."""
        return min((window.limit for window in self.windows), default=None)

    def check(self, cost: int) -> None:
        """See that a call of some cost can ever be sent.

        Raises
        ------
        UsageError
            If it costs more than a window holds.
        """
        for window in self.windows:
            if cost > window.limit:
                raise UsageError(
                    f"a request costs {cost}, more than the quota {window} ever holds: "
                    "set one that holds it"
                )

    def seconds_for(self, calls: int, cost: int = 1) -> float:
        """Return how long so many calls take on a key that has rested, each answered at once.

        What a window holds goes out at once, and again when the window has passed. Each call takes
        its ``cost``, which every window holds once at least.

        >>> [Quota.parse("5/60s").seconds_for(calls) for calls in (0, 5, 6, 50)]
        [0.0, 0.0, 60.0, 540.0]
        >>> Quota.parse("5/60s").seconds_for(3, cost=2)
        60.0
        """
        nested_s, alone_s, left = 0.0, 0.0, max(calls - 1, 0)
        for window in sorted(self.windows, key=lambda window: -window.period_s):
            alone_s = max(alone_s, max(calls - 1, 0) // (window.limit // cost) * window.period_s)
            full, left = divmod(left, window.limit // cost)
            nested_s += full * window.period_s
        return max(nested_s, alone_s)

    @property
    def seconds_per_call(self) -> float:
        """The fastest lasting pace that every window allows, in seconds per call."""
        return max((window.period_s / window.limit for window in self.windows), default=0.0)


def _is_window(limit: int, length: float, unit: str) -> bool:
    """Whether it allows a call, and no more than a ledger can hold for as long as it lasts."""
    return 1 <= limit <= _MOST_CALLS and 0 < length * _UNIT_S[unit] <= _LONGEST_S


@dataclass(frozen=True, slots=True)
class Taken:
    """What the quota's ledger answered to a process that asked for slots.

    ``calls`` are the granted ones, by their numbers in the ledger; ``wait_s`` is how long to wait
    before the others are asked for again, 0 where there are none; ``at_s`` what the ledger's clock
    said, in epoch seconds.
    """

    calls: tuple[int, ...]
    wait_s: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Settling:
    """How long after its end a closed bar may still change, in milliseconds.

    ``end_of_day`` marks a plan whose intraday bars arrive with their session's d1.
    """

    intraday_ms: int
    daily_ms: int
    end_of_day: bool = False


UNTOLD: Final = Settling(intraday_ms=2 * MINUTE_MS, daily_ms=HOUR_MS)
"""When bars are final where a provider doesn't tell."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A provider's plan: its quota, when its bars are final, and how deep it may be read.

    ``depth`` is the length of history before today that the plan may read, None for all of it;
    ``earliest`` the day on which the provider's own history begins. ``classes`` are the terms of
    asset types that have a plan of their own.
    """

    name: str
    quota: Quota
    settling: Settling
    depth: timedelta | None
    earliest: date
    classes: Mapping[str, "Terms"] = field(default_factory=dict)

    def with_unlimited(self) -> dict[str, Self]:
        """Return this plan and, as every provider has it, the same without a quota, by name."""
        unlimited = replace(self, name="unlimited", quota=Quota())
        return {one.name: one for one in (self, unlimited)}

    @classmethod
    def joined(cls, terms: "Terms", classes: Mapping[str, "Terms"]) -> "Terms":
        """Return the terms of an account whose asset types have plans of their own.

        Calls can't be told apart before they are planned, so the strictest quota holds for all. As
        a whole it reaches as deep as any of its plans; `of` tells what holds for a symbol.
        """
        # Asset types of one class share its plan.
        every = [terms, *{id(one): one for one in classes.values()}.values()]
        depths = [one.depth for one in every if one.depth is not None]
        return replace(
            terms,
            name=",".join(one.name for one in every),
            quota=max(every, key=lambda one: one.quota.seconds_per_call).quota,
            depth=max(depths) if len(depths) == len(every) else None,
            earliest=min(one.earliest for one in every),
            classes={"": terms, **classes},
        )

    def of(self, asset_type: str) -> "Terms":
        """Return what holds for the symbols of an asset type."""
        return self.classes.get(asset_type, self.classes.get("", self))

    def window_start(self, today: date) -> date:
        """Return the first day that may be read; a day's margin, since the window recedes daily."""
        if self.depth is None:
            return self.earliest
        return max(self.earliest, today - self.depth + timedelta(days=1))
