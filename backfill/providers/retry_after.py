"""Reading the ``Retry-After`` header."""

from collections.abc import Mapping

from backfill.core.http_date import http_date


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
    at, now = http_date(value), http_date(headers.get("date", ""))
    return None if at is None or now is None else max(0.0, (at - now).total_seconds())
