"""What a page shows, as values: sentences, numbers and commands, each found out already.

Nothing here knows HTML, and nothing that makes HTML knows the database. Every text may hold what
somebody else wrote: whoever prints it makes it harmless.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from backfill.audit.queue import QueueState
from backfill.store.recent import RunDay

LISTED: Final = 20
"""How many of those that a problem is about are named."""


class Cell(StrEnum):
    """What there is of a series in one column of its strip: the worst of what lies there."""

    stored = "s"
    empty = "e"
    """Answered for, and rightly without a bar: nobody traded, or two answers agree."""
    unconfirmed = "u"
    """The provider had none; it may be late, and is asked again."""
    gap = "g"
    """Answered for, and a bar is missing."""
    quarantined = "q"
    """A bar came and failed a check."""
    uncovered = "n"
    """Wanted, and not answered for yet."""
    nothing = "."
    """Nobody wants anything of it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One of those that a problem is about: its name, what is told of it, what mends it alone."""

    name: str
    told: str
    command: str | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that somebody should see to: how many have it, and the command that mends it.

    ``cases`` are the first of them, ``count`` is how many there are.
    """

    title: str
    why: str
    command: str
    count: int
    cases: tuple[Case, ...] = ()

    @property
    def unlisted(self) -> int:
        """How many more there are than are listed."""
        return self.count - len(self.cases)


@dataclass(frozen=True, slots=True)
class Closes:
    """The newest closes of a series, oldest first, and when the bar of the last one starts."""

    at: datetime
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """One series: how fresh it is, what there is of it, and its strip of ``cells``.

    ``cells`` is a string of `Cell`, a column each. ``missing`` counts slots that are answered for
    and lack a bar, ``unconfirmed`` those of which a second answer is still to come, ``uncovered``
    those that are wanted and not answered for; ``share`` is the part of what is wanted that is.
    ``closes`` is None unless bars were asked for.
    """

    symbol: str
    timeframe: str
    told: str
    is_stale: bool
    bars: int
    newest: datetime | None
    share: float | None
    missing: int
    unconfirmed: int
    quarantined: int
    uncovered: int
    cells: str
    closes: Closes | None = None

    @property
    def has_trouble(self) -> bool:
        """Whether there is anything to tell of it beside that it is there."""
        return self.is_stale or bool(self.missing or self.quarantined or self.uncovered)

    @property
    def lacks(self) -> str:
        """What is to be told of it, in words: what its strip shows to who can see that."""
        parts = (
            (self.missing, "missing"),
            (self.quarantined, "quarantined"),
            (self.unconfirmed, "unconfirmed"),
            (self.uncovered, "not covered yet"),
        )
        return ", ".join(f"{number:,} {name}" for number, name in parts if number) or "whole"


@dataclass(frozen=True, slots=True)
class Group:
    """The series of one timeframe, provider and calendar, on one axis of time.

    ``mix`` has for each column how many series show each `Cell` there. ``listed`` are those with a
    line of their own, the troubled first; ``unlisted`` names the others, ``unlisted_troubled`` of
    which have something to tell, too. ``judged`` are those that somebody means to keep up to date.
    """

    timeframe: str
    provider: str
    calendar: str
    since: datetime
    until: datetime
    series: int
    judged: int
    stale: int
    missing: int
    quarantined: int
    bars: int
    share: float | None
    mix: tuple[dict[str, int], ...]
    listed: tuple[SeriesFacts, ...]
    unlisted: tuple[str, ...] = ()
    unlisted_troubled: int = 0

    @property
    def name(self) -> str:
        """What its series have in common."""
        return f"{self.timeframe} · {self.provider} · {self.calendar}"

    @property
    def told(self) -> str:
        """How fresh its series are, in words: of those that nobody watches nobody knows."""
        unjudged = self.series - self.judged
        if not self.judged:
            return "not judged: nobody watches them"
        told = f"{self.stale:,} stale" if self.stale else "all fresh"
        return f"{told}; {unjudged:,} not judged" if unjudged else told


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run of the ledger.

    ``used`` is its calls as a part of those that the quota lets go in the time that it took. None
    where nothing bounds them, or for a run of several providers.
    """

    started_at: datetime
    seconds: float | None
    mode: str
    provider: str
    status: str
    calls: int
    lookups: int
    used: float | None
    failed: int
    inserted: int
    updated: int
    rejected: int
    error: str | None

    @property
    def is_bad(self) -> bool:
        """Whether somebody should know of how it ended."""
        return self.status not in {"ok", "running"}


@dataclass(frozen=True, slots=True)
class NextRun:
    """What the next run of the watchlist would cost; ``refused`` says why there would be none."""

    command: str
    calls: int = 0
    calls_max: int = 0
    bars: int = 0
    seconds: float = 0.0
    series: int = 0
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows, as of an instant (UTC).

    ``quotas`` tell of each provider what its plan allows; ``days`` are those of the last weeks,
    oldest first, ``runs`` the newest runs that did something, newest first. ``runs_before`` says
    how many more there were in those weeks. ``queue`` is None where nobody uses one, and a sentence
    where it can't be shown.
    """

    at: datetime
    version: str
    series: int
    judged: int
    stale: int
    bars: int
    missing: int
    quarantined: int
    share: float | None
    problems: tuple[Problem, ...] = ()
    groups: tuple[Group, ...] = ()
    days: tuple[RunDay, ...] = ()
    runs: tuple[RunFacts, ...] = ()
    runs_before: int = 0
    quotas: tuple[tuple[str, str], ...] = ()
    next_run: NextRun = NextRun("backfill run --all")
    with_bars: bool = False
    queue: QueueState | str | None = None
