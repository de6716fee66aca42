"""Bars in quarantine as they are listed: how many of which first, then the bars, lot by lot."""

import json
import sys
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text
from backfill.present.columns import Columns, print_table
from backfill.present.tables import console, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backfill.store.quarantine import Held, QuarantinedBar

_VALUES: Final = ("open", "high", "low", "close", "volume")


class JsonListing:
    """One JSON object on one line: the counts, and every bar that is listed."""

    def __init__(self) -> None:
        self._between = ""

    def begin(self, held: "Sequence[Held]") -> None:
        """Begin the object with its counts."""
        counts = json_text([one.as_dict() for one in held])
        sys.stdout.write(f'{{"counts": {counts}, "bars": [')

    def add(self, bars: str) -> None:
        """Add bars to the object, which are JSON by now."""
        # Only then it holds what a reader would obey: Postgres escapes every control but DEL.
        if not bars.isascii() or "\x7f" in bars or "#" in bars:
            bars = json_text(json.loads(f"[{bars}]"))[1:-1]
        sys.stdout.write(self._between + bars)
        self._between = ", "

    def end(self) -> None:
        """End the object."""
        sys.stdout.write("]}\n")


class TextListing:
    """A table of the counts, then one of bars with their raw values, and why they are there."""

    def __init__(self) -> None:
        self._bars = self._listed = 0
        self._table = Columns(
            ("symbol", "timeframe", "ts", "reason", *_VALUES, "in the table", "accepted", "since",
             "run")
        )  # fmt: skip

    def begin(self, held: "Sequence[Held]") -> None:
        """Print the counts."""
        self._bars = sum(one.bars for one in held)
        if not self._bars:
            console().print("no bar is in quarantine")
            return
        print_table(
            ("symbol", "timeframe", "reason", "bars", "first", "last"),
            (
                (
                    one.symbol,
                    str(one.timeframe),
                    one.reason,
                    f"{one.bars:,}",
                    time_text(one.first),
                    time_text(one.last),
                )
                for one in held
            ),
        )
        console().print("")

    def add(self, bars: "Sequence[QuarantinedBar]") -> None:
        """Print bars, or hold the first of them until it is clear how wide a column is."""
        self._listed += len(bars)
        for bar in bars:
            values = map(bar.raw.get, _VALUES)
            self._table.add(
                bar.symbol,
                str(bar.timeframe),
                f"{bar.ts:%Y-%m-%d %H:%M:%S}",
                bar.reason,
                *("" if value is None else str(value) for value in values),
                "a bar by now" if bar.stored else "",
                time_text(bar.accepted_at),
                time_text(bar.quarantined_at),
                bar.run_id,
            )

    def end(self) -> None:
        """Say what was left out, and what can be done."""
        if not self._bars:
            return
        if self._listed:
            self._table.end()
        if self._bars > self._listed:
            console().print(
                f"… and {self._bars - self._listed:,} more: --limit lists as many as it says, "
                "--json all"
            )
        console().print(
            f"{self._bars:,} bars; `backfill quarantine retry` asks again, `accept` leaves it"
        )
