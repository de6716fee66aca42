"""How far a run is, live on a terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from backfill.api import Running
from backfill.present.tables import duration_text


class Live:
    """One line on the terminal that tells how far a run is, renewed four times a second."""

    def __init__(self) -> None:
        self._running: Running | None = None
        self._idle = False
        self._began = time.monotonic()
        self._live = RichLive(
            console=Console(stderr=True),
            get_renderable=self._line,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, running: Running | None) -> None:
        """Show a run from now on, or that there is none to show."""
        self._running = running
        self._idle = running is None
        self._began = time.monotonic()

    def _line(self) -> Text:
        if self._running is None:
            return Text("waiting for the next bar, or a change…" if self._idle else "planning…")
        plan, tally, bars = self._running.plan, self._running.tally, self._running.outcomes.bars
        stored = bars.inserted + bars.updated + bars.unchanged
        passed_s = max(time.monotonic() - self._began, 0.001)
        left_s = max(plan.calls - tally.calls, 0) * plan.seconds / max(plan.calls, 1)
        return Text(
            f"{tally.calls} of about {plan.calls} calls · {stored:,} bars · "
            f"{stored / passed_s:,.0f} bars/s · about {duration_text(left_s)} left at the quota"
        )
