"""The bodies of Yahoo's answers: charts as columns, and refusals by status, code and words."""

from typing import Final

import msgspec

from backfill.core.bars import Bars
from backfill.core.raw import Oddities
from backfill.core.wire import Response
from backfill.errors import (
    BadAnswer,
    NotEntitled,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
)
from backfill.providers.bodies import decoded, decoded_or
from backfill.providers.refusals import refuse_status
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import NULL, Places, read_rows

_PAUSE_S: Final = 60.0
"""How long who was refused leaves it alone: no answer has told."""
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5)
_VALUES: Final = ("open", "high", "low", "close", "volume")
_MAINTENANCE: Final = b"Will be right back"
_NOTHING_THERE: Final = "Data doesn't exist for startDate"


class Meta(msgspec.Struct):
    """What a chart says of itself; ``firstTradeDate`` is in epoch seconds."""

    symbol: str = ""
    currency: str | None = None
    exchangeTimezoneName: str | None = None  # noqa: N815  # the wire's own name
    dataGranularity: str = ""  # noqa: N815
    firstTradeDate: int | None = None  # noqa: N815


class _Indicators(msgspec.Struct):
    quote: list[dict[str, list[msgspec.Raw]]] = []


class Chart(msgspec.Struct):
    """A chart; one without a single bar has no ``timestamp``."""

    meta: Meta
    indicators: _Indicators = msgspec.field(default_factory=_Indicators)
    timestamp: list[msgspec.Raw] = []


class _Error(msgspec.Struct):
    code: str = ""
    description: str = ""


class _Result(msgspec.Struct):
    result: list[Chart] | None = None
    error: _Error | None = None


class _Body(msgspec.Struct):
    chart: _Result


class _Refused(msgspec.Struct):
    error: _Error | None = None


class _RefusedBody(msgspec.Struct):
    chart: _Refused


_BODY: Final = msgspec.json.Decoder(_Body)
_REFUSED: Final = msgspec.json.Decoder(_RefusedBody)


def chart_in(response: Response) -> Chart | None:
    """Return the chart of an answer; None if nothing is there in the range that was asked for.

    Raises
    ------
    UnknownSymbol, NotEntitled, RateLimited, GeoBlocked, ProviderUnavailable, ProviderError
        As the status, or the code in the body, says.
    UnreadableAnswer
        If it is no such answer.
    BadAnswer
        If it isn't one chart.
    """
    status, body = response.status, response.body
    if status == 200 and _MAINTENANCE in body:
        raise ProviderUnavailable("the provider answers with its page of maintenance")
    if status == 200:
        answer = decoded(_BODY, body).chart
        error, charts = answer.error or _Error(), answer.result or []
        if len(charts) == 1 and answer.error is None:
            return charts[0]
    else:
        refused = decoded_or(_REFUSED, body, _RefusedBody(_Refused()))
        error, charts = refused.chart.error or _Error(), []
    said = error.description.strip() or error.code
    if _NOTHING_THERE in said:
        return None
    if status == 404 or error.code == "Not Found":
        raise UnknownSymbol(f"the provider has no such symbol ({status}): {said}")
    if status == 422 or error.code == "Unprocessable Entity":
        raise NotEntitled(f"the provider doesn't reach so far back ({status}): {said}")
    if status == 429:
        wait_s = retry_after_s(response.headers)
        raise RateLimited(
            "the provider asked to slow down (429)", _PAUSE_S if wait_s is None else wait_s
        )
    refuse_status(response, said)
    raise BadAnswer(f"an answer of {len(charts)} charts came{f': {said}' if said else ''}")


def bars_in(chart: Chart) -> tuple[Bars, Oddities]:
    """Return the bars of a chart, and what came in them that is no number.

    A row of nulls is none: a holiday, or a halt.

    Raises
    ------
    UnreadableAnswer
        If a stamp is no whole number.
    BadAnswer
        If its columns are of several lengths: a short one would shift prices. Or if it is stamped
        in another unit.
    """
    [quote] = chart.indicators.quote if len(chart.indicators.quote) == 1 else [{}]
    columns = [quote.get(name, []) for name in _VALUES]
    lengths = [len(chart.timestamp), *map(len, columns)]
    if len(set(lengths)) != 1:
        raise BadAnswer(f"the columns of the answer are of several lengths: {lengths}")
    rows = [
        row
        for row in zip(chart.timestamp, *columns, strict=True)
        if any(value != NULL for value in row[1:])
    ]
    return read_rows(rows, _PLACES) if rows else (Bars.empty(), {})
