"""Flat files: a session of the whole market as gzipped CSV, by the protocol of S3."""

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.timeframe import HOUR_MS
from backfill.simulator.market.market import Market
from backfill.simulator.market.night import EVENING_MS
from backfill.simulator.market.sessions import sessions_of
from backfill.simulator.wire.base import Answer, Blob, Lack
from backfill.simulator.wire.massive.protocol import Ask, day_in

FILES_PATH: Final = "/flatfiles/"
HEADER: Final = "ticker,volume,open,close,high,low,window_start,transactions"
_SIGNED: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(.+)/\d{8}/[^/]+/s3/aws4_request, ?"
    r"SignedHeaders=[a-z0-9;-]*x-amz-date[a-z0-9;-]*, ?Signature=[0-9a-f]{64}"
)
_READY_MS: Final = 11 * HOUR_MS
"""A file is there at eleven in New York on the day after its session."""
_KEPT: Final = 8
_CODES: Final = {403: "AccessDenied", 404: "NoSuchKey", 405: "MethodNotAllowed"}


@dataclass(frozen=True, slots=True)
class File(Blob):
    """A gzipped file."""

    packed: bytes
    content_type = "application/gzip"

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self.packed


@dataclass(frozen=True, slots=True)
class _Said(Blob):
    text: str
    content_type = "application/xml"

    @property
    def data(self) -> bytes:
        return self.text.encode()


def key_id(headers: Mapping[str, str]) -> str:
    """Return whose key a request is signed with; nobody's if it isn't. The signature is not tested.

    >>> key_id({"Authorization": "Bearer sim-key"})
    ''
    """
    signed = _SIGNED.fullmatch(headers.get("Authorization", ""))
    return signed[1] if signed and "x-amz-date" in {name.lower() for name in headers} else ""


def flat_file(ask: Ask, kind: str, day_text: str) -> Answer:
    """Answer ``/flatfiles/us_stocks_sip/{kind}_aggs_v1/{year}/{month}/{date}.csv.gz``."""
    day = day_in(ask, day_text)
    sessions = sessions_of("stocks")
    midnight = sessions.zone.midnight(day)
    if ask.plan == "free":
        return refusal(403)
    is_session = midnight in sessions.midnight_ms
    if not is_session or ask.now_ms < sessions.zone.next_midnight(midnight) + _READY_MS:
        return refusal(404)
    return Answer(200, File(_packed(ask.market, day, kind == "day", ask.lacks)))


def refusal(status: int) -> Answer:
    """Refuse a request in S3's words, which are the same for a wrong key and a plan without."""
    code = _CODES.get(status, "InternalError")
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Answer(status, _Said(text))


@lru_cache(_KEPT)
def _packed(market: Market, day: date, daily: bool, lacks: tuple[Lack, ...]) -> bytes:  # noqa: FBT001  # cached by place
    lines = [HEADER]
    for ticker in sorted(market.tickers):
        owner = market.owner(ticker, day)
        if owner is not None and owner.market == "stocks":
            bars = _bars(market, owner.ticker, day, daily=daily)
            lines += _rows(ticker, _served(bars, ticker, lacks))
    return gzip.compress("\n".join([*lines, ""]).encode(), 1, mtime=0)


def _bars(market: Market, ticker: str, day: date, *, daily: bool) -> Bars:
    """Return the minutes of a trade date, or its day."""
    zone = sessions_of("stocks").zone
    midnight, following = zone.midnight(day), zone.next_midnight(zone.midnight(day))
    evening_ms = 0 if daily else EVENING_MS
    parts = market.base(
        ticker,
        midnight - evening_ms,
        following - evening_ms,
        daily=daily,
        adjusted=False,
        now_ms=following,
    )
    return Bars.concat(list(parts))


def _served(bars: Bars, ticker: str, lacks: tuple[Lack, ...]) -> Bars:
    for lack in lacks:
        if lack.ticker in {None, ticker} and lack.span_ms is not None:
            start_ms, end_ms = lack.span_ms
            bars = bars.take((bars.ts_ms < start_ms) | (bars.ts_ms >= end_ms))
    return bars


def _rows(ticker: str, bars: Bars) -> Iterator[str]:
    columns = (bars.volume, bars.open, bars.close, bars.high, bars.low)
    values = ([_text(value) for value in column.tolist()] for column in columns)
    for *prices, ts_ms, count in zip(
        *values, bars.ts_ms.tolist(), bars.trade_count.tolist(), strict=True
    ):
        known = "" if count == NO_COUNT else count
        yield f"{ticker},{','.join(prices)},{ts_ms}000000,{known}"


def _text(value: float) -> str:
    return repr(value).removesuffix(".0")
