"""Whether a run's clock may be trusted to say which bars are final."""

from typing import Final

from backfill.core.http_date import http_date
from backfill.errors import ClockAhead

_AHEAD_S: Final = 60
"""The shortest settling of a provider: no bar counts as final sooner after its end."""


def check_clock(now_ms: int, date: str | None) -> None:
    """Hold what a run takes for now against the ``Date`` of an answer (RFC 9110, 6.6.1).

    A bar that still formed when the provider answered would be stored as final by a run whose
    clock is ahead of the provider's. A header that is missing or can't be read says nothing.

    Raises
    ------
    ClockAhead
        If the run's clock is more than a minute ahead.
    """
    answered = http_date(date or "")
    if answered is None:
        return
    ahead_s = now_ms / 1000 - answered.timestamp()
    if ahead_s > _AHEAD_S:
        raise ClockAhead(
            f"this run's clock is {ahead_s:.0f} s ahead of the provider's, which answered at "
            f"{answered:%Y-%m-%dT%H:%M:%SZ}: set this machine's clock, or give "
            "an earlier --as-of; of that answer nothing was stored"
        )
