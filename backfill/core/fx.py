"""When currencies trade: from Sunday 17:00 to Friday 17:00 in New York, a session a trade date.

No exchange keeps these hours and no library has them. Banks quote through the holidays of single
countries; on the two days below next to nobody does. What a feed does otherwise, rows of
``market_sessions`` that are marked ``manual`` say.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from backfill.core.calendar import FX, ZONES, Session

HOLIDAYS: Final = frozenset({(1, 1), (12, 25)})
"""Month and day of the trade dates without a session: New Year's Day and Christmas Day.

One that falls on a weekend has no day in its place.
"""

_ROLL: Final = time(17)
_WEEKEND: Final = {5, 6}


def fx_sessions(first: date, last: date) -> Iterator[Session]:
    """Yield the sessions of the trade dates from one to another, both inclusive.

    >>> [session] = fx_sessions(date(2024, 12, 25), date(2024, 12, 26))
    >>> str(session.day), session.close_ms - session.open_ms
    ('2024-12-26', 86400000)
    """
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        day = date.fromordinal(ordinal)
        if day.weekday() not in _WEEKEND and (day.month, day.day) not in HOLIDAYS:
            yield Session(day, _roll_ms(day - timedelta(days=1)), _roll_ms(day))


def _roll_ms(day: date) -> int:
    return round(datetime.combine(day, _ROLL, ZoneInfo(ZONES[FX])).timestamp() * 1000)
