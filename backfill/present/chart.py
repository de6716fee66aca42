"""The newest bars of a series as JSON, in the shape of the system that this one replaces."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from backfill.core.bars import Bars
from backfill.store.source import EVER
from backfill.store.times import to_time

if TYPE_CHECKING:
    from backfill.audit.excerpt import Chart


class Bar(msgspec.Struct, frozen=True):
    """A bar; ``ts`` is its start in UTC."""

    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class Stretch(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """From when on, and before when."""

    from_: datetime
    to: datetime


class ChartAnswer(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"from_": "from", "asset_type": "assetType"},
):
    """What ``/chart`` answers: the newest bars of a range, oldest first.

    ``has_more`` tells that older ones lie in the range, ``fresh`` what `backfill status` judges.
    ``from_`` and ``to`` are null where no bound was given, ``provider`` and ``adjustment`` where
    nothing has been fetched. ``reloading`` is there where bars of the range are left out: they are
    to be loaded again, and may be on the share basis before a split.
    """

    symbol: str
    asset_type: str
    timeframe: str
    bars: list[Bar]
    from_: datetime | None
    to: datetime | None
    limit: int
    has_more: bool
    provider: str | None
    adjustment: str | None
    fresh: bool
    reloading: Stretch | None = None


def chart(one: "Chart", *, fresh: bool) -> bytes:
    """Return a chart as JSON, with whether its series is fresh."""
    of = one.excerpt
    symbol, timeframe = of.series
    source, left_out = of.known.progress.source, of.left_out.hull
    return msgspec.json.encode(
        ChartAnswer(
            symbol=symbol.ticker,
            asset_type=symbol.asset_type,
            timeframe=str(timeframe),
            bars=bars(one.bars),
            from_=_bound(of.span.start_ms),
            to=_bound(of.span.end_ms),
            limit=one.limit,
            has_more=one.has_more,
            provider=source.provider if source else None,
            adjustment=of.adjustment,
            fresh=fresh,
            reloading=Stretch(*map(to_time, left_out)) if left_out else None,
        )
    )


def bars(columns: Bars) -> list[Bar]:
    """Return bars one by one."""
    rows = zip(
        columns.ts_ms.tolist(),
        columns.open.tolist(),
        columns.high.tolist(),
        columns.low.tolist(),
        columns.close.tolist(),
        columns.volume.tolist(),
        strict=True,
    )
    return [Bar(datetime.fromtimestamp(ts_ms / 1000, UTC), *values) for ts_ms, *values in rows]


def _bound(ms: int) -> datetime | None:
    return None if ms in EVER else to_time(ms)
