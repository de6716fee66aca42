"""Faults on demand: which calls are hit, and by what."""

import random
import re
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from backfill.simulator.calls import Call, Kind


class Action(StrEnum):
    """What happens to a call. Names in double backticks are fields of `Fault`."""

    STATUS = "status"
    """Answer ``status`` with ``body`` and ``headers``."""
    RESET = "reset"
    """Reset the connection before any answer."""
    RESET_MID_BODY = "reset_mid_body"
    """Reset the connection half-way through the body."""
    TRUNCATE = "truncate"
    """Promise the whole body, send half of it and close."""
    HANG = "hang"
    """Say nothing until the client leaves."""
    DRIP = "drip"
    """Send the body at ``bytes_per_s``."""
    HTML = "html"
    """Answer 200 with a web page."""
    RANDOM_BYTES = "random_bytes"
    """Answer 200 with noise that claims to be JSON."""
    BAD_GZIP = "bad_gzip"
    """Send a body that is broken as gzip."""
    NESTED = "nested"
    """Send JSON that is nested 100,000 deep."""
    NAN = "nan"
    """Put a bare NaN where the first close was."""
    CHARSET = "charset"
    """Send UTF-16 under a charset that nobody knows."""
    GZIP_BOMB = "gzip_bomb"
    """Stream ``size`` bytes of white space, compressed a thousandfold."""
    ENORMOUS_BODY = "enormous_body"
    """Stream ``size`` bytes as they are."""
    WRONG_TICKER = "wrong_ticker"
    """Say that the bars are another ticker's."""
    WRONG_ADJUSTED = "wrong_adjusted"
    """Say that raw bars are adjusted, and the other way round."""
    WRONG_GRANULARITY = "wrong_granularity"
    """Serve months for days or weeks, and days for anything shorter."""
    SECONDS = "seconds"
    """Stamp bars in seconds."""
    MICROSECONDS = "microseconds"
    """Stamp bars in microseconds."""
    FOREIGN_NEXT = "foreign_next"
    """Point ``next_url`` to another host."""
    REPEATED_NEXT = "repeated_next"
    """Point ``next_url`` to this same page, under the same token."""
    ENDLESS_PAGES = "endless_pages"
    """Point ``next_url`` to this same page, under a new token each time."""
    DUPLICATES = "duplicates"
    """Serve every bar twice."""
    SHUFFLED = "shuffled"
    """Serve the bars of a page in no order."""
    DELAYED = "delayed"
    """Answer with status ``DELAYED``."""
    EDIT_BARS = "edit_bars"
    """Overwrite keys of the bars in ``span_ms`` with those of ``bar``."""
    CONFLICT = "conflict"
    """Follow the bars in ``span_ms`` by a copy that has the keys of ``bar``."""
    DROP_BARS = "drop_bars"
    """Leave out the bars in ``span_ms``."""
    SATURDAY_BAR = "saturday_bar"
    """Add a bar that is stamped on a Saturday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A rule: calls that match all of it are hit by its action.

    Parameters
    ----------
    action
        What happens.
    path
        A regular expression that is searched for in the decoded path and query.
    ticker
        Only calls about this ticker.
    kind
        Only calls for bars, or only look-ups.
    skip, times
        Leave out so many matching calls first, then hit so many; None for all.
    probability, seed
        The chance of a matching call to be hit, by a generator of its own.
    status, body, headers
        The answer of `Action.STATUS`; without a body it is the provider's own.
    bytes_per_s
        The pace of `Action.DRIP`.
    size
        The length of a streamed body once it is unpacked.
    span_ms
        The bars to edit, copy or drop, ``[start, end)`` by their wire stamps; None for the one in
        the middle of the page.
    bars_of
        In a grouped day, the bars to edit, copy or drop are this ticker's.
    bar
        Keys of the wire format and their new values, which need not make sense.
    """

    action: Action
    path: str = ""
    ticker: str | None = None
    kind: Kind | None = None
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    status: int = 500
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    bytes_per_s: float = 100.0
    size: int = 2**30
    span_ms: tuple[int, int] | None = None
    bars_of: str | None = None
    bar: dict[str, Any] = field(default_factory=lambda: {"v": -1.0})

    def matches(self, call: Call) -> bool:
        """Whether the rule is about a call at all."""
        return (
            (self.kind is None or call.kind == self.kind)
            and (self.ticker is None or f"/{self.ticker}/" in f"{call.path}/")
            and re.search(self.path, f"{call.path}?{urlencode(call.query)}") is not None
        )


class Faults:
    """The rules in force; the first one that hits a call has it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._lock = Lock()

    def inject(self, fault: Fault) -> None:
        """Add a rule after those in force."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Drop every rule."""
        with self._lock:
            self._rules.clear()

    def hit(self, call: Call) -> Fault | None:
        """Return the fault that a call meets."""
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.hits(call)), None)

    @property
    def in_force(self) -> list[Fault]:
        """The rules, in order."""
        with self._lock:
            return [rule.fault for rule in self._rules]


class _Rule:
    """A fault and how many calls have matched it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._matched = 0
        self._rng = random.Random(fault.seed)  # noqa: S311  # repeatable on purpose

    def hits(self, call: Call) -> bool:
        """Count a matching call and tell whether it is hit."""
        if not self.fault.matches(call) or self._rng.random() >= self.fault.probability:
            return False
        self._matched += 1
        past = self._matched - self.fault.skip
        return past > 0 and (self.fault.times is None or past <= self.fault.times)
