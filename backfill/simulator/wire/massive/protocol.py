"""Massive's protocol: what its calls have in common, and how it refuses one."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Final, NoReturn, Self
from urllib.parse import parse_qsl, urlencode

from backfill.simulator.market.sessions import Zone, sessions_of
from backfill.simulator.wire import base
from backfill.simulator.wire.base import Answer, Refused

BARS_PATH: Final = "/v2/aggs/"
GROUPED_PATH: Final = "/v2/aggs/grouped/"

_FREE_YEARS: Final = 2


@dataclass(frozen=True, slots=True)
class Ask(base.Ask):
    """A call by this protocol; ``base_url`` begins the ``next_url`` of a page."""

    @classmethod
    def of(cls, ask: base.Ask) -> Self:
        """Return a call of any protocol as one of this."""
        return cls(**{field.name: getattr(ask, field.name) for field in fields(ask)})

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
        return min(self.known_until_ms(zone), self.there_until_ms(ticker))

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


_STATUS_WORDS: Final = {403: "NOT_AUTHORIZED", 404: "NOT_FOUND"}


def refusal(status: int, request_id: str, *, error: str = "", message: str = "") -> Answer:
    """Return an error answer; the provider says why in ``error`` or in ``message``."""
    body = {"status": _STATUS_WORDS.get(status, "ERROR"), "request_id": request_id}
    return Answer(status, body | ({"error": error} if error else {"message": message}))


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
    """Return the time zone of a ticker's days, of an unknown one too; those of pairs are by UTC."""
    return sessions_of("crypto" if ticker.startswith(("X:", "C:")) else "stocks").zone


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # the 29th of February
        return day.replace(year=day.year - years, day=28)
