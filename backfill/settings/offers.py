"""What each provider can be asked for, and whether our account with it can ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from backfill.core.capabilities import Capabilities
from backfill.core.timeframe import Timeframe
from backfill.errors import NotEntitled, UsageError
from backfill.providers import PROVIDERS
from backfill.providers.base import ByNameOnly
from backfill.settings import Account, Settings


@dataclass(frozen=True, slots=True)
class Market:
    """The timeframes that a provider has of an asset type, and those rolled up here, and of what.

    What is in neither can't be had.
    """

    asset_type: str
    native: tuple[Timeframe, ...]
    derived: Mapping[Timeframe, Timeframe]


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider as our account has it.

    ``depth`` is how far back the plan reads, None for all; ``earliest`` where the provider's own
    history begins, ``reach`` how far back bars of some timeframes go at all; ``newest_slots`` how
    many of the newest bars there are, None for all; a page holds ``page_bars`` at most. A request
    takes ``cost`` from the ``quota``. ``keys`` are the variables of each key, the preferred first;
    ``missing`` says why it can't be asked, None if it can. ``caution`` says why nobody is led to it
    who doesn't name it. ``daily_adjustments`` are those of d1 and longer, the same as the others'
    where it makes no difference, ``daily_feed`` is theirs likewise.
    """

    name: str
    is_default: bool
    example: str
    feed: str
    daily_feed: str
    markets: tuple[Market, ...]
    adjustments: tuple[str, ...]
    daily_adjustments: tuple[str, ...]
    plan: str
    plans: tuple[str, ...]
    depth: timedelta | None
    earliest: date
    reach: Mapping[Timeframe, timedelta | date]
    newest_slots: int | None
    page_bars: int | None
    quota: str
    cost: int
    keys: tuple[tuple[str, ...], ...]
    missing: str | None
    caution: str | None


def offers(settings: Settings) -> list[Offer]:
    """Return what every provider offers, in the order in which they are known.

    Raises
    ------
    UsageError
        If the environment says of an account what can't be meant.
    """
    return [_offer(settings, settings.account(name)) for name in PROVIDERS]


def _offer(settings: Settings, account: Account) -> Offer:
    provider, can, terms = account.provider, account.provider.can, account.terms
    return Offer(
        name=provider.name,
        is_default=provider.name == settings.provider.name,
        example=provider.example,
        feed=can.feed,
        daily_feed=can.daily_feed or can.feed,
        markets=tuple(_market(can, asset_type) for asset_type in can.native),
        adjustments=can.adjustments,
        daily_adjustments=can.daily_adjustments or can.adjustments,
        plan=terms.name,
        plans=tuple(provider.terms),
        depth=terms.depth,
        earliest=terms.earliest,
        reach=can.reach,
        newest_slots=can.pages.newest_slots,
        page_bars=can.pages.most_bars,
        quota=str(account.quota),
        cost=can.cost,
        keys=provider.key_variables,
        missing=_missing(account),
        caution=provider.caution if isinstance(provider, ByNameOnly) else None,
    )


def _missing(account: Account) -> str | None:
    try:
        account.api_keys()
    except UsageError as error:
        return str(error)
    return None


def _market(can: Capabilities, asset_type: str) -> Market:
    derived = {}
    for timeframe in Timeframe:
        try:
            base = can.base_of(asset_type, timeframe)
        except NotEntitled:
            continue
        if base is not timeframe:
            derived[timeframe] = base
    native = tuple(one for one in Timeframe if one in can.native[asset_type])
    return Market(asset_type, native, derived)
