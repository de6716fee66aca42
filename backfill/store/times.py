"""Epoch milliseconds and spans, to and from what asyncpg takes for timestamptz and ranges."""

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01Z, from which a binary timestamptz counts its microseconds."""


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


def from_ranges(ranges: list[asyncpg.Range]) -> Spans:
    """Return the spans of a tstzmultirange, whose bounds are finite."""
    return Spans.union((to_ms(item.lower), to_ms(item.upper)) for item in ranges)


def stamps_to_ms(stamps: bytes) -> IntColumn:
    """Return the epoch milliseconds of timestamptz values as ``timestamptz_send`` writes them."""
    return (np.frombuffer(stamps, ">i8").astype(np.int64) + _POSTGRES_EPOCH_US) // 1000
