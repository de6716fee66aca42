"""Who else is told of a run than the one who started it: GitHub's pages, a dead-man's switch.

Only the command does this. None of it changes how a run ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from backfill.core.plain import json_text
from backfill.errors import BackfillError
from backfill.log import told
from backfill.notify import github

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from backfill.audit.repair import Repair
    from backfill.run.outcomes import Summary
    from backfill.run.rounds import Ending
    from backfill.settings import Settings

_MOST_CHARACTERS: Final = 100_000


async def reported(settings: Settings, running: Awaitable[Summary]) -> Summary:
    """Await a run, and tell of its start and of how it ended, also by an error."""
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


async def watch_reported(settings: Settings, watching: Awaitable[Ending]) -> Ending:
    """Await a watch, whose rounds are told of by themselves, and tell how it ended."""
    ending: Ending | None = None
    error = "the watch ended by an error that it doesn't know"
    try:
        ending = await watching
    except BackfillError as fault:
        error = told(str(fault))
        raise
    else:
        return ending
    finally:
        if settings.ping_url is not None:
            from backfill.notify.ping import ping

            url = settings.ping_url.reveal()
            code, why = (3, error) if ending is None else (ending.exit_code, ending.error)
            body = json_text({"watch": "ended", "exit_code": code, "error": why})
            good = code in {0, 5}
            await ping(url, "success" if good else "fail", body, proxy=settings.proxy_of(url))


async def repair_reported(running: Awaitable[Repair]) -> Repair:
    """Await a repair, and tell GitHub of its run, if there was something to ask for."""
    done = await running
    if done.summary is not None:
        github.report(done.summary)
    return done


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
