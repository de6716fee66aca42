"""The bodies of Finnhub's answers: candles as columns, and refusals by their status and words."""

from typing import Final

import msgspec
import numpy as np

from backfill.core.bars import Bars
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.raw import Oddities
from backfill.core.wire import Response
from backfill.errors import BadAnswer, NotEntitled, ProviderError, Unauthorised
from backfill.providers.bodies import UNREADABLE, decoded, decoded_or
from backfill.providers.refusals import refuse_status
from backfill.providers.rows import Places, read_rows

_NOT_ENTITLED: Final = "access to this resource"
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5)
_LETTERS: Final = {
    "said": "s",
    "stamps": "t",
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
}


class _Numbers(msgspec.Struct, rename=_LETTERS, gc=False):
    """A good answer: numbers only."""

    said: str
    stamps: list[int] = []
    open: list[float] = []
    high: list[float] = []
    low: list[float] = []
    close: list[float] = []
    volume: list[float] = []


class _Columns(msgspec.Struct, rename=_LETTERS):
    """An answer whatever its columns hold."""

    said: str
    stamps: list[msgspec.Raw] | None = None
    open: list[msgspec.Raw] | None = None
    high: list[msgspec.Raw] | None = None
    low: list[msgspec.Raw] | None = None
    close: list[msgspec.Raw] | None = None
    volume: list[msgspec.Raw] | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


_NUMBERS: Final = msgspec.json.Decoder(_Numbers)
_COLUMNS: Final = msgspec.json.Decoder(_Columns)
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def candles_in(body: bytes) -> tuple[Bars, Oddities]:
    """Return the candles of an answer, and what came in them that is no number.

    Raises
    ------
    UnreadableAnswer
        If it is no such answer.
    BadAnswer
        If its columns are of several lengths: a short one would shift prices. Or if it says
        neither ``ok`` nor ``no_data``, or is stamped in another unit.
    """
    try:
        numbers = _NUMBERS.decode(body)
    except UNREADABLE:
        return _row_by_row(body)
    stamps = numbers.stamps
    values = (numbers.open, numbers.high, numbers.low, numbers.close, numbers.volume)
    _see_whole(numbers.said, [len(stamps), *map(len, values)])
    if not stamps:
        return Bars.empty(), {}
    if not EARLIEST_MS <= 1000 * min(stamps) <= 1000 * max(stamps) <= LATEST_MS:
        raise BadAnswer("the candles are not stamped in epoch seconds")
    columns = (np.array(column, np.float64) for column in values)
    return Bars.priced(np.array(stamps, np.int64) * 1000, *columns), {}


def refuse_errors(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names.

    What a plan lacks is 403, and was 401 with the same words (#405): the key itself is good.
    """
    status = response.status
    if status == 200:
        return
    said = decoded_or(_REFUSAL, response.body, _Refusal()).error.strip().removesuffix(".")
    detail = f": {said}" if said else ""
    if status == 403 or (status == 401 and _NOT_ENTITLED in said):
        raise NotEntitled(
            f"finnhub knows the key, but its plan lacks this ({status}){detail}. Candles are paid: "
            "see https://finnhub.io/pricing, or ask another (backfill providers lists them)"
        )
    if status == 401:
        raise Unauthorised(f"the provider refused the key (401){detail}")
    if 300 <= status < 400:
        raise ProviderError(
            f"the provider sent the call elsewhere ({status}), as it has for a wrong key"
        )
    refuse_status(response, said)


def _row_by_row(body: bytes) -> tuple[Bars, Oddities]:
    """Read an answer in which a value is no number: it costs its own bar alone."""
    answer = decoded(_COLUMNS, body)
    columns = [getattr(answer, name) or [] for name in _LETTERS if name != "said"]
    _see_whole(answer.said, list(map(len, columns)))
    rows = list(zip(*columns, strict=True))
    return read_rows(rows, _PLACES) if rows else (Bars.empty(), {})


def _see_whole(said: str, lengths: list[int]) -> None:
    if len(set(lengths)) != 1:
        raise BadAnswer(f"the columns of the answer are of several lengths: {lengths}")
    if said not in {"ok", "no_data"} or (said == "no_data" and lengths[0]):
        raise BadAnswer(f"an answer with {lengths[0]} candles says {said[:40]!r}")
