"""Runs in the foreground: they end in order on Ctrl-C and SIGTERM, and show how far they are."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from backfill import api
from backfill.cli.live import Live
from backfill.errors import Interrupted
from backfill.fetch.stop import StopSignal
from backfill.notify.report import repair_reported, reported
from backfill.run import rounds as standing
from backfill.run.job import Job, Scope
from backfill.run.outcomes import Summary
from backfill.settings import Settings

_T = TypeVar("_T")
_Watch = Callable[[api.Running | None], None]


def run(settings: Settings, job: Job) -> Summary:
    """Run a job until it is done, or until a signal ends it, and tell whoever watches."""
    return _supervised(
        settings,
        lambda stop, watch: reported(settings, api.run(settings, job, stop=stop, watch=watch)),
    )


def watch(settings: Settings, job: Job, tell: Callable[[Summary], None]) -> standing.Ending:
    """Run a job round after round, telling of each, until a signal or something else ends it."""
    return _supervised(
        settings,
        lambda stop, progress: standing.watch(settings, job, tell, stop=stop, progress=progress),
    )


def gaps(
    settings: Settings, as_of: datetime | None, scope: Scope, verify_calls: int | None
) -> api.Findings:
    """Find gaps, and what differs in a sample, until done or until a signal ends it."""
    return _supervised(
        settings,
        lambda stop, _watch: api.gaps(settings, as_of, scope, verify_calls=verify_calls, stop=stop),
    )


def repair(
    settings: Settings, as_of: datetime | None, scope: Scope, verify_calls: int | None
) -> api.Repair:
    """Repair gaps and what differs in a sample, until done or until a signal ends it."""
    return _supervised(
        settings,
        lambda stop, watch: repair_reported(
            settings,
            api.repair(settings, as_of, scope, verify_calls=verify_calls, stop=stop, watch=watch),
        ),
    )


def _supervised(
    settings: Settings, work: Callable[[StopSignal, _Watch | None], Awaitable[_T]]
) -> _T:
    async def supervised() -> _T:
        stop = StopSignal()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            reason = Interrupted(f"interrupted by {number.name}")
            loop.add_signal_handler(number, stop.set, reason)
        if not sys.stderr.isatty() or settings.log_format == "json":
            return await work(stop, None)
        with Live() as live:
            return await work(stop, live.watch)

    return asyncio.run(supervised())
