"""What a command's runs have seen since people were told last: how matters stand, and why."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from backfill.core.freshness import State
from backfill.core.series import Series
from backfill.core.told import Change, Matter, Standing, Trouble
from backfill.errors import Interrupted, NotEntitled, RateLimited, SharedFault
from backfill.run.outcomes import QUARANTINED, Failure, Summary

_REFUSED: Final = {RateLimited.outcome, NotEntitled.outcome}
_UNHEARD: Final = "the provider gave no answer at all"


@dataclass(slots=True)
class Seen:
    """What runs have seen since it was told last: how matters stand, and why.

    ``looked_at`` are the series whose bars are to be looked at, and ``as_of`` is by which clock.
    """

    as_of: datetime | None
    stands: dict[Matter, Standing] = field(default_factory=dict)
    reasons: dict[Matter, Failure] = field(default_factory=dict)
    looked_at: dict[Matter, Series] = field(default_factory=dict)

    def note(self, summary: Summary, command: str) -> None:
        """Take in how a run of a command ended; one that was interrupted has seen nothing."""
        if summary.exit_code == Interrupted.exit_code:
            return
        skipped = set(summary.looked.skipped)
        for series in summary.looked.series:
            if series not in skipped:
                self.looked_at[_matter(series)] = series
                self.stands.setdefault(_matter(series), Standing(None, tried=False))
        for series in summary.looked.in_place:
            self.stands[_matter(series)] = Standing(None)
        for failure in summary.failures:
            self._fail(Matter(failure.symbol, failure.timeframe), failure)
        if summary.exit_code == SharedFault.exit_code:
            self.note_end(command, summary.error or _UNHEARD)
        else:
            self.stands[Matter(command)] = Standing(None)

    def note_end(self, command: str, why: str) -> None:
        """Take in what ended a command before its work did."""
        self._fail(Matter(command), Failure(command, "", "", why))

    def _fail(self, matter: Matter, failure: Failure) -> None:
        self.stands[matter] = Standing(_trouble_of(failure))
        self.reasons[matter] = failure

    def look(self, matter: Matter, state: State) -> None:
        """Take in that the bars of a series aren't fresh, unless it has a trouble that goes before.

        One without bars that was not tried yet is at its first load.
        """
        seen = self.stands[matter]
        if seen.trouble is None and (seen.tried or state is not State.empty):
            self.stands[matter] = Standing(Trouble.stale, seen.tried)

    def ends(self) -> list[Change]:
        """Return what ended commands before their work did."""
        return [
            Change(matter, None, standing.trouble)
            for matter, standing in self.stands.items()
            if not matter.timeframe and standing.trouble is not None
        ]

    def bad_news(self) -> dict[Matter, Standing]:
        """Return what is known without a look at bars: who fails, and not who is well or stale."""
        return {
            matter: standing
            for matter, standing in self.stands.items()
            if standing.trouble is not None or not matter.timeframe
        }

    def followed_by(self, later: "Seen") -> "Seen":
        """Return what both have seen; what was tried goes before what wasn't, then the later."""
        untried = {
            matter
            for matter, standing in later.stands.items()
            if not standing.tried and matter in self.stands
        }
        news = {matter: one for matter, one in later.stands.items() if matter not in untried}
        return Seen(
            self.as_of,
            self.stands | news,
            self.reasons | later.reasons,
            self.looked_at | later.looked_at,
        )


def _matter(series: Series) -> Matter:
    return Matter(series.symbol.ticker, str(series.timeframe))


def _trouble_of(failure: Failure) -> Trouble:
    if failure.outcome in _REFUSED:
        return Trouble.refused
    return Trouble.quarantined if failure.outcome == QUARANTINED else Trouble.failing
