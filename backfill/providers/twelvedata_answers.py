"""What Twelve Data answers, from a body to columns, or to the outcome that it names.

Errors come with the status 200, too: what the body says of itself goes before that.
"""

from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Final

import msgspec

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.http_date import http_date
from backfill.core.raw import Oddities
from backfill.core.wire import Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    RateLimited,
    Unauthorised,
    UnknownSymbol,
    UnreadableAnswer,
)
from backfill.providers.bodies import decoded, decoded_or
from backfill.providers.refusals import refuse_otherwise
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import NULL, Places, PricedRow, Row, read_rows

_NONE: Final = msgspec.Raw(b"0")
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5)
_NO_BARS: Final = "No data is available on the specified dates"
_NOT_FOUND: Final = "Data not found"
_MINUTE_S: Final = 60.0
_DAY_S: Final = 86_400.0
_AT_MOST_S: Final = 3600.0
"""For so long who is out of credits for the day waits, where the answer tells no time."""


class _Row(PricedRow, kw_only=True):
    """A bar; currencies have no volume."""

    datetime: str


class Meta(msgspec.Struct):
    """What a series says of itself."""

    symbol: str = ""
    interval: str = ""
    currency: str | None = None
    exchange_timezone: str | None = None


class Series(msgspec.Struct):
    """The bars of a symbol."""

    meta: Meta
    values: list[_Row] = []


class _Refusal(msgspec.Struct):
    status: str = ""
    code: int = 0
    message: str = ""


_SERIES: Final = msgspec.json.Decoder(Series)
_BATCH: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def series_in(body: bytes, spelling: str) -> Series:
    """Return the series of a symbol: that of the answer, or of several, which are keyed by it.

    Raises
    ------
    NotEntitled, UnknownSymbol, RateLimited, ProviderError
        If there is an error in the series' place.
    UnreadableAnswer
        If it is neither.
    """
    named = decoded_or(_BATCH, body, {})
    if "meta" in named:
        return decoded(_SERIES, body)
    if spelling not in named:
        raise UnreadableAnswer("the answer holds no bars, and doesn't say why")
    refuse_errors(Response(200, {}, bytes(named[spelling])))
    return decoded(_SERIES, named[spelling])


def check_meta(series: Series, spelling: str, interval: str, zone: str | None) -> None:
    """See that a series is the one that was asked for; ``zone`` is that of a share's exchange.

    Raises
    ------
    BadAnswer
        If it is of another symbol or length, or of an exchange elsewhere.
    """
    meta = series.meta
    if meta.symbol != spelling:
        raise BadAnswer(f"bars of {meta.symbol!r} came for {spelling}")
    if meta.interval != interval:
        raise BadAnswer(f"bars of {meta.interval!r} came for {interval}")
    if zone is not None and (meta.currency, meta.exchange_timezone) != ("USD", zone):
        raise BadAnswer(
            f"bars in {meta.currency}, told by {meta.exchange_timezone}, came for {spelling}"
        )


def bars_in(series: Series, asked: Asked) -> tuple[Bars, Oddities]:
    """Return the bars of a series, and what came in them that is no number.

    A day is stamped with its midnight on the exchange, anything else by the exchange's clock for
    shares, and by UTC for pairs, which are asked for so. Currencies have no volume: it is 0.

    Raises
    ------
    UnreadableAnswer
        If a stamp is none.
    BadAnswer
        If one lies in no year that a bar may be of.
    """
    zone = asked.calendar.zone if asked.symbol.is_share else UTC
    missing = _NONE if asked.symbol.asset_type == "fx" else NULL
    rows: list[Row] = [
        (
            msgspec.Raw(str(_stamp_ms(row.datetime, zone)).encode()),
            *(row.open, row.high, row.low, row.close),
            missing if row.volume == NULL else row.volume,
        )
        for row in series.values
    ]
    return read_rows(rows, _PLACES, unit_ms=1)


def is_without_bars(response: Response) -> bool:
    """Whether an answer is the error that says that there are no bars in a range."""
    said = _said(response)
    return (said.code == 400 and said.message.startswith(_NO_BARS)) or (
        said.code == 404 and said.message == _NOT_FOUND
    )


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer names; what its body says goes before its status.

    Raises
    ------
    Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderUnavailable, ProviderError
        As it says.
    """
    said = _said(response)
    code = said.code if said.status == "error" and said.code else response.status
    if code == 200 and said.status != "error":
        return
    words = said.message.strip()
    detail = f": {words}" if words else ""
    if code == 401 or (code == 403 and words.startswith("The 'demo' API key")):
        raise Unauthorised(f"the provider refused the key ({code}){detail}")
    if code == 403 or (code == 404 and "plan" in words):
        raise NotEntitled(f"the plan doesn't include this ({code}){detail}")
    if code in {400, 404} and words.startswith("**symbol**"):
        raise UnknownSymbol(f"the provider doesn't know this symbol ({code})")
    if code == 429:
        wait_s = _wait_s(response, for_the_day="for the day" in words)
        raise RateLimited(f"the provider asked to slow down (429){detail}", wait_s)
    refuse_otherwise(replace(response, status=code), words)


def _said(response: Response) -> _Refusal:
    return decoded_or(_REFUSAL, response.body, _Refusal())


def _wait_s(response: Response, *, for_the_day: bool) -> float:
    """Return how long to wait for new credits: until a minute, or a day by UTC, begins."""
    told = retry_after_s(response.headers)
    if told is not None:
        return told
    now = http_date(response.headers.get("date", ""))
    if now is None:
        return _AT_MOST_S if for_the_day else _MINUTE_S
    period_s = _DAY_S if for_the_day else _MINUTE_S
    return period_s - now.timestamp() % period_s


def _stamp_ms(text: str, zone: tzinfo) -> int:
    try:
        return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UnreadableAnswer("the time stamp of a bar is none") from None
