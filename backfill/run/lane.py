"""A lane of a run: one provider, and what holds for every series that it is asked for."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from backfill.core.archive import Use
from backfill.core.dataclass import dataclass
from backfill.core.precision import Precision
from backfill.core.work import Demand, Rules, Work
from backfill.errors import UsageError
from backfill.fetch.tally import Tally
from backfill.providers.base import Actions
from backfill.run.planned import Plan
from backfill.settings import Account, Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """One provider in a run: its account, the rules for its series, and what it was sent."""

    account: Account
    rules: Rules
    tally: Tally

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.account.provider.name

    def part(self, work: Iterable[tuple[Work, Demand]]) -> list[tuple[Work, Demand]]:
        """Return the pieces of work that are this lane's."""
        return [piece for piece in work if piece[0].provider == self.name]


@dataclass(frozen=True, slots=True)
class Sharing:
    """The lanes that share an account, and so its quota, with what they ask for in all.

    ``calls`` are those that take from the quota.
    """

    lanes: Sequence[Lane]
    calls: int
    bars: int

    @property
    def seconds(self) -> float:
        """How long the quota takes for these calls."""
        lane = self.lanes[0]
        return lane.account.quota.seconds_for(self.calls, lane.rules.can.cost)


def by_account(lanes: Sequence[Lane], parts: Sequence[Plan]) -> list[Sharing]:
    """Return what the lanes of each account share, by the part of the plan that each lane has."""
    pairs: dict[str, list[tuple[Lane, Plan]]] = {}
    for lane, part in zip(lanes, parts, strict=True):
        pairs.setdefault(lane.account.name, []).append((lane, part))
    return [
        Sharing(
            [lane for lane, _ in mine],
            sum(part.calls - part.archive.requests for _, part in mine),
            sum(part.bars for _, part in mine),
        )
        for mine in pairs.values()
    ]


def rules_of(
    settings: Settings,
    account: Account,
    now_ms: int,
    precision: Precision,
    archive: Use = Use.auto,
) -> Rules:
    """Return what holds for the series that an account's provider is asked for.

    Raises
    ------
    UsageError
        If its files are to be read in any case, and what reads them isn't installed.
    """
    is_read = account.archive_url is not None and archive is not Use.never
    if is_read and account.file_keys:
        is_read = _reads_buckets(archive)
    return Rules(
        provider=account.provider.name,
        can=account.provider.can,
        adjustment=account.adjustment,
        terms=account.terms,
        now_ms=now_ms,
        derive=settings.derive,
        lists_splits=isinstance(account.provider, Actions),
        precision=precision,
        archive=archive if is_read else Use.never,
    )


def _reads_buckets(archive: Use) -> bool:
    """Whether obstore is installed, which the extra ``flatfiles`` brings."""
    is_there = find_spec("obstore") is not None
    if not is_there and archive is Use.always:
        raise UsageError("--archive always needs obstore: pip install 'ohlc-backfill[flatfiles]'")
    return is_there
