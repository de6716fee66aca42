"""Answers grown from recorded ones, through whole runs: each ends as it may, no key gets out."""

import io
import json
import random
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from datetime import date
from functools import partial
from typing import Final
from urllib.parse import unquote

import asyncpg
import pytest
import structlog
from aiohttp import web

from backfill import api, log
from backfill.cli.edge import print_result
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.fetch import breaker, client
from backfill.fetch.retrying import Patience
from backfill.notify import github
from backfill.present import show
from backfill.run.job import Job
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from tests.conftest import NOW, _fresh
from tests.fuzz import Grower

KEY: Final = "sEcr3t/key+of-the=fuzz"
TICKERS: Final = tuple(f"F{number}" for number in range(30))
TIMEFRAMES: Final = (
    (Timeframe.d1,),
    (Timeframe.h1, Timeframe.d1),
    (Timeframe.d1, Timeframe.w1),
)
MOST_GROWTH_MB: Final = 250
UNENDED: Final = """
    SELECT (SELECT count(*) FROM backfill_runs WHERE status = 'running'),
        (SELECT count(*) FROM backfill_progress WHERE claimed_until > now())
"""
# As on another day: lists and references are asked for again.
ANOTHER_DAY: Final = """
    DELETE FROM action_syncs;
    UPDATE symbols SET reference_at = NULL;
"""
TABLES: Final = """
    SELECT quote_ident(relname) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


# What a bar or a split that is no number any more would end for everybody.
ADJUSTED: Final = """
    SELECT sum(open / 1e9), sum(volume / 1e9), max(vwap), max(total_return_close)
    FROM ohlc_bars_adjusted
"""


@pytest.fixture
def url(server: str, with_calendars: str) -> Iterator[str]:
    """The URL of a database with the schema and the calendars."""
    yield from _fresh(server, with_calendars)


def leaks(text: str) -> bool:
    """Whether a text holds the key, or its first half, in any spelling."""
    read = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    return any(KEY[:9] in one for one in (text, read, unquote(text), unquote(read)))


@asynccontextmanager
async def served(grower: Grower) -> AsyncIterator[str]:
    """Serve grown answers on loopback; yield where."""

    async def answer(request: web.Request) -> web.Response:
        return grower.answer(request.path, dict(request.query))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def job_of(drawn: random.Random) -> Job:
    return Job(
        symbols=tuple(drawn.sample(TICKERS, 20)),
        timeframes=drawn.choice(TIMEFRAMES),
        mode=drawn.choice((Mode.default, Mode.reload)),
        first=Bound(date(2024, 10, drawn.choice((14, 28)))),
        as_of=NOW,
    )


async def seen_run(settings: Settings, job: Job) -> tuple[int, list[str]]:
    """Run a job as the command does; return its exit code and all that leaves by any way."""
    with redirect_stderr(io.StringIO()) as err, redirect_stdout(io.StringIO()) as out:
        log.configure("json", settings.secrets())
        summary = await api.run(settings, job)
        show.summary(summary)
        print_result(summary.as_dict(), as_json=True, text=lambda: None)
    events = [json.loads(line) for line in err.getvalue().splitlines()]
    assert [one["event"] for one in events].count("run.finished") == 1
    assert not [one for one in events if "exception" in one]
    assert "fault of backfill's own" not in str(summary.error)
    return summary.exit_code, [out.getvalue(), err.getvalue(), github.markdown(summary)]


async def fuzz(url: str, answers: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Run until so many answers were given, and see how each run ended; return what there was."""
    patience = Patience(attempts=2, backoff_s=0.001, backoff_max_s=0.002, rate_limited_s=0.1)
    monkeypatch.setattr("backfill.fetch.client.Client", partial(client.Client, patience=patience))
    monkeypatch.setattr(client, "_UNSAID_PAUSE_S", 0.001)
    monkeypatch.setattr(breaker, "FIRST_WAIT_S", 0.001)
    grower, ended = Grower(KEY), Counter[str]()
    connection = await asyncpg.connect(url)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served(grower) as provider:
        settings = Settings(
            database_url=Secret(url),
            accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
            provider_url=provider,
            plan="unlimited",
            quota_override="unlimited",
        )
        while grower.counts.total() < answers:
            which = f"{seed}-{ended.total()}"
            grower.drawn = random.Random(which)
            grower.altered = grower.drawn.choice((0.1, 0.4, 0.7))
            try:
                code, told = await seen_run(settings, job_of(grower.drawn))
            except Exception as error:
                raise AssertionError(f"run {which}: {error!r}") from error
            assert code in {0, 1, 3}, which
            assert not any(map(leaks, told)), which
            assert tuple(await connection.fetchrow(UNENDED)) == (0, 0), which
            await connection.execute(ANOTHER_DAY)
            ended[f"exit {code}"] += 1
    await connection.fetchrow(ADJUSTED)
    for [table] in await connection.fetch(TABLES):
        for [row] in await connection.fetch(f"SELECT t::text FROM {table} AS t"):
            assert not leaks(row), table
    await connection.close()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < MOST_GROWTH_MB
    return grower.counts


async def test_a_hundred_grown_answers_end_as_they_may_and_no_key_gets_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = await fuzz(url, 100, 1, monkeypatch)
    structlog.reset_defaults()
    assert len(given) == 6


@pytest.mark.soak
async def test_ten_thousand_grown_answers_end_as_they_may_and_no_key_gets_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = await fuzz(url, 10_000, 2, monkeypatch)
    structlog.reset_defaults()
    assert min(given.values()) > 100
