"""Runs in the foreground: they end in order on Ctrl-C and SIGTERM, and show how far they are.

Each imports what it alone needs; what draws the progress line is imported for a terminal only.
"""

import asyncio
import signal
import sys
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from backfill.errors import Interrupted
from backfill.fetch.stop import StopSignal
from backfill.run.job import Job, Scope
from backfill.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from backfill.audit.against import Against
    from backfill.audit.repair import Findings, Repair
    from backfill.cli.live import Live
    from backfill.core.tolerance import Tolerances
    from backfill.run.file_job import FileJob
    from backfill.run.outcomes import Summary
    from backfill.run.rounds import Ending, Waiting
    from backfill.workers.duties import Duties, Worked

_T = TypeVar("_T")


def run(settings: Settings, job: Job) -> "Summary":
    """Run a job until it is done, or until a signal ends it, and tell whoever watches."""
    from backfill.notify.report import reported, teller_of
    from backfill.run import execution

    command = "run" if job.tickers is not None else "run --all"
    teller = teller_of(settings, command, as_of=job.as_of, deadline_s=job.deadline_s)
    return _supervised(
        settings,
        lambda stop, live: reported(
            settings,
            execution.run(settings, job, stop=stop, on_plan=live.show if live else None),
            teller,
        ),
    )


def import_file(settings: Settings, job: "FileJob") -> "Summary":
    """Import a file until it is done, or until a signal ends it."""
    from backfill.run import importing

    return _supervised(
        settings, lambda stop, _live: importing.import_file(settings, job, stop=stop)
    )


def work(settings: Settings, duties: "Duties") -> "Worked":
    """Work off the queue until a signal ends it, or until it is empty where it is drained."""
    from backfill.notify.report import teller_of, work_reported
    from backfill.workers import worker

    teller = teller_of(settings, "worker")
    note = teller.note_job if teller is not None else None
    return _supervised(
        settings,
        lambda stop, _live: work_reported(
            worker.work(settings, duties, stop=stop, tell=note), teller
        ),
    )


def run_rounds(
    settings: Settings,
    job: Job,
    tell: "Callable[[Summary], None]",
    tell_wait: "Callable[[Waiting], None] | None" = None,
) -> "Ending":
    """Run a job round after round, telling of each, until a signal or something else ends it.

    ``tell_wait`` is told of each wait for the next one; what is live on the terminal is off it
    while either tells.
    """
    from backfill.notify.report import reported, teller_of, watch_reported
    from backfill.run import rounds

    teller = teller_of(settings, "run --all --watch", deadline_s=job.deadline_s)

    def watch(stop: StopSignal, live: "Live | None") -> "Awaitable[Ending]":
        def off() -> "AbstractContextManager[None]":
            return nullcontext() if live is None else live.hidden()

        def tell_round(summary: "Summary") -> None:
            with off():
                tell(summary)

        def wait(waiting: "Waiting") -> None:
            if tell_wait is not None:
                with off():
                    tell_wait(waiting)
            if live is not None:
                live.show(waiting)

        running = rounds.run_rounds(
            settings,
            job,
            tell_round,
            stop=stop,
            on_plan=live.show if live else None,
            on_wait=wait,
            around=partial(reported, settings, teller=teller),
        )
        return watch_reported(settings, running, teller)

    return _supervised(settings, watch)


def gaps(
    settings: Settings,
    as_of: datetime | None,
    scope: Scope,
    verify_calls: int | None,
    *,
    extended: bool,
) -> "Findings":
    """Find gaps, and what differs in a sample, until done or until a signal ends it."""
    from backfill.audit import repair

    return _supervised(
        settings,
        lambda stop, _live: repair.gaps(
            settings,
            as_of,
            scope,
            extended=extended,
            verify_calls=verify_calls,
            stop=stop,
        ),
    )


def verify(
    settings: Settings,
    against: str,
    as_of: datetime | None,
    scope: Scope,
    *,
    tolerances: "Tolerances",
    max_calls: int,
) -> "Against":
    """Compare a sample with another provider's bars, until done or until a signal ends it."""
    from backfill.audit import against as audit

    return _supervised(
        settings,
        lambda stop, _live: audit.verify(
            settings,
            against,
            as_of,
            scope,
            tolerances=tolerances,
            max_calls=max_calls,
            stop=stop,
        ),
    )


def repair(
    settings: Settings,
    as_of: datetime | None,
    scope: Scope,
    verify_calls: int | None,
    *,
    extended: bool,
) -> "Repair":
    """Repair gaps and what differs in a sample, until done or until a signal ends it."""
    from backfill.audit import repair as audit
    from backfill.notify.report import repair_reported, teller_of

    teller = teller_of(settings, "gaps --repair", as_of=as_of)
    return _supervised(
        settings,
        lambda stop, live: repair_reported(
            audit.repair(
                settings,
                as_of,
                scope,
                extended=extended,
                verify_calls=verify_calls,
                stop=stop,
                on_plan=live.show if live else None,
            ),
            teller,
        ),
    )


def serve(settings: Settings, host: str, port: int, tell: "Callable[[str], None]") -> None:
    """Serve until a signal ends it."""
    from backfill.serve import server

    async def served() -> None:
        await server.serve(settings, host, port, _stopped_by_signals(), tell)

    asyncio.run(served())


def _stopped_by_signals() -> StopSignal:
    """Return a signal that is set when a person or the system wants an end."""
    stop = StopSignal()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        reason = Interrupted(f"interrupted by {number.name}")
        loop.add_signal_handler(number, stop.set, reason)
    return stop


def _supervised(
    settings: Settings, work: "Callable[[StopSignal, Live | None], Awaitable[_T]]"
) -> _T:
    async def supervised() -> _T:
        stop = _stopped_by_signals()
        if not sys.stderr.isatty() or settings.log_format == "json":
            return await work(stop, None)
        from backfill.cli.live import Live

        async with Live() as live:
            return await work(stop, live)

    return asyncio.run(supervised())
