"""Who else is told of a run than the one who started it: GitHub, a dead-man's switch, messages.

Only the command does this. None of it changes how a run ends.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text
from backfill.errors import BackfillError, Interrupted, SharedFault
from backfill.log import told
from backfill.notify import github

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from backfill.audit.repair import Repair
    from backfill.notify.telling import Teller
    from backfill.run.outcomes import Summary
    from backfill.run.rounds import Ending
    from backfill.settings import Settings
    from backfill.workers.duties import Worked

_MOST_CHARACTERS: Final = 100_000
_BETWEEN_S: Final = 60.0
"""A worker's jobs are many: what they come to is told once in so many seconds."""
_MOMENT_S: Final = 3.0
"""So long a message that is on its way is waited for when a worker ends: it would go twice."""


def teller_of(
    settings: Settings,
    command: str,
    *,
    as_of: datetime | None = None,
    deadline_s: float | None = None,
) -> Teller | None:
    """Return who tells of the changes that a command's runs see, where somebody is to be told.

    Raises
    ------
    UsageError
        If the messages can't be sent by what the settings say.
    """
    if settings.notify_urls is None:
        return None
    from backfill.notify.delivery import destinations_of
    from backfill.notify.telling import Teller

    destinations = destinations_of(settings)
    return Teller(settings, destinations, command, as_of=as_of, deadline_s=deadline_s)


async def reported(
    settings: Settings, running: Awaitable[Summary], teller: Teller | None = None
) -> Summary:
    """Await a run, and tell of its start and of how it ended, also by an error."""
    if teller is not None:
        running = teller.told(running)
    if settings.ping_url is None:
        summary = await running
        github.report(summary)
        return summary
    # It loads the HTTP client, which a run that has nothing to fetch and nobody to tell needs not.
    from backfill.notify.ping import Signal, ping

    url = settings.ping_url.reveal()
    proxy = settings.proxy_of(url)
    start = asyncio.create_task(ping(url, "start", proxy=proxy))
    signal: Signal = "fail"
    body = "the run ended by an error that it doesn't know"
    try:
        summary = await running
        github.report(summary)
        signal, body = "success" if is_success(summary) else "fail", _body(summary)
    except BackfillError as error:
        body = told(str(error))
        raise
    finally:
        await start  # a start that is heard after the end would open another run
        await ping(url, signal, body, proxy=proxy)
    return summary


async def watch_reported(
    settings: Settings, watching: Awaitable[Ending], teller: Teller | None = None
) -> Ending:
    """Await a watch, whose rounds are told of by themselves, and tell how it ended."""
    ending: Ending | None = None
    error = "the watch ended by an error that it doesn't know"
    try:
        ending = await watching
    except BackfillError as fault:
        error = told(str(fault))
        raise
    else:
        if teller is not None and ending.exit_code == SharedFault.exit_code:
            await teller.tell_end(ending.error or error)
        return ending
    finally:
        if settings.ping_url is not None:
            from backfill.notify.ping import ping

            url = settings.ping_url.reveal()
            code, why = (3, error) if ending is None else (ending.exit_code, ending.error)
            body = json_text({"watch": "ended", "exit_code": code, "error": why})
            good = code in {0, 5}
            await ping(url, "success" if good else "fail", body, proxy=settings.proxy_of(url))


async def repair_reported(running: Awaitable[Repair], teller: Teller | None = None) -> Repair:
    """Await a repair, and tell of its run, if there was something to ask for."""
    done = await (running if teller is None else teller.ended(running))
    if done.summary is not None:
        github.report(done.summary)
        if teller is not None:
            teller.note(done.summary)
            await teller.tell()
    return done


async def work_reported(working: Awaitable[Worked], teller: Teller | None) -> Worked:
    """Await a worker, and tell now and then what has changed by the runs of its jobs."""
    if teller is None:
        return await working
    worked = await teller.ended(_with_news(working, teller))
    if worked.error is not None:
        await teller.tell_end(worked.error)
    else:
        await teller.tell(in_haste=worked.exit_code == Interrupted.exit_code)
    return worked


async def _with_news(working: Awaitable[Worked], teller: Teller) -> Worked:
    """Await a worker while changes are told; what is being told at its end is told to its end."""
    over = asyncio.Event()
    telling = asyncio.create_task(_told_now_and_then(teller, over))
    try:
        return await working
    finally:
        over.set()
        await asyncio.wait({telling}, timeout=_MOMENT_S)
        telling.cancel()
        await asyncio.wait({telling})


async def _told_now_and_then(teller: Teller, over: asyncio.Event) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_BETWEEN_S):
                await over.wait()
                return
        await teller.tell()


def is_success(summary: Summary) -> bool:
    """Whether the dead-man's switch hears of success.

    All is in place (0), or the run stopped at its limit (5) and got something done: the next one
    goes on from there. A run that was interrupted has verified nothing of what it left.
    """
    bars = summary.bars
    done = summary.series.complete or bars.inserted or bars.updated or bars.unchanged
    return summary.exit_code == 0 or (summary.exit_code == 5 and bool(done))


def _body(summary: Summary) -> str:
    """Return the summary as JSON, with as many of its failures as a ping may carry."""
    values = summary.as_dict() | {"error": summary.error}
    while len(text := json_text(values)) > _MOST_CHARACTERS and values["failures"]:
        values["failures"] = values["failures"][: len(values["failures"]) // 2]
    return text
