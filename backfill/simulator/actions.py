"""What can go wrong with a call to the simulator."""

from enum import StrEnum
from typing import Final


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
    STALL = "stall"
    """Send half of the body, nothing for ``stall_s``, then the rest."""
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
    """Overwrite values of the bars in ``span_ms`` with those of ``bar``."""
    CONFLICT = "conflict"
    """Follow the bars in ``span_ms`` by a copy that has the values of ``bar``."""
    DROP_BARS = "drop_bars"
    """Leave out the bars in ``span_ms``."""
    SATURDAY_BAR = "saturday_bar"
    """Add a bar that is stamped on a Saturday."""
    LATE = "late"
    """Let the call arrive ``in_s`` late, and its answer leave ``back_s`` late."""
    BEHIND = "behind"
    """Serve bars as the market looked ``behind_s`` ago: that instant's bar is the bar so far."""
    LACKING = "lacking"
    """Serve bars as if no minute or day of ``span_ms`` had traded, coarser bars too."""


TOGETHER: Final = frozenset({Action.LATE, Action.BEHIND, Action.LACKING})
"""Rules that a call meets all of, beside the first of the others."""

IN_WORDS: Final = frozenset(
    {
        Action.WRONG_TICKER,
        Action.WRONG_ADJUSTED,
        Action.FOREIGN_NEXT,
        Action.REPEATED_NEXT,
        Action.ENDLESS_PAGES,
        Action.DELAYED,
    }
)
"""What only a protocol can do that has words for it (`Wire.lies`)."""

LACKS: Final = frozenset({Action.BEHIND, Action.LACKING})

BEFORE_THE_ORIGIN: Final = frozenset({Action.STATUS, Action.RESET, Action.HANG})
