"""What a request for bars asks, in the core's own words."""

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.dataclass import dataclass
from backfill.core.series import Symbol
from backfill.core.timeframe import Timeframe


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """The bars of a span of whole slots, of a symbol under the ticker that it had then."""

    symbol: Symbol
    calendar: Calendar
    timeframe: Timeframe
    span: Span
    adjustment: str
