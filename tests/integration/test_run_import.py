"""A file of bars becomes rows, coverage and a row of the ledger, as an answer would."""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from backfill import api
from backfill.core.stamps import PER_SECOND
from backfill.core.timeframe import Timeframe
from backfill.errors import Interrupted, UsageError
from backfill.fetch.stop import StopSignal
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store import progress
from backfill.store.pool import Database
from tests.conftest import KEY, NOW, first_of, query, stored_bars
from tests.integration.store_kit import claimed, value

HEAD: Final = "symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count"
MONDAY: Final = date(2024, 11, 4)
WEEK: Final = [MONDAY + timedelta(days=day) for day in range(5)]
COVERAGE: Final = """
    SELECT s.ticker, p.timeframe::text, p.provider, p.feed, p.adjustment, p.coverage::text
    FROM backfill_progress AS p JOIN symbols AS s ON s.id = p.symbol_id
    ORDER BY 1, 2
"""
SET_ASIDE: Final = """
    SELECT s.ticker, q.reason, raw->>'close'
    FROM quarantined_bars AS q JOIN symbols AS s ON s.id = q.symbol_id
    ORDER BY 1, 2
"""
Imported = Callable[..., Any]


@pytest.fixture
def settings(database_url: str) -> api.Settings:
    return api.Settings(database_url=Secret(database_url))


def days(ticker: str, close: float = 10.0, but: tuple[date, ...] = ()) -> list[str]:
    return [
        f"{ticker},d1,{day},{close},{close + 1},{close - 1},{close},100.5,,"
        for day in WEEK
        if day not in but
    ]


def minutes(ticker: str, first: datetime, count: int) -> list[str]:
    stamps = (first + timedelta(minutes=at) for at in range(count))
    return [
        f"{ticker},m1,{at.isoformat()},9,{11 + at.minute / 7!r},8,10,{at.hour},10.1,3"
        for at in stamps
    ]


def written(path: Path, lines: list[str], head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def job(path: Path, **said: Any) -> api.FileJob:
    reading = api.Reading(**{one: said.pop(one) for one in ("symbols", "zone") if one in said})
    return api.FileJob(path, reading, **{"feed": "kaggle", "adjustment": "raw"} | said)


def covering(first: date, last: date) -> tuple[api.Bound, api.Bound]:
    return api.Bound(first), api.Bound(last)


async def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await asyncio.to_thread(query, url, sql)]


async def test_a_file_of_several_series_is_stored_covered_and_noted_once(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    opened = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
    lines = [*days("AAPL"), *minutes("BTC-USD", opened, 90), *days("BRK.B", but=(WEEK[2],))]
    path = written(tmp_path / "bars.csv", lines)
    load = job(path, covers=covering(MONDAY, WEEK[-1]))
    first = await api.import_file(settings, load)

    assert (first.exit_code, first.status, first.mode, first.provider) == (
        *(0, "ok", "import", "import"),
    )
    assert (first.bars.inserted, first.series.complete, first.calls) == (5 + 90 + 4, 3, 0)
    [bar, *_] = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    at = datetime(2024, 11, 4, 5, tzinfo=UTC)
    assert bar == (at.timestamp() * 1000, 10.0, 11.0, 9.0, 10.0, 100.5, None, None)
    [bar, *_] = await asyncio.to_thread(stored_bars, database_url, "BTC-USD", Timeframe.m1)
    high = 11 + 30 / 7
    assert bar == (opened.timestamp() * 1000, 9.0, high, 8.0, 10.0, 14.0, 10.1, 3)
    whole_days = '{["2024-11-04 05:00:00+00","2024-11-09 05:00:00+00")}'
    utc_days = '{["2024-11-04 00:00:00+00","2024-11-09 00:00:00+00")}'
    assert await rows(database_url, COVERAGE) == [
        ("AAPL", "d1", "import", "kaggle", "raw", whole_days),
        ("BRK.B", "d1", "import", "kaggle", "raw", whole_days),
        ("BTC-USD", "m1", "import", "kaggle", "raw", utc_days),
    ]
    found = await api.gaps(settings, None, api.Scope())
    missing = {one.series.symbol.ticker: [gap.slots for gap in one.gaps] for one in found.gaps}
    # A day that the file lacks may be lost; a minute beside others was not traded.
    assert missing == {"BRK.B": [1], "BTC-USD": [4 * 1440]}

    before = await rows(database_url, "SELECT xmin::text, ts FROM ohlc_bars ORDER BY 1, 2")
    again = await api.import_file(settings, load)
    assert (again.exit_code, again.bars.inserted, again.bars.updated) == (0, 0, 0)
    assert again.bars.unchanged == 99
    assert await rows(database_url, "SELECT xmin::text, ts FROM ohlc_bars ORDER BY 1, 2") == before
    noted = "SELECT name, form, bars, run_id::text FROM imported_files ORDER BY bars"
    assert await rows(database_url, noted) == [
        ("bars.csv", "csv", bars, first.run_id) for bars in (4, 5, 90)
    ]
    ledger = "SELECT mode, status, bars_inserted, bars_unchanged FROM backfill_runs ORDER BY 3"
    assert await rows(database_url, ledger) == [("import", "ok", 0, 99), ("import", "ok", 99, 0)]
    assert await rows(database_url, "SELECT claimed_by FROM backfill_progress") == [(None,)] * 3


async def test_without_covers_nothing_is_claimed(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", days("AAPL", but=(WEEK[1],)))
    summary = await api.import_file(settings, job(path))
    assert (summary.exit_code, summary.bars.inserted) == (0, 4)
    assert [row[-1] for row in await rows(database_url, COVERAGE)] == ["{}"]
    assert await rows(database_url, "SELECT 1 FROM known_empty") == []


async def test_bad_bars_go_to_quarantine_and_their_neighbours_are_stored(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    saturday, forming = date(2024, 11, 9), date.today() + timedelta(days=1)  # noqa: DTZ011
    lines = [
        *days("AAPL"),
        f"AAPL,d1,{saturday},10,11,9,10,5,,",
        "AAPL,d1,2024-11-11,10,9,11,10,5,,",
        "AAPL,d1,2024-11-12,10,11,9,,5,,",
        "AAPL,d1,2024-11-13,10,11,9,10,5,,",
        "AAPL,d1,2024-11-13,10,11,9,10.5,5,,",
        f"BTC/USD,d1,{forming},10,11,9,10,5,,",
    ]
    summary = await api.import_file(settings, job(written(tmp_path / "a.csv", lines)))
    assert (summary.exit_code, summary.bars.inserted, summary.bars.rejected) == (1, 5, 6)
    assert {one.outcome for one in summary.failures} == {"quarantined"}
    assert await rows(database_url, SET_ASIDE) == [
        ("AAPL", "conflict", "10.0"),
        ("AAPL", "conflict", "10.5"),
        ("AAPL", "high_low", "10.0"),
        ("AAPL", "not_finite", "nan"),
        ("AAPL", "off_grid", "10.0"),
        ("BTC/USD", "forming", "10.0"),
    ]


async def test_bars_of_another_source_are_refused_and_the_other_series_stored(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", days("AAPL"))
    assert (await api.import_file(settings, job(path))).exit_code == 0
    other = written(tmp_path / "b.csv", [*days("AAPL", 20.0), *days("MSFT")])
    mixed = await api.import_file(settings, job(other, feed="broker"))
    assert (mixed.exit_code, mixed.status, mixed.bars.inserted) == (1, "partial", 5)
    [failure] = mixed.failures
    assert (failure.symbol, failure.outcome) == ("AAPL", "source_mismatch")
    assert failure.message == (
        "the series holds import/kaggle/raw; the file is import/broker/raw. To keep both, import "
        "it as a symbol of its own: --symbol AAPL@import"
    )
    split = await api.import_file(settings, job(path, adjustment="split"))
    assert (split.exit_code, split.status) == (1, "failed")
    closes = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    assert {row[4] for row in closes} == {10.0}


async def test_a_part_of_a_series_on_another_share_basis_is_refused_and_all_of_it_stored(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    def filed(name: str, first: int, basis: float) -> api.FileJob:
        lines = [
            f"AAPL,d1,{day},{close},{close + 2 * basis},{close - basis},{close},100,,"
            for at, day in enumerate(WEEK)
            if at >= first and (close := (100 + 5 * at) * basis)
        ]
        return job(written(tmp_path / name, lines), adjustment="split")

    async def closes() -> list[float]:
        found = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
        return [row[4] for row in found]

    before = [100.0, 105.0, 110.0, 115.0, 120.0]
    assert (await api.import_file(settings, filed("a.csv", 0, 1))).exit_code == 0
    part = await api.import_file(settings, filed("b.csv", 2, 0.5))
    [failure] = part.failures
    assert (part.exit_code, failure.outcome) == (1, "source_mismatch")
    assert failure.message.startswith("prices that are stored are 2 times those of the file")
    assert await closes() == before
    assert (await api.import_file(settings, filed("c.csv", 0, 0.5))).exit_code == 0
    assert await closes() == [one / 2 for one in before]


@pytest.mark.parametrize(
    ("stored", "part"),
    [
        pytest.param(range(6), range(11, 2, -1), id="newest first"),
        pytest.param(range(6, 12), range(9), id="oldest first", marks=pytest.mark.wide),
        pytest.param(range(12), [*range(1, 5), *range(6, 11)], id="in the middle"),
        pytest.param(
            range(9),
            [*range(4), *range(5, 9)],
            id="all but one that is stored",
            marks=pytest.mark.wide,
        ),
    ],
)
async def test_a_part_on_another_share_basis_is_refused_before_what_lies_beyond_is_written(
    settings: api.Settings,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: range,
    part: Sequence[int],
) -> None:
    monkeypatch.setattr("backfill.files.text._AT_ONCE", 2)
    monkeypatch.setattr("backfill.run.importing.PAGE", 2)

    def filed(name: str, numbers: Sequence[int], basis: float) -> api.FileJob:
        lines = []
        for at in numbers:
            day, close = MONDAY + timedelta(days=at // 5 * 7 + at % 5), (100 + at) * basis
            lines.append(f"AAPL,d1,{day},{close},{close + 2 * basis},{close - basis},{close},9,,")
        return job(written(tmp_path / name, lines), adjustment="split")

    assert (await api.import_file(settings, filed("a.csv", stored, 1))).exit_code == 0
    before = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    assert [row[4] for row in before] == [100.0 + at for at in stored]

    refused = await api.import_file(settings, filed("b.csv", part, 0.5))

    assert [one.outcome for one in refused.failures] == ["source_mismatch"]
    assert (refused.bars.inserted, refused.bars.updated) == (0, 0)
    after = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    assert after == before
    assert (await api.import_file(settings, filed("c.csv", part, 1))).exit_code == 0
    every = range(min(*stored, *part), max(*stored, *part) + 1)
    assert (await api.import_file(settings, filed("d.csv", every, 0.5))).exit_code == 0
    after = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    assert [row[4] for row in after] == [(100.0 + at) / 2 for at in every]


async def test_a_run_of_an_imported_series_says_why_it_cannot_go_on_without_a_call(
    settings: api.Settings,
    simulate: Callable[..., Simulator],
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BACKFILL_PROVIDER_URL", simulator.url)
    monkeypatch.setenv("MASSIVE_API_KEY", KEY)
    asking = api.Settings.load()
    await api.import_file(settings, job(written(tmp_path / "a.csv", days("AAPL"))))
    week = api.Bound(MONDAY)
    run = await api.run(asking, api.Job(symbols=("AAPL",), first=week, as_of=NOW))
    assert (run.exit_code, run.calls, run.lookups, len(simulator.calls)) == (1, 0, 0, 0)
    [failure] = run.failures
    assert failure.outcome == "source_mismatch"
    assert "the series holds import/kaggle/raw; massive/sip/raw was asked for" in failure.message
    assert "AAPL@massive" in failure.message
    beside = job(written(tmp_path / "b.csv", days("AAPL@import", 20.0)))
    assert (await api.import_file(settings, beside)).bars.inserted == 5
    with pytest.raises(UsageError, match="backfill import FILE --symbol AAPL@import"):
        await api.run(asking, api.Job(symbols=("AAPL@import",), as_of=NOW))
    of = "SELECT l.ticker FROM symbols AS s JOIN symbols AS l ON l.id = s.listing_of"
    assert await rows(database_url, of) == [("AAPL",)]
    assert simulator.calls == []


async def test_status_and_gaps_judge_an_imported_series_by_what_the_file_was_all_of(
    settings: api.Settings, tmp_path: Path
) -> None:
    tuesday = date(1994, 3, 8)  # midnight UTC lies on Monday in New York
    old = [tuesday + timedelta(days=day) for day in (0, 1, 3)]
    lines = [f"AAPL,d1,{day},10,11,9,10,5,," for day in old]
    path = written(tmp_path / "old.csv", lines)
    load = job(path, covers=covering(tuesday, date(1994, 3, 11)))
    assert (await api.import_file(settings, load)).exit_code == 0
    [one] = await api.status(settings)
    assert (one.bars, one.judged) == (3, False)
    found = await api.gaps(settings, None, api.Scope())
    [series] = found.gaps
    assert [(gap.slots, str(gap.reason)) for gap in series.gaps] == [(1, "absent")]


async def test_a_repair_leaves_imported_bars_alone(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    minutes_ = minutes("BTC/USD", datetime(2024, 11, 4, tzinfo=UTC), 5)
    path = written(tmp_path / "a.csv", [*days("AAPL", but=(WEEK[1],)), *minutes_])
    await api.import_file(settings, job(path, covers=covering(MONDAY, WEEK[-1])))
    before = await rows(database_url, COVERAGE)
    await asyncio.to_thread(query, database_url, "DELETE FROM ohlc_bars WHERE low = 8")
    done = await api.repair(settings)
    assert (done.exit_code, done.summary) == (4, None)
    assert await rows(database_url, COVERAGE) == before
    again = await api.import_file(settings, job(path))
    assert (again.exit_code, again.bars.inserted, again.bars.unchanged) == (0, 5, 4)


async def test_a_dry_run_tells_what_the_file_holds_and_writes_nothing(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", [*reversed(days("AAPL")), *days("MSFT")])
    plan = await api.plan_import(settings, job(path, covers=covering(MONDAY, WEEK[-1])))
    apple, microsoft = plan.as_dict()["series"]
    assert (plan.bars, apple["bars"], microsoft["symbol"]) == (10, 5, "MSFT")
    assert (apple["first"], apple["last"]) == (
        "2024-11-04T00:00:00+00:00",
        "2024-11-08T00:00:00+00:00",
    )
    assert apple["covers"] == ("2024-11-04T05:00:00+00:00", "2024-11-09T05:00:00+00:00")
    for table in ("symbols", "backfill_progress", "backfill_runs", "imported_files"):
        assert await rows(database_url, f"SELECT 1 FROM {table}") == []


async def test_a_name_that_is_no_text_is_stored_as_one_and_a_source_s_is_refused(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    unread = os.fsdecode(b"caf\xe9")
    path = written(tmp_path / f"{unread}.csv", days("AAPL"))
    with pytest.raises(UsageError, match="names no source"):
        await api.import_file(settings, job(path, feed=unread))
    assert await rows(database_url, "SELECT 1 FROM backfill_runs") == []
    summary = await api.import_file(settings, job(path))
    assert (summary.exit_code, summary.bars.inserted) == (0, 5)
    assert await rows(database_url, "SELECT name FROM imported_files") == [("caf\ufffd.csv",)]


async def test_newest_first_is_read_as_well_as_oldest_first(
    settings: api.Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.files.text._AT_ONCE", 7)
    monkeypatch.setattr("backfill.run.importing.PAGE", 10)
    lines = minutes("BTC/USD", datetime(2024, 11, 4, tzinfo=UTC), 64)
    del lines[40:45]
    covers = (
        api.Bound(datetime(2024, 11, 4, tzinfo=UTC)),
        api.Bound(datetime(2024, 11, 4, 1, 10, tzinfo=UTC)),
    )
    down = job(written(tmp_path / "down.csv", lines[::-1]), covers=covers)
    assert (await api.import_file(settings, down)).bars.inserted == 59
    empty = "SELECT reason, slots::text FROM known_empty ORDER BY 1"
    known = await rows(database_url, empty)
    assert [row[0] for row in known] == ["no_trades"]
    assert known[0][1].count("[") == 2  # the hole, and what follows the newest bar
    up = job(written(tmp_path / "up.csv", lines), covers=covers)
    again = await api.import_file(settings, up)
    assert (again.bars.inserted, again.bars.updated, again.bars.unchanged) == (0, 0, 59)
    assert await rows(database_url, empty) == known


async def test_a_signal_keeps_the_pages_that_are_done_and_the_next_import_goes_on(
    settings: api.Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.files.text._AT_ONCE", 20)
    monkeypatch.setattr("backfill.run.importing.PAGE", 20)
    lines = minutes("BTC/USD", datetime(2024, 11, 4, tzinfo=UTC), 200)
    day = covering(MONDAY, MONDAY)
    load = job(written(tmp_path / "a.csv", lines), covers=day)
    stop = StopSignal()
    note_file = api.import_file.__globals__["note_file"]

    async def noted(*given: Any) -> None:
        await note_file(*given)
        stop.set(Interrupted("interrupted by SIGTERM"))

    monkeypatch.setattr("backfill.run.importing.note_file", noted)
    cut = await api.import_file(settings, load, stop=stop)
    assert (cut.exit_code, cut.status) == (130, "interrupted")
    assert 0 < cut.bars.inserted < 200
    span = (
        "SELECT extract(epoch FROM upper(coverage) - lower(coverage)) / 60 FROM backfill_progress"
    )
    assert await rows(database_url, span) == [(cut.bars.inserted,)]
    assert await rows(database_url, "SELECT claimed_by FROM backfill_progress") == [(None,)]
    monkeypatch.setattr("backfill.run.importing.note_file", note_file)
    rest = await api.import_file(settings, load)
    assert (rest.exit_code, rest.bars.inserted) == (0, 200 - cut.bars.inserted)
    assert await rows(database_url, span) == [(1440,)]


async def test_a_page_that_takes_too_long_does_not_hold_up_a_signal(
    settings: api.Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopSignal()

    async def endless(*_given: Any) -> None:
        stop.set(Interrupted("interrupted by SIGTERM"))
        await asyncio.Event().wait()

    monkeypatch.setattr("backfill.run.importing.note_file", endless)
    monkeypatch.setattr("backfill.run.importing._GRACE_S", 0.1)
    load = job(written(tmp_path / "a.csv", days("AAPL")))
    cut = await api.import_file(settings, load, stop=stop)
    assert (cut.exit_code, cut.status, cut.bars.inserted) == (130, "interrupted", 0)
    assert await rows(database_url, "SELECT claimed_by FROM backfill_progress") == [(None,)]


async def test_a_file_that_changes_while_it_is_read_fails_and_claims_nothing_more(
    settings: api.Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.csv", days("AAPL"))
    look = api.import_file.__globals__["look"]

    async def changed(*given: Any) -> Any:
        found = await look(*given)
        path.write_text(path.read_text() + "AAPL,d1,2024-11-11,10,11,9,10,5,,\n")
        return found

    monkeypatch.setattr("backfill.run.importing.look", changed)
    summary = await api.import_file(settings, job(path))
    assert (summary.exit_code, summary.bars.inserted) == (1, 0)
    assert "changed while it was read" in summary.failures[0].message
    assert await rows(database_url, "SELECT 1 FROM symbols") == []


async def test_series_that_another_live_run_holds_are_skipped_and_the_others_imported(
    settings: api.Settings, database: Database, database_url: str, tmp_path: Path
) -> None:
    run_id, held = await claimed(database, "AAPL", Timeframe.d1)
    path = written(tmp_path / "a.csv", [*days("AAPL"), *days("MSFT")])
    importing = asyncio.create_task(api.import_file(settings, job(path)))
    while not importing.done():  # as a live run does
        await progress.renew(database, run_id)
        await asyncio.wait({importing}, timeout=0.3)
    summary = await importing
    assert (summary.exit_code, summary.series.skipped, summary.series.complete) == (0, 1, 1)
    await database.run(lambda connection: progress.release(connection, run_id, held))


async def test_series_are_leased_to_the_import_while_it_writes(
    settings: api.Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_file = api.import_file.__globals__["note_file"]
    leases: list[bool] = []

    async def noted(connection: Any, file: Any, filed: Any, run_id: Any) -> None:
        sql = "SELECT claimed_by = $1 AND claimed_until > now() FROM backfill_progress"
        leases.append(await value(database, sql, run_id))
        await note_file(connection, file, filed, run_id)

    monkeypatch.setattr("backfill.run.importing.note_file", noted)
    await api.import_file(settings, job(written(tmp_path / "a.csv", days("AAPL"))))
    assert leases == [True]


async def test_bars_of_another_timeframe_than_they_are_said_to_be_are_refused_as_a_whole(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    hours = [
        f"AAPL,m1,{datetime(2024, 11, 4, 14 + hour, tzinfo=UTC).isoformat()},10,11,9,10,5,,"
        for hour in range(6)
    ]
    summary = await api.import_file(settings, job(written(tmp_path / "a.csv", hours)))
    assert (summary.exit_code, summary.failures[0].outcome) == (1, "bad_answer")
    assert await rows(database_url, "SELECT 1 FROM ohlc_bars") == []


@pytest.mark.parametrize("unit", list(PER_SECOND))
async def test_epoch_numbers_of_every_unit_are_one_instant(
    settings: api.Settings, database_url: str, tmp_path: Path, unit: str
) -> None:
    at = int(datetime(2024, 11, 4, 14, 30, tzinfo=UTC).timestamp())
    line = f"BTC/USD,m1,{at * PER_SECOND[unit]},10,11,9,10,5,,"
    await api.import_file(settings, job(written(tmp_path / "a.csv", [line])))
    [bar] = await asyncio.to_thread(stored_bars, database_url, "BTC/USD", Timeframe.m1)
    assert bar[0] == at * 1000


@pytest.mark.parametrize(
    ("stamps", "zone"),
    [
        # By New York: when Monday's session closes, and half an hour after that of a half day does.
        pytest.param(["2024-11-05 00:00:00", "2024-11-06 00:00:00"], "Europe/Moscow", id="zone"),
        pytest.param(["2024-11-05", "2024-11-06"], "Europe/Moscow", id="days in a zone"),
        pytest.param(["2024-11-05T00:00:00+03:00"], None, id="offset"),
        pytest.param(["2024-07-03T00:00:00+04:00"], None, id="offset in summer"),
    ],
)
async def test_midnights_elsewhere_are_no_days_of_an_exchange_even_where_its_session_closes_then(
    settings: api.Settings, database_url: str, tmp_path: Path, stamps: list[str], zone: str | None
) -> None:
    lines = [f"AAPL,d1,{at},10,11,9,10,100,," for at in stamps]
    said = {"zone": ZoneInfo(zone)} if zone else {}
    load = job(written(tmp_path / "a.csv", lines), **said)
    [planned] = (await api.plan_import(settings, load)).series
    summary = await api.import_file(settings, load)
    [failure] = summary.failures
    assert (summary.exit_code, failure.outcome) == (1, "bad_answer")
    assert "write days as 2024-07-03, without --timezone" in failure.message
    assert planned.refusal == failure.message
    assert await rows(database_url, "SELECT 1 FROM ohlc_bars") == []


async def test_midnights_of_the_exchange_and_ends_of_its_sessions_are_days_of_it(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    """The last one is written by a clock that is not at midnight then, as a stamp of a close."""
    stamps = ["2024-11-04T00:00:00-05:00", "2024-11-05T05:00:00Z", "2024-11-06T15:00:00-06:00"]
    lines = [f"AAPL,d1,{at},10,11,9,10,100,," for at in stamps]
    summary = await api.import_file(settings, job(written(tmp_path / "a.csv", lines)))
    assert summary.exit_code == 0
    found = await asyncio.to_thread(stored_bars, database_url, "AAPL", Timeframe.d1)
    assert [datetime.fromtimestamp(row[0] / 1000, UTC).day for row in found] == [4, 5, 6]


@pytest.mark.parametrize("days_ahead", first_of(400, 3, 9000))
async def test_bars_to_come_are_set_aside_however_far_ahead_they_are(
    settings: api.Settings, database_url: str, tmp_path: Path, days_ahead: int
) -> None:
    day = datetime.now(UTC).date() + timedelta(days=days_ahead)
    while day.weekday() != 2:
        day += timedelta(days=1)
    for number, said in enumerate(({}, {"covers": covering(day, day)})):
        lines = [f"AAPL,d1,{day},10,11,9,10,100,,", f"BTC/USD,m1,{day}T10:00:00Z,9,11,8,10,1,,"]
        load = job(written(tmp_path / f"{number}.csv", lines), **said)
        summary = await api.import_file(settings, load)
        assert [one.outcome for one in summary.failures] == ["quarantined"] * 2
        assert (summary.exit_code, summary.bars.inserted, summary.bars.rejected) == (1, 0, 2)
    assert await rows(database_url, "SELECT 1 FROM ohlc_bars") == []


async def test_what_a_file_is_all_of_says_nothing_against_bars_that_another_file_brought(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    odd, even = WEEK[::2], WEEK[1::2]
    first = job(written(tmp_path / "a.csv", days("AAPL", but=tuple(even))))
    assert (await api.import_file(settings, first)).exit_code == 0
    lines = days("AAPL", but=(*odd, even[1]))
    second = job(written(tmp_path / "b.csv", lines), covers=covering(MONDAY, WEEK[-1]))
    assert (await api.import_file(settings, second)).exit_code == 0
    empty = await rows(database_url, "SELECT reason, slots::text FROM known_empty")
    assert empty == [("absent", '{["2024-11-07 05:00:00+00","2024-11-08 05:00:00+00")}')]


async def test_what_a_file_is_all_of_is_noted_as_it_was_said_last_and_before(
    settings: api.Settings, database_url: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", days("AAPL"))
    noted = []
    for first, last in ((0, 1), (3, 4), (3, 3)):
        load = job(path, covers=covering(WEEK[first], WEEK[last]))
        assert (await api.import_file(settings, load)).exit_code == 0
        [[text]] = await rows(database_url, "SELECT covers::text FROM imported_files")
        noted.append(text)
    covered = await rows(database_url, "SELECT coverage::text FROM backfill_progress")
    monday_tuesday = '["2024-11-04 05:00:00+00","2024-11-06 05:00:00+00")'
    thursday_friday = '["2024-11-07 05:00:00+00","2024-11-09 05:00:00+00")'
    both = f"{{{monday_tuesday},{thursday_friday}}}"
    assert noted == [f"{{{monday_tuesday}}}", both, both]
    assert covered == [(both,)]
