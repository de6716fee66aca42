"""Dates as HTTP spells them."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_ASCTIME: Final = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}")


def http_date(text: str) -> datetime | None:
    """Read a date in any of the three forms of RFC 9110 (5.6.7); None for anything else.

    >>> for text in ("Sun, 06 Nov 1994 08:49:37 GMT",
    ...              "Sunday, 06-Nov-94 08:49:37 GMT",
    ...              "Sun Nov  6 08:49:37 1994"):
    ...     print(http_date(text))
    1994-11-06 08:49:37+00:00
    1994-11-06 08:49:37+00:00
    1994-11-06 08:49:37+00:00
    """
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # What names no zone is GMT in the form of asctime, and "-0000", which is no zone, elsewhere.
    return at.replace(tzinfo=UTC) if _ASCTIME.fullmatch(text.strip()) else None
