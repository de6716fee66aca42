"""The wire protocol as pure functions: a call, the market and the clock in, an answer out."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, NoReturn
from urllib.parse import parse_qsl, urlencode

from backfill.core.bars import Bars
from backfill.simulator.market.market import Market
from backfill.simulator.market.sessions import Zone, sessions_of

Plan = Literal["unlimited", "free"]

BARS_PATH: Final = "/v2/aggs/"
GROUPED_PATH: Final = "/v2/aggs/grouped/"

_FREE_YEARS: Final = 2


@dataclass(frozen=True, slots=True)
class Lack:
    """What the provider does not have of a ticker, or of all: a span, or the last ``behind_ms``."""

    ticker: str | None
    behind_ms: int = 0
    span_ms: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One call and all that its answer depends on.

    ``path`` is decoded; ``base_url`` begins the ``next_url`` of a page. ``lacks`` says what of the
    market's bars is not there to be served.
    """

    path: str
    query: Mapping[str, str]
    market: Market
    now_ms: int
    plan: Plan
    base_url: str
    request_id: str
    lacks: tuple[Lack, ...] = ()

    def parameters(self) -> dict[str, str]:
        """Return the query, or what the cursor of an earlier page stands for."""
        if "cursor" not in self.query:
            return dict(self.query)
        try:
            text = base64.urlsafe_b64decode(self.query["cursor"] + "==").decode()
        except ValueError:
            self.refuse(400, error="The cursor is not valid")
        return dict(parse_qsl(text, keep_blank_values=True))

    def next_url(self, path: str, parameters: Mapping[str, object]) -> str:
        """Return the address of the next page; the key is never part of it."""
        return f"{self.base_url}{path}?cursor={cursor(parameters)}"

    def page_size(self, parameters: Mapping[str, str], default: int, most: int) -> int:
        """Return the ``limit`` asked for."""
        text = parameters.get("limit", str(default))
        if not text.isdecimal() or not 1 <= int(text) <= most:
            self.refuse(400, error=f"limit must be a number between 1 and {most}")
        return int(text)

    def known_until_ms(self, zone: Zone) -> int:
        """Return the instant up to which the plan shows data: now, or today's midnight."""
        return zone.midnight(zone.day_of(self.now_ms)) if self.plan == "free" else self.now_ms

    def served_until_ms(self, zone: Zone, ticker: str) -> int:
        """Return the instant up to which a ticker's bars are there to be shown."""
        behind_ms = max((lack.behind_ms for lack in self._lacks_of(ticker)), default=0)
        return min(self.known_until_ms(zone), self.now_ms - behind_ms)

    def served(self, ticker: str, base: Bars) -> Bars:
        """Return the minutes or days of a ticker that are there to be shown."""
        for lack in self._lacks_of(ticker):
            if lack.span_ms is not None:
                start_ms, end_ms = lack.span_ms
                base = base.take((base.ts_ms < start_ms) | (base.ts_ms >= end_ms))
        return base

    def _lacks_of(self, ticker: str) -> list[Lack]:
        return [lack for lack in self.lacks if lack.ticker in {None, ticker}]

    def entitle(self, zone: Zone, from_ms: int) -> None:
        """Refuse a range that begins outside of what the plan shows."""
        if self.plan != "free":
            return
        today = zone.day_of(self.now_ms)
        oldest = zone.midnight(_years_before(today, _FREE_YEARS))
        if not oldest <= from_ms < self.known_until_ms(zone):
            self.refuse(
                403,
                message="Your plan doesn't include this data timeframe. "
                "Please upgrade your plan at https://massive.com/pricing",
            )

    def refuse(self, status: int, *, error: str = "", message: str = "") -> NoReturn:
        """Give up on the call with an error answer."""
        raise Refused(refusal(status, self.request_id, error=error, message=message))


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status and a body to encode as JSON."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The call can't be answered with data."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


_STATUS_WORDS: Final = {403: "NOT_AUTHORIZED", 404: "NOT_FOUND"}


def refusal(
    status: int,
    request_id: str,
    *,
    error: str = "",
    message: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return an error answer; the provider says why in ``error`` or in ``message``."""
    body = {"status": _STATUS_WORDS.get(status, "ERROR"), "request_id": request_id}
    said = {"error": error} if error else {"message": message}
    return Answer(status, body | said, headers or {})


def cursor(parameters: Mapping[str, object]) -> str:
    """Return an opaque token that stands for the parameters of the next page."""
    return base64.urlsafe_b64encode(urlencode(parameters).encode()).decode().rstrip("=")


def day_in(ask: Ask, text: str) -> date:
    """Read a date of the form YYYY-MM-DD."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        ask.refuse(400, error=f"{text!r} is not a date")


def zone_of(ticker: str) -> Zone:
    """Return the time zone of a ticker's days, of an unknown one too."""
    return sessions_of("crypto" if ticker.startswith("X:") else "stocks").zone


def epoch_ms(instant: datetime) -> int:
    """Return epoch milliseconds; an instant without a zone is UTC."""
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # the 29th of February
        return day.replace(year=day.year - years, day=28)
