"""Epoch milliseconds and spans, to and from what asyncpg takes for timestamptz and ranges."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from backfill.core.coverage import Span, Spans

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_MANY: Final = 100
"""From so many spans on numpy spells their bounds, in a tenth of the time."""
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
POSTGRES_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01Z in epoch ms: a binary timestamptz counts microseconds from there."""


def to_time(ms: int) -> datetime:
    """Return the instant of an epoch millisecond, in UTC."""
    return _EPOCH + ms * _MS


def to_ms(at: datetime) -> int:
    """Return the epoch millisecond of an aware datetime."""
    return (at - _EPOCH) // _MS


def to_range(span: Span) -> asyncpg.Range:
    """Return a span as a half-open tstzrange."""
    return asyncpg.Range(to_time(span.start_ms), to_time(span.end_ms))


def to_ranges(spans: Spans) -> list[asyncpg.Range]:
    """Return spans as a tstzmultirange."""
    return [to_range(span) for span in spans]


def to_text(spans: Spans) -> str:
    """Return spans as the text of a tstzmultirange, for arrays of them."""
    if len(spans) > _MANY:
        import numpy as np

        bounds_ms = np.array(spans.items, np.int64).ravel()
        bounds = iter(np.datetime_as_string(bounds_ms.astype("datetime64[ms]")).tolist())
        ranges = ",".join([f"[{start}Z,{end}Z)" for start, end in zip(bounds, bounds, strict=True)])
        return f"{{{ranges}}}"
    several = (f"[{to_time(start).isoformat()},{to_time(end).isoformat()})" for start, end in spans)
    return f"{{{','.join(several)}}}"


def from_ranges(ranges: list[asyncpg.Range]) -> Spans:
    """Return the spans of a tstzmultirange; one without a bound reaches as far as time does."""
    return Spans.union((to_ms(item.lower or _FIRST), to_ms(item.upper or _LAST)) for item in ranges)


def stamps_to_ms(stamps: bytes) -> "IntColumn":
    """Return the epoch milliseconds of timestamptz values as ``timestamptz_send`` writes them."""
    import numpy as np

    return np.frombuffer(stamps, ">i8").astype(np.int64) // 1000 + POSTGRES_EPOCH_MS
