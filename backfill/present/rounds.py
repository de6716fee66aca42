"""The rounds of a watch, as people see them: when each ended and how, and when the next one is."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backfill.present.show import summary
from backfill.present.tables import console

if TYPE_CHECKING:
    from backfill.run.outcomes import Summary
    from backfill.run.rounds import Waiting


def round_(result: "Summary", at: datetime) -> None:
    """Print how a round of a watch ended, and when."""
    console().print(f"{at:%Y-%m-%d %H:%M:%S} UTC")
    summary(result)


def waiting(for_: "Waiting") -> None:
    """Print when the next round of a watch is."""
    if for_.until is None:
        console().print("The next round follows when the watchlist changes.")
        return
    console().print_wrapped(
        f"The next round is at {for_.until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, or "
        "when the watchlist changes."
    )
