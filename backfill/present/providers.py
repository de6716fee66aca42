"""What each provider offers, as people and JSON are told."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any, Final

from backfill.api import Offer
from backfill.core.timeframe import Timeframe
from backfill.present import markdown
from backfill.present.tables import console, table_of

_COLUMNS: Final = (
    *("provider", "market", "timeframes", "rolled up here", "adjustments", "reaches back"),
    *("plan", "quota", "key"),
)

_BY_NAME: Final = "off unless named"


def listed(offers: Iterable[Offer]) -> None:
    """Print a row for each market of each provider, by our account with it."""
    table = table_of(*_COLUMNS)
    for one in offers:
        for row in _rows(one, _key(one)):
            table.add_row(*row)
    console().print(table)


def page(offers: Iterable[Offer]) -> str:
    """Return the same as a table of Markdown, whoever's account it is."""
    lines = markdown.head(*_COLUMNS)
    for one in offers:
        keys = " and ".join(f"`{names[0]}`" for names in one.keys) or "none"
        keys += "" if one.caution is None else f"; {_BY_NAME}"
        lines += [markdown.row(*row) for row in _rows(one, keys)]
    return "\n".join(lines)


def as_dict(offers: Iterable[Offer]) -> dict[str, Any]:
    """Return the providers as JSON's own types."""
    return {"providers": [_as_dict(one) for one in offers]}


def _rows(one: Offer, key: str) -> Iterator[tuple[str, ...]]:
    for market in one.markets:
        rolled = " ".join(f"{made} of {base}" for made, base in market.derived.items())
        yield (
            one.name,
            market.asset_type,
            _timeframes(market.native),
            rolled,
            _adjustments(one),
            _reach(one),
            one.plan,
            _quota(one),
            key,
        )


def _timeframes(native: tuple[Timeframe, ...]) -> str:
    return "all nine" if len(native) == len(Timeframe) else " ".join(native)


def _adjustments(one: Offer) -> str:
    told = " ".join(one.adjustments)
    if one.daily_adjustments == one.adjustments:
        return told
    return f"{told}, days and longer {' '.join(one.daily_adjustments)}"


def _reach(one: Offer) -> str:
    if one.newest_slots is not None:
        return f"the newest {one.newest_slots} bars"
    told = [_reached(one.depth or one.earliest)]
    for reach in dict.fromkeys(one.reach.values()):
        timeframes = [at for at in Timeframe if one.reach.get(at) == reach]
        told.append(f"{' '.join(timeframes)} {_reached(reach)}")
    return ", ".join(told)


def _reached(back: timedelta | date) -> str:
    return f"{back.days} days" if isinstance(back, timedelta) else f"to {back}"


def _quota(one: Offer) -> str:
    if one.cost == 1 or one.quota == "unlimited":
        return one.quota
    return f"{one.quota}, a call takes {one.cost}"


def _key(one: Offer) -> str:
    """Whether the keys are set, and what to set where they aren't."""
    if not one.keys:
        return "none needed" if one.caution is None else f"none needed; {_BY_NAME}"
    names = " and ".join(names[0] for names in one.keys)
    return "set" if one.missing is None else f"not set: {names}"


def _as_dict(one: Offer) -> dict[str, Any]:
    return {
        "provider": one.name,
        "default": one.is_default,
        "example": one.example,
        "feed": one.feed,
        "daily_feed": one.daily_feed,
        "markets": [
            {
                "asset_type": market.asset_type,
                "native": list(map(str, market.native)),
                "derived": {str(made): str(base) for made, base in market.derived.items()},
            }
            for market in one.markets
        ],
        "adjustments": list(one.adjustments),
        "daily_adjustments": list(one.daily_adjustments),
        "plan": one.plan,
        "plans": list(one.plans),
        "depth_days": one.depth.days if one.depth is not None else None,
        "earliest": one.earliest.isoformat(),
        "reach": {str(at): _reached(reach) for at, reach in one.reach.items()},
        "newest_slots": one.newest_slots,
        "page_bars": one.page_bars,
        "quota": one.quota,
        "cost": one.cost,
        "keys": [list(names) for names in one.keys],
        "missing": one.missing,
        "caution": one.caution,
    }
