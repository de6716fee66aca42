"""How far a run is, live on a terminal."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from backfill.api import Running
from backfill.core.estimate import eased
from backfill.present.progress import progress, waiting
from backfill.run.rounds import Waiting

_LOOK_S: Final = 0.5


class Live:
    """Lines at the end of the terminal that tell how far a run is, or what is waited for.

    What they say is looked up twice a second on the run's own loop: rich draws in a thread.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._shown: Running | Waiting | None = None
        self._text = "planning…"
        self._began_s = self._looked_s = time.monotonic()
        self._left_s: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._live = RichLive(
            console=self._console,
            get_renderable=lambda: Text(self._text, no_wrap=True),
            refresh_per_second=4,
            transient=True,
        )

    async def __aenter__(self) -> Self:
        self._live.start()
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._live.stop()

    def show(self, now: Running | Waiting) -> None:
        """Show a run from now on, or what is waited for."""
        self._shown, self._left_s = now, None
        self._began_s = self._looked_s = time.monotonic()
        self._text = self._line()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the lines off the terminal while something else is printed."""
        self._text = ""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._text = self._line()

    def _line(self) -> str:
        now_s, width = time.monotonic(), self._console.width
        match self._shown:
            case None:
                return "planning…"
            case Waiting(until):
                left_s = (until - datetime.now(UTC)).total_seconds() if until else None
                return waiting(until, left_s, width)
            case running:
                found = running.progress()
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        before_s = found.seconds_left if self._left_s is None else self._left_s
        self._left_s = eased(before_s, passed_s, found.seconds_left)
        return progress(
            found, self._left_s, found.bars / max(now_s - self._began_s, _LOOK_S), width
        )
