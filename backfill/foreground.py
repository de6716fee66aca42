"""A run in the foreground: it ends in order on Ctrl-C and SIGTERM, and shows how far it is."""

import asyncio
import signal
import sys

from backfill import api
from backfill.errors import Interrupted
from backfill.fetch.stop import StopSignal
from backfill.job import Job
from backfill.settings import Settings
from backfill.show import Live
from backfill.summary import Summary


def run(settings: Settings, job: Job) -> Summary:
    """Run a job until it is done, or until a signal ends it."""

    async def supervised() -> Summary:
        stop = StopSignal()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            reason = Interrupted(f"interrupted by {number.name}")
            loop.add_signal_handler(number, stop.set, reason)
        if not sys.stderr.isatty() or settings.log_format == "json":
            return await api.run(settings, job, stop=stop)
        with Live() as live:
            return await api.run(settings, job, stop=stop, watch=live.watch)

    return asyncio.run(supervised())
