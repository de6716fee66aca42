"""What a call of Alpaca's protocol says: its symbols, span, timeframe, feed, and its token."""

import base64
import re
from datetime import UTC, datetime
from typing import Final

from backfill.core.timeframe import HOUR_MS, MINUTE_MS
from backfill.simulator.market.sessions import MONDAY, Grid, Zone
from backfill.simulator.wire.base import Answer, Ask, Refused, epoch_ms

MOST: Final = 10_000
_DEFAULT: Final = 1000
_FRAME: Final = re.compile(r"(\d+)(Min|Hour|Day|Week|Month)")


def token_of(symbol: str, edge_ms: int) -> str:
    """Return a token as the service's are; that of one who reads backwards hides its time."""
    return base64.b64encode(f"{symbol}|M|{edge_ms}".encode()).decode()


def resumed_at(ask: Ask) -> tuple[str, int] | None:
    """Return after which bar of which symbol a call goes on; None of a first page."""
    token = ask.query.get("page_token")
    if not token:
        return None
    try:
        symbol, _, edge = base64.b64decode(token, validate=True).decode().split("|")
        return symbol, int(edge)
    except ValueError:
        raise Refused(refusal_of(400, "invalid page_token")) from None


def grid_of(ask: Ask, zone: Zone) -> Grid:
    """Return where the bars of the asked timeframe start."""
    match = _FRAME.fullmatch(sent(ask, "timeframe"))
    number, unit = (int(match[1]), match[2]) if match else (0, "")
    if unit == "Min" and 1 <= number < 60 and 60 % number == 0:
        return Grid(zone, "intraday", number * MINUTE_MS)
    if unit == "Hour" and 1 <= number < 24 and 24 % number == 0:
        return Grid(zone, "intraday", number * HOUR_MS)
    if number == 1 and unit in {"Day", "Week", "Month"}:
        return Grid(zone, unit.lower(), week_starts=MONDAY)  # type: ignore[arg-type]  # narrowed
    raise Refused(refusal_of(400, f"invalid timeframe: {ask.query['timeframe']}"))


def feed_of(ask: Ask) -> str:
    """Return the feed of stocks that is asked for."""
    feed = ask.query.get("feed", "sip")
    if feed not in {"sip", "iex", "boats"}:
        raise Refused(refusal_of(400, f"invalid feed: {feed}"))
    return feed


def instant_of(ask: Ask, name: str, default_ms: int) -> int:
    """Return an instant, in epoch ms."""
    text = ask.query.get(name)
    if not text:
        return default_ms
    try:
        return epoch_ms(datetime.fromisoformat(text).astimezone(UTC))
    except ValueError:
        raise Refused(refusal_of(400, f"invalid {name}: {text}")) from None


def limit_of(ask: Ask) -> int:
    """Return how many bars a page may hold."""
    text = ask.query.get("limit", str(_DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise Refused(refusal_of(400, f"invalid limit: {text}"))
    return int(text)


def sent(ask: Ask, name: str) -> str:
    """Return what has to be said."""
    if not ask.query.get(name):
        raise Refused(refusal_of(400, f"{name} is required"))
    return ask.query[name]


def refusal_of(status: int, message: str, code: int | None = None) -> Answer:
    """Return a refusal in the words of the service."""
    return Answer(status, ({} if code is None else {"code": code}) | {"message": message})
