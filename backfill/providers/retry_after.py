"""Reading the ``Retry-After`` header."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds an answer asks to wait; None if it doesn't say.

    The header holds seconds or an HTTP date (RFC 9110, 10.2.3). A date is measured against the
    answer's own ``Date``, so that a wrong clock on this side doesn't matter.

    >>> retry_after_s({"retry-after": "7"})
    7.0
    >>> retry_after_s({"date": "Tue, 24 Nov 2026 11:00:00 GMT",
    ...                "retry-after": "Tue, 24 Nov 2026 11:00:30 GMT"})
    30.0
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (at - now).total_seconds())
    except (ValueError, OverflowError, TypeError):  # the last: "-0000", which is no zone
        return None
