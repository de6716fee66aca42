"""Epoch milliseconds and spans, to and from what statements and their rows hold of them."""

from datetime import UTC, date, datetime, timedelta
from struct import unpack
from typing import TYPE_CHECKING, Final

from backfill.core.coverage import Span, Spans

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_MANY: Final = 100
"""From so many spans on numpy spells their bounds, in a tenth of the time."""
_FOREVER_US: Final = 2**63 - 1
"""What a binary timestamptz holds for infinity; it is negative for -infinity."""
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS
# Where the ranges of a multirange begin and end, one after the other, whatever the session's style
# of dates is.
_BOUNDS: Final = """(
        SELECT encode(string_agg(
            timestamptz_send(coalesce(lower(s), '-infinity'))
                || timestamptz_send(coalesce(upper(s), 'infinity')),
            ''::bytea
        ), 'hex')
        FROM unnest({column}) AS s
    )"""
POSTGRES_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01Z in epoch ms: a binary timestamptz counts microseconds from there."""


def to_time(ms: int) -> datetime:
    """Return the instant of an epoch millisecond, in UTC."""
    return _EPOCH + ms * _MS


def to_ms(at: datetime) -> int:
    """Return the epoch millisecond of an aware datetime."""
    return (at - _EPOCH) // _MS


def to_range(span: Span) -> str:
    """Return a span as the text of a half-open tstzrange."""
    return f"[{to_time(span.start_ms).isoformat()},{to_time(span.end_ms).isoformat()})"


def to_text(spans: Spans) -> str:
    """Return spans as the text of a tstzmultirange."""
    if len(spans) > _MANY:
        import numpy as np

        bounds_ms = np.array(spans.items, np.int64).ravel()
        bounds = iter(np.datetime_as_string(bounds_ms.astype("datetime64[ms]")).tolist())
        ranges = ",".join([f"[{start}Z,{end}Z)" for start, end in zip(bounds, bounds, strict=True)])
        return f"{{{ranges}}}"
    return f"{{{','.join(map(to_range, spans))}}}"


def bounds_of(column: str) -> str:
    """Return the expression for the bounds of a tstzmultirange, as `from_bounds` reads them."""
    return _BOUNDS.format(column=column)


def from_bounds(bounds: str | None) -> Spans:
    """Return the spans of a tstzmultirange; one without a bound reaches as far as time does."""
    if not bounds:
        return Spans()
    sent = bytes.fromhex(bounds)
    bounds_ms = [_sent_ms(at_us) for at_us in unpack(f">{len(sent) // 8}q", sent)]
    return Spans.union(zip(bounds_ms[::2], bounds_ms[1::2], strict=True))


def _sent_ms(at_us: int) -> int:
    if abs(at_us) >= _FOREVER_US:
        return _LAST_MS if at_us > 0 else _FIRST_MS
    return at_us // 1000 + POSTGRES_EPOCH_MS


def told_time(told: str | None) -> datetime | None:
    """Return a timestamptz that a row tells as JSON does."""
    if told is None or not told.endswith("infinity"):
        return None if told is None else datetime.fromisoformat(told)
    return to_time(_FIRST_MS if told.startswith("-") else _LAST_MS)


def told_day(told: str | None) -> date | None:
    """Return a date that a row tells as JSON does."""
    return None if told is None else day_of(told)


def day_of(told: str) -> date:
    """Return a date that a row tells as JSON does, and that is never NULL."""
    if not told.endswith("infinity"):
        return date.fromisoformat(told)
    return date.min if told.startswith("-") else date.max


def stamps_to_ms(stamps: bytes) -> "IntColumn":
    """Return the epoch milliseconds of timestamptz values as ``timestamptz_send`` writes them."""
    import numpy as np

    return np.frombuffer(stamps, ">i8").astype(np.int64) // 1000 + POSTGRES_EPOCH_MS
