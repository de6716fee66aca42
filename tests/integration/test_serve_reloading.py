"""While an adjusted series is loaded again after a split, no answer has bars of two share bases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from backfill import api
from backfill.audit import excerpt, export
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series, Source
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.errors import BeingLoaded
from backfill.settings import Secret, Settings
from backfill.store.basis import outdate
from backfill.store.pool import Database
from backfill.store.read import bars_of_each
from tests.conftest import NOW
from tests.integration.serve_kit import serving
from tests.integration.store_kit import START, chunk, claimed, minutes, rows, write

SPLIT: Final = Source("massive", "sip", "split")
pytestmark = pytest.mark.one_database

LATER: Final = NOW + timedelta(days=1)
OLD: Final = 40
"""So many of sixty minutes are on the old basis."""
BARS: Final = "symbol=AAPL&timeframe=m1"


def at(minute: int) -> int:
    return START + minute * MINUTE_MS


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def kept(database: Database, source: Source = SPLIT) -> tuple[UUID, Series, Series]:
    """Store an hour of minutes, and its two half hours, which are rolled up from them."""
    run_id, [m1, m30] = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m30)
    hour = minutes(60)
    await write(database, run_id, chunk(m1, hour, source=source))
    derived = Source(source.provider, source.feed, source.adjustment, Timeframe.m1)
    halves = hour.take(hour.ts_ms % (30 * MINUTE_MS) == 0)
    claims = Spans.of((int(halves.ts_ms[0]), int(halves.ts_ms[-1]) + 30 * MINUTE_MS))
    await write(database, run_id, chunk(m30, halves, claims=claims, source=derived))
    await rows(database, "UPDATE symbols SET confirmed_at = now() RETURNING id")
    return run_id, m1, m30


async def outdated(database: Database, run_id: UUID, series: Series, minutes: int = OLD) -> None:
    """Have the first minutes of a series found to be on the basis before a split."""
    old = Spans.of((at(0), at(minutes)))
    await database.run(lambda it: outdate(it, run_id, series, old, Span(0, 0), LATER))


async def test_what_is_to_be_loaded_again_is_left_out_of_charts_and_told(
    database: Database, database_url: str
) -> None:
    run_id, m1, _ = await kept(database)
    await outdated(database, run_id, m1)
    async with serving(database_url) as client:

        async def got(path: str) -> Any:
            async with client.get(path) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        chart = await got(f"/chart?{BARS}")
        assert [one["ts"] for one in chart["bars"]] == [iso(at(n)) for n in range(OLD, 60)]
        assert chart["reloading"] == {"from": iso(at(0)), "to": iso(at(OLD))}
        assert not chart["has_more"]
        newer = await got(f"/chart?{BARS}&from={iso(at(OLD))}")
        assert (len(newer["bars"]), "reloading" in newer) == (60 - OLD, False)
        older = await got(f"/chart?{BARS}&to={iso(at(OLD))}")
        assert older["bars"] == []

        history = await got(f"/udf/history?symbol=AAPL&resolution=1&from=0&to={at(99) // 1000}")
        assert history["t"] == [at(n) // 1000 for n in range(OLD, 60)]
        drawing = await got("/drawing?symbol=AAPL&timeframe=m1")
        assert drawing["bars"]["time"] == history["t"]
        async with client.get("/symbols/AAPL?timeframe=m1") as page:
            assert "It is being loaded again" in await page.text()
        # What is rolled up from it follows, though its own coverage says nothing of it.
        halves = await got("/chart?symbol=AAPL&timeframe=m30")
        assert len(halves["bars"]) == 1

        status = {one["timeframe"]: one["reloading"] for one in (await got("/status"))["series"]}
        assert status["m1"] == [one.replace("Z", "+00:00") for one in (iso(at(0)), iso(at(OLD)))]


async def test_a_file_of_bars_is_refused_until_all_of_them_are_on_one_basis(
    database: Database, database_url: str
) -> None:
    run_id, m1, _ = await kept(database)
    await outdated(database, run_id, m1)
    async with serving(database_url) as client:
        async with client.get(f"/bars?{BARS}") as answer:
            told = await answer.json()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
            assert "AAPL m1 is being loaded again" in told["error"]
        async with client.get(f"/bars?{BARS}&from={iso(at(OLD))}") as answer:
            assert pa.ipc.open_stream(await answer.read()).read_all().num_rows == 60 - OLD
        again = chunk(m1, minutes(OLD), source=SPLIT)
        await write(database, run_id, again)
        async with client.get(f"/bars?{BARS}") as answer:
            assert pa.ipc.open_stream(await answer.read()).read_all().num_rows == 60


async def test_before_anything_is_loaded_again_all_is_shown_and_raw_bars_always_are(
    database: Database, database_url: str
) -> None:
    run_id, m1, _ = await kept(database)
    await outdated(database, run_id, m1, 60)
    async with serving(database_url) as client:
        async with client.get(f"/chart?{BARS}") as answer:
            assert len((await answer.json())["bars"]) == 60
        async with client.get(f"/bars?{BARS}") as answer:
            assert answer.status == 200


async def test_raw_bars_that_are_loaded_again_are_shown_meanwhile(
    database: Database, database_url: str
) -> None:
    run_id, m1, _ = await kept(database, Source("massive", "sip", "raw"))
    await outdated(database, run_id, m1)
    async with serving(database_url) as client, client.get(f"/chart?{BARS}") as answer:
        chart = await answer.json()
    assert (len(chart["bars"]), "reloading" in chart) == (60, False)


@pytest.mark.parametrize(("timeframe", "block"), [(Timeframe.m1, 10), (Timeframe.m30, 1)])
async def test_bars_that_are_read_when_a_split_is_found_end_before_those_on_another_basis(
    database: Database, monkeypatch: pytest.MonkeyPatch, timeframe: Timeframe, block: int
) -> None:
    monkeypatch.setattr(excerpt, "_BLOCK", block)
    run_id, m1, _ = await kept(database)
    seen = await database.run(
        lambda it: excerpt.whole_excerpt(it, excerpt.Asked("AAPL", timeframe))
    )
    blocks = excerpt.blocks(database, seen)
    assert len(await anext(blocks)) == block
    await outdated(database, run_id, m1)
    await write(database, run_id, chunk(m1, minutes(OLD), source=SPLIT))
    with pytest.raises(BeingLoaded):
        await anext(blocks)


@pytest.mark.parametrize(("newest", "told"), [(None, ["series.reloading"]), (60 - OLD, [])])
async def test_who_looks_at_stored_bars_is_told_where_they_may_be_on_two_bases(
    database: Database, database_url: str, newest: int | None, told: list[str]
) -> None:
    run_id, m1, _ = await kept(database)
    await outdated(database, run_id, m1)
    settings = Settings(database_url=Secret(database_url))
    question = api.Question("AAPL", Timeframe.m1, newest=newest)
    with capture_logs() as logged:
        async with api.looked_up(settings, question) as (_, blocks):
            assert sum([len(block) async for block in blocks]) == (newest or 60)
    assert [one["event"] for one in logged] == told


@pytest.mark.parametrize(("timeframe", "left"), [(Timeframe.m1, 60 - OLD), (Timeframe.m30, 1)])
async def test_an_export_meanwhile_ends_in_a_line_and_the_next_one_is_right(
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    timeframe: Timeframe,
    left: int,
) -> None:
    run_id, m1, _ = await kept(database)
    settings = Settings(database_url=Secret(database_url))
    job = api.ExportJob(api.Scope(timeframes=(timeframe,)), str(tmp_path))
    read = bars_of_each

    async def found_then(connection: Any, wanted: Any) -> Any:
        bars = await read(connection, wanted)
        await outdated(database, run_id, m1)
        return bars

    monkeypatch.setattr(export, "bars_of_each", found_then)
    with pytest.raises(BeingLoaded, match=f"AAPL {timeframe} is being loaded again"):
        await api.export(settings, job)
    monkeypatch.undo()
    assert (await api.export(settings, job)).bars_written == left


async def test_an_export_says_how_many_series_it_has_only_a_part_of(
    database: Database, database_url: str, tmp_path: Any
) -> None:
    run_id, m1, _ = await kept(database)
    await outdated(database, run_id, m1)
    settings = Settings(database_url=Secret(database_url))
    job = api.ExportJob(api.Scope(timeframes=(Timeframe.m1,)), str(tmp_path))
    done = await api.export(settings, job)
    assert (done.bars, done.reloading) == (60 - OLD, 1)
