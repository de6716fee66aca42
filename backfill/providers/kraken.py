"""Kraken's spot market: the newest 720 bars of a pair, and none before them.

Protocol: https://docs.kraken.com/api-reference/market-data/get-ohlc-data. A row is ``[time, open,
high, low, close, vwap, volume, count]``, oldest first, and the last one always still forms.
Intervals without trades come as flat rows without volume. Refusals come with status 200.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import msgspec

from backfill.core.asked import Asked
from backfill.core.capabilities import Capabilities
from backfill.core.instrument import QUOTES, Instrument, Pair, parted, read_instrument
from backfill.core.pages import NewestOnly
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page, Request, Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
    UnreadableAnswer,
    UsageError,
)
from backfill.providers.base import Keyless, spelled
from backfill.providers.bodies import decoded
from backfill.providers.refusals import refuse_status
from backfill.providers.rows import Places, read_rows

_NEWEST: Final = 720
_CUT: Final = 700
"""An answer of so many rows may have been cut to the newest: once 707 to 711 were."""
_PLACES: Final = Places(open=1, high=2, low=3, close=4, vwap=5, volume=6, trade_count=7)
# Its weeks of 10,080 minutes and its 15 days are counted from 1970, a Thursday, as far as anybody
# tells; no recorded answer shows it.
_STEP_MS: Final = {
    Timeframe.m1: MINUTE_MS,
    Timeframe.m5: 5 * MINUTE_MS,
    Timeframe.m15: 15 * MINUTE_MS,
    Timeframe.m30: 30 * MINUTE_MS,
    Timeframe.h1: HOUR_MS,
    Timeframe.h4: 4 * HOUR_MS,
    Timeframe.d1: DAY_MS,
}
_EARLIEST: Final = date(2013, 10, 6)
_CODES: Final = {"BTC": "XBT", "DOGE": "XDG"}
"""What it calls some coins."""
_REST_S: Final = 30.0
"""After so long without a call a client that was refused was let in again."""

# Its words, by what they mean: https://support.kraken.com/articles/360001491786
_UNKNOWN: Final = ("EQuery:Unknown asset pair", "EQuery:Invalid asset pair")
_TOO_MANY: Final = (
    "EGeneral:Too many requests",
    "EAPI:Rate limit exceeded",
    "EGeneral:Temporary lockout",
    "EService:Throttled",
)
_AWAY: Final = ("EService:", "EGeneral:Internal error")
_DENIED: Final = ("EGeneral:Permission denied",)


class _Answer(msgspec.Struct):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_ROWS: Final = msgspec.json.Decoder(list[list[msgspec.Raw]])


class Kraken(Keyless):
    """The provider ``kraken``: its public market data, which takes no key."""

    name = "kraken"
    base_url = "https://api.kraken.com"
    can = Capabilities(
        feed="spot",
        native={"crypto": frozenset(_STEP_MS)},
        adjustments=("raw",),
        pages=NewestOnly(_NEWEST),
        fills_empty=True,
        refuses_places=True,
    )
    example = "BTC/USD"
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(1, 1.0),)), UNTOLD, None, _EARLIEST
    ).with_unlimited()

    def spelling(self, instrument: Instrument) -> str:
        """Return the pair as it may be asked for: ``BTC/USD`` is ``XBTUSD`` there."""
        match instrument:
            case Pair(base, quote):
                return _CODES.get(base, base) + _CODES.get(quote, quote)
        return str(instrument)

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the pair that a name is of, one of old (``XXBTZUSD``) or of today.

        Nothing there is priced in the lesser coins for dollars: ``DOTUSD`` is in dollars.
        """
        try:
            read = read_instrument(spelling)
        except UsageError:
            return parted(spelling, QUOTES)
        return read if isinstance(read, Pair) else None

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars from a span on; there is no end to give.

        One more than that, since ``since`` was measured to be inclusive and is documented not to.
        """
        step_ms = _STEP_MS[asked.timeframe]
        return Request(
            "/0/public/OHLC",
            {
                "pair": spelled(self, asked.symbol.instrument),
                "interval": str(step_ms // MINUTE_MS),
                "since": str((asked.span.start_ms - step_ms) // 1000),
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read bars; the last, which forms, and those from outside of the span are left out.

        Raises
        ------
        UnknownSymbol, RateLimited, NotEntitled, GeoBlocked, ProviderError, UnreadableAnswer
            As the answer says, whatever its status.
        BadAnswer
            If it holds another pair's bars, or none at all.
        """
        rows = self._rows(response, asked)
        if not rows:
            raise BadAnswer("the answer lacks even the bar that forms")
        bars, oddities = read_rows(rows, _PLACES)
        first_ms, forming_ms = int(bars.ts_ms.min()), int(bars.ts_ms.max())
        start_ms, end_ms = asked.span
        within = (bars.ts_ms >= start_ms) & (bars.ts_ms < min(end_ms, forming_ms))
        return Page(
            bars=bars.take(within),
            next=None,
            oddities=oddities,
            # Fewer rows than it would cut to are all that there are: the pair is younger.
            silent_before_ms=first_ms if len(rows) >= _CUT else None,
            silent_from_ms=forming_ms,
        )

    def _rows(self, response: Response, asked: Asked) -> list[list[msgspec.Raw]]:
        """Return the rows of the one pair of an answer, which it calls by a name of its own."""
        try:
            answer = decoded(_ANSWER, response.body)
        except UnreadableAnswer:
            refuse_status(response, "")
            raise
        _refuse(answer.error)
        refuse_status(response, "")
        found = [name for name in answer.result if name != "last"]
        if len(found) != 1:
            raise BadAnswer(f"the answer is about {len(found)} pairs")
        [name] = found
        wanted = asked.symbol.instrument
        # Of some names no rule reads: those come back as they were asked.
        if name != self.spelling(wanted) and self.instrument(name) != wanted:
            raise BadAnswer(f"bars of {name!r} came for {asked.symbol.ticker}")
        return decoded(_ROWS, answer.result[name])


def _refuse(said: Sequence[str]) -> None:
    """Raise the outcome that an answer's errors name; warnings are none."""
    errors = [one for one in said if not one.startswith("W")]
    if not errors:
        return
    told = f"the provider answered: {', '.join(errors)}"
    if any(one.startswith(_UNKNOWN) for one in errors):
        raise UnknownSymbol(told)
    if any(one.startswith(_TOO_MANY) for one in errors):
        raise RateLimited(told, _REST_S)
    if any(one.startswith(_AWAY) for one in errors):
        raise ProviderUnavailable(told)
    if any(one.startswith(_DENIED) for one in errors):
        raise NotEntitled(told)
    raise ProviderError(told)
