"""How a provider is best asked for its work: many symbols at once, by files, or each alone."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from backfill.core.batched import NO_BATCHES, Batching, batch
from backfill.core.grouped import Grouping, group
from backfill.core.market_files import NO_FILES, MarketFiles, market_files
from backfill.core.work import Demand, Rules, Work
from backfill.providers.base import GroupedDays, ManySymbols, MarketArchives, Provider


def grouping(provider: Provider, work: Iterable[tuple[Work, Demand]]) -> Grouping:
    """Return the sessions that a provider is best asked for grouped, and the work they close."""
    if not isinstance(provider, GroupedDays):
        return Grouping()
    may_join = (one for one, demand in work if demand.mode.reopens)
    return group(may_join, provider.most_grouped)


def batching(provider: Provider, rules: Rules, work: Iterable[tuple[Work, Demand]]) -> Batching:
    """Return the calls that a provider is best asked about many symbols, and their work."""
    if not isinstance(provider, ManySymbols):
        return NO_BATCHES
    may_join = (one for one, demand in work if demand.mode.reopens)
    return batch(may_join, rules.can.pages, provider.most_symbols)


def files_for(provider: Provider, rules: Rules, work: Iterable[tuple[Work, Demand]]) -> MarketFiles:
    """Return the files of the whole market that are best read for some work."""
    if not isinstance(provider, MarketArchives):
        return NO_FILES
    served = [(one, rules.market_files(demand.mode)) for one, demand in work]
    choice = next((choice for _, choice in served if choice is not None), None)
    mine = (one for one, choice in served if choice is not None)
    return market_files(mine, choice, provider.file_adjustment, rules.can.pages)


class Parted(NamedTuple):
    """The work of one provider by how it is asked for: many symbols at once, files, or alone."""

    grouped: Grouping
    batched: Batching
    files: MarketFiles
    single: list[tuple[Work, Demand]]


def parted(provider: Provider, rules: Rules, work: Sequence[tuple[Work, Demand]]) -> Parted:
    """Return how a provider is best asked for its work."""
    grouped = grouping(provider, work)
    joined = set(grouped.work)
    alone = [piece for piece in work if piece[0] not in joined]
    batched = batching(provider, rules, alone)
    joined = set(batched.work)
    alone = [piece for piece in alone if piece[0] not in joined]
    files = files_for(provider, rules, alone)
    filed = set(files.work)
    return Parted(grouped, batched, files, [piece for piece in alone if piece[0] not in filed])
