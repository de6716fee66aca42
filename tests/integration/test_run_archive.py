"""Runs that read Binance's files: the same bars as by calls, whatever is wrong with a file."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.archive import Use
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, first_of, query, stored_bars
from tests.integration.truth import midnight_ms

PAIR: Final = "BTC/USDT"
FIRST: Final = date(2024, 8, 1)
AUGUST, SEPTEMBER, OCTOBER = "-2024-08\\.zip", "-2024-09\\.zip", "-2024-10\\.zip"
FILES: Final = "SELECT path, etag, checksum, bytes FROM archive_files ORDER BY path"
EMPTIED: Final = """
    WITH bars AS (DELETE FROM ohlc_bars), empty AS (DELETE FROM known_empty)
    DELETE FROM backfill_progress RETURNING symbol_id
"""
KNOWN_EMPTY: Final = "SELECT reason::text, slots::text FROM known_empty ORDER BY month, 1, 2"

LISTED: Final = (
    "SELECT listed_on::text, listing_verdict::text FROM symbols WHERE ticker = 'BTC/USDT'"
)
DROPS_OLD_ROWS: Final = """
    CREATE FUNCTION recent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RETURN CASE WHEN new.ts >= '2024-09-15' THEN new END;
    END
    $$
"""
DROPS_BEFORE: Final = """
    CREATE TRIGGER recent BEFORE INSERT ON ohlc_bars FOR EACH ROW EXECUTE FUNCTION recent()
"""


@pytest.fixture
def binance(simulate: Callable[..., Simulator]) -> Simulator:
    """The provider, and its archive at the same address."""
    return simulate(provider="binance", quota="400/1s")


@pytest.fixture
def settings(binance: Simulator, database_url: str) -> api.Settings:
    """Settings of who has only Binance."""
    account = AccountSettings(url=binance.url, archive_url=binance.url, quota="400/1s")
    return api.Settings(
        database_url=Secret(database_url), provider_name="binance", accounts={"binance": account}
    )


def job(*timeframes: Timeframe, **options: Any) -> api.Job:
    given: dict[str, Any] = {"symbols": (PAIR,), "first": Bound(FIRST), "as_of": NOW} | options
    return api.Job(timeframes=timeframes or (Timeframe.m15,), **given)


def months(simulator: Simulator) -> list[str]:
    """The files and checksums that were asked for, by their last words, in order."""
    asked = [call.path.rpartition("/")[2] for call in simulator.calls if "/data/" in call.path]
    return [name.removeprefix("BTCUSDT-15m-") for name in asked]


async def stored(url: str, timeframe: Timeframe = Timeframe.m15) -> list[Any]:
    return await asyncio.to_thread(stored_bars, url, PAIR, timeframe)


async def told(url: str, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await asyncio.to_thread(query, url, statement)]


def stamps(market: Market, first: date = FIRST, until: datetime = NOW) -> list[int]:
    """When the true bars start that are final by then."""
    until_ms = round(until.timestamp() * 1000) - 120_000
    bars = market.bars(
        "X:BTCUSDT", Timeframe.m15, midnight_ms(first, "X:"), until_ms, now_ms=until_ms
    )
    return bars.ts_ms.tolist()  # type: ignore[no-any-return]


def without_september(market: Market) -> list[int]:
    """When the true bars of all other months start."""
    first_ms, last_ms = (midnight_ms(date(2024, month, 1), "X:") for month in (9, 10))
    return [at_ms for at_ms in stamps(market) if not first_ms <= at_ms < last_ms]


async def ran(settings: api.Settings, simulator: Simulator, given: api.Job) -> Summary:
    """Run a job within its plan, and see that the summary counts what the provider saw."""
    before = len(simulator.calls)
    planned = await api.plan(settings, given)
    done = await api.run(settings, given)
    assert done.calls + done.lookups == len(simulator.calls) - before
    assert planned.calls - done.lookups <= done.calls <= planned.calls_max + done.retries
    assert [call for call in simulator.calls if call.over_quota] == []
    return done


async def test_files_bring_the_rows_that_calls_bring_and_take_fewer_requests(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    by_calls = await ran(settings, binance, job(archive=Use.never))
    rows, empty = await stored(database_url), await told(database_url, KNOWN_EMPTY)
    assert (by_calls.exit_code, months(binance)) == (0, [])
    assert [row[0] for row in rows] == stamps(market)

    await told(database_url, EMPTIED)
    planned = await api.plan(settings, job())
    by_files = await ran(settings, binance, job())
    # Three months by files, November so far by calls.
    assert (by_files.exit_code, by_files.calls) == (0, planned.calls)
    assert (planned.archive.requests, planned.calls) == (6, 8)
    assert months(binance) == [
        f"2024-{month}.zip{end}" for month in ("08", "09", "10") for end in (".CHECKSUM", "")
    ]
    assert await stored(database_url) == rows
    assert await told(database_url, KNOWN_EMPTY) == empty
    assert planned.archive.calls_instead > planned.archive.requests
    assert planned.archive.bytes_instead > planned.archive.bytes > 0
    files = await told(database_url, FILES)
    assert [path.rpartition("/")[2] for path, *_ in files] == [
        f"BTCUSDT-15m-2024-{month}.zip" for month in ("08", "09", "10")
    ]
    assert all(etag and len(checksum) == 64 and size > 0 for _, etag, checksum, size in files)

    again = await ran(settings, binance, job())
    assert (again.calls, again.bars.inserted) == (0, 0)
    reload = await ran(settings, binance, job(mode=Mode.reload, archive=Use.always))
    assert (reload.exit_code, reload.bars.updated, reload.bars.withdrawn) == (0, 0, 0)
    assert reload.bars.unchanged == len(rows)
    assert await stored(database_url) == rows


@pytest.mark.parametrize(
    ("bound", "first_asked"),
    [
        ({}, ["2024-08", "2024-09"]),
        ({"max_calls": 8}, ["2024-10", "2024-09"]),
        ({"deadline_s": 600.0}, ["2024-10", "2024-09"]),
        ({"timeframes": (Timeframe.m15, Timeframe.h1)}, ["2024-10", "2024-09"]),
        ({"symbols": (PAIR, "ETH/USDT")}, ["2024-10", "2024-09"]),
    ],
    ids=["nothing", "calls", "deadline", "rolled up", "another pair"],
)
async def test_files_come_oldest_first_only_where_one_series_is_loaded_and_nothing_cuts_that_short(
    settings: api.Settings, binance: Simulator, bound: dict[str, Any], first_asked: list[str]
) -> None:
    done = await api.run(settings, replace(job(), **bound))
    assert done.exit_code == 0
    files = [name for name in months(binance) if name.startswith("2024") and "CHECK" not in name]
    assert files[:2] == [f"{month}.zip" for month in first_asked]


@pytest.mark.parametrize(
    ("stored_before", "others"),
    [(8, ["2024-09", "2024-10"]), (9, ["2024-10", "2024-08"])],
    ids=["behind what is stored", "on both sides of it"],
)
async def test_files_come_oldest_first_only_behind_all_that_is_stored(
    settings: api.Settings,
    binance: Simulator,
    market: Market,
    database_url: str,
    stored_before: int,
    others: list[str],
) -> None:
    first, last = date(2024, stored_before, 1), date(2024, stored_before, 30)
    part = job(first=Bound(first), last=Bound(last), archive=Use.always)
    assert (await ran(settings, binance, part)).exit_code == 0
    binance.calls.clear()
    assert (await ran(settings, binance, job(archive=Use.always))).exit_code == 0
    asked = [name for name in months(binance) if len(name) == len("2024-08.zip")]
    assert [name for name in asked if name[5:7] != f"{stored_before:02}"] == [
        f"{month}.zip" for month in others
    ]
    assert [row[0] for row in await stored(database_url)] == stamps(market)


@pytest.mark.parametrize("first", [FIRST, date(2024, 8, 25)], ids=["a file", "a part by calls"])
async def test_what_a_month_lacks_at_its_end_is_as_empty_as_if_the_newest_had_come_first(
    settings: api.Settings, binance: Simulator, database_url: str, first: date
) -> None:
    september = midnight_ms(date(2024, 9, 1), "X:")
    binance.inject(Fault(action=Action.LACKING, span_ms=(september - 7_200_000, september)))
    await ran(settings, binance, job(first=Bound(first), deadline_s=600.0))
    rows, empty = await stored(database_url), await told(database_url, KNOWN_EMPTY)
    assert [reason for reason, _ in empty] == ["no_trades"]

    await told(database_url, EMPTIED)
    await ran(settings, binance, job(first=Bound(first)))
    assert await stored(database_url) == rows
    assert await told(database_url, KNOWN_EMPTY) == empty


async def test_of_a_file_that_ends_in_silence_nothing_is_believed_before_something_newer_came(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    tenth = midnight_ms(date(2024, 11, 10), "X:")
    binance.inject(Fault(action=Action.LACKING, span_ms=(tenth + 64_800_000, tenth + 10 * DAY_MS)))
    given = job(first=Bound(date(2024, 11, 5)), archive=Use.always)
    await ran(settings, binance, given)
    binance.clear_faults()
    await api.run(settings, replace(given, as_of=NOW + timedelta(days=2)))
    until_ms = tenth + DAY_MS
    true = [at_ms for at_ms in stamps(market, date(2024, 11, 5)) if at_ms < until_ms]
    assert [row[0] for row in await stored(database_url) if row[0] < until_ms] == true


async def test_a_file_that_is_refused_keeps_nothing_newer_from_its_place(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    binance.inject(Fault(action=Action.STATUS, status=403, path=f"{SEPTEMBER}\\?"))
    done = await api.run(settings, job(archive=Use.always))
    assert (done.exit_code, [one.outcome for one in done.failures]) == (1, ["provider_error"])
    assert [row[0] for row in await stored(database_url)] == without_september(market)


async def test_whose_the_bars_before_a_listing_are_is_told_as_if_the_newest_had_come_first(
    settings: api.Settings, binance: Simulator, database_url: str
) -> None:
    # August begins with a silence, costs less than half, and is before the first day that is told.
    august, september = (midnight_ms(date(2024, month, 1), "X:") for month in (8, 9))
    prices = dict.fromkeys("ohlc", 1000.0)
    told_first = f'[[{september},"1","1","1","1","1",{september + DAY_MS - 1},"1",1,"1","1","0"]]'
    for fault in (
        Fault(action=Action.LACKING, span_ms=(august, august + 2 * DAY_MS)),
        Fault(action=Action.STATUS, status=200, path="startTime=0(&|$)", body=told_first),
        Fault(action=Action.EDIT_BARS, span_ms=(august, september), bar=prices),
    ):
        binance.inject(fault)
    done = await ran(settings, binance, job())
    assert (done.exit_code, done.bars.rejected) == (1, 29 * 96)
    assert (await stored(database_url))[0][0] == september
    assert await told(database_url, LISTED) == [("2024-09-01", "cut")]


async def test_a_table_that_drops_old_rows_gets_the_newest_first(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    await asyncio.to_thread(query, database_url, DROPS_OLD_ROWS)
    await asyncio.to_thread(query, database_url, DROPS_BEFORE)
    done = await api.run(settings, job())
    assert (done.exit_code, [one.outcome for one in done.failures]) == (1, ["database_error"])
    kept = [row[0] for row in await stored(database_url)]
    assert kept == stamps(market, date(2024, 10, 1))
    assert months(binance)[1] == "2024-10.zip"


async def test_a_range_that_is_refused_as_unknown_keeps_no_file_from_its_place(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    unknown = '{"code": -1121, "msg": "Invalid symbol."}'
    binance.inject(Fault(action=Action.STATUS, status=400, body=unknown, path="/klines\\?"))
    given = job(first=Bound(date(2024, 8, 25)), last=Bound(date(2024, 10, 31)))
    done = await ran(settings, binance, given)
    assert [one.outcome for one in done.failures] == ["unknown_symbol"]
    first, last = date(2024, 9, 1), datetime(2024, 11, 1, 0, 2, tzinfo=UTC)
    assert [row[0] for row in await stored(database_url)] == stamps(market, first, last)


async def test_a_missing_month_falls_back_to_its_days_and_a_missing_day_to_calls(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    for missing in (SEPTEMBER, "-2024-09-10\\.zip"):
        binance.inject(Fault(action=Action.STATUS, status=404, path=missing))
    done = await ran(settings, binance, job())
    assert (done.exit_code, done.series.complete) == (0, 1)
    assert [row[0] for row in await stored(database_url)] == stamps(market)
    asked = months(binance)
    assert asked.count("2024-09.zip.CHECKSUM") == 1
    assert "2024-09.zip" not in asked
    assert sum("2024-09-" in name for name in asked) == 2 * 29 + 1
    assert len(await told(database_url, FILES)) == 2 + 29


@pytest.mark.parametrize(
    "fault",
    first_of(
        Fault(action=Action.EDIT_BARS, path=f"{SEPTEMBER}\\?", bar={"c": 1.0}),
        Fault(action=Action.RANDOM_BYTES, path=f"{SEPTEMBER}\\?"),
        Fault(action=Action.HTML, path=f"{SEPTEMBER}\\.CHECKSUM"),
        Fault(action=Action.SECONDS, path=SEPTEMBER),
        Fault(action=Action.WRONG_GRANULARITY, path=SEPTEMBER),
    ),
    ids=lambda fault: fault.action.value,
)
async def test_of_a_file_that_is_not_what_it_should_be_nothing_is_stored_and_all_else_is(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str, fault: Fault
) -> None:
    binance.inject(fault)
    done = await ran(settings, binance, job())
    assert [one.outcome for one in done.failures] == ["bad_answer"]
    assert done.exit_code == 1
    assert [row[0] for row in await stored(database_url)] == without_september(market)
    assert len(await told(database_url, FILES)) == 2
    # Nor is a call made for it; it is asked for once more, when all that is newer is there.
    assert months(binance).count("2024-09.zip.CHECKSUM") == 2
    assert done.retries == 2
    assert not any("2024-09-" in name for name in months(binance))

    binance.clear_faults()
    healed = await ran(settings, binance, job())
    assert healed.exit_code == 0
    assert [row[0] for row in await stored(database_url)] == stamps(market)


@pytest.mark.wide
async def test_a_file_that_is_cut_doubled_or_out_of_order_is_healed_and_a_bad_bar_stands_alone(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    bad = midnight_ms(date(2024, 9, 12), "X:")
    lost = midnight_ms(date(2024, 8, 12), "X:")
    for fault in (
        Fault(action=Action.TRUNCATE, path=f"{OCTOBER}\\?", times=1),
        Fault(action=Action.DUPLICATES, path=OCTOBER),
        Fault(action=Action.EDIT_BARS, path=SEPTEMBER, bar={"c": "nan"}, span_ms=(bad, bad + 1)),
        Fault(action=Action.SHUFFLED, path=AUGUST),
        Fault(action=Action.LATE, in_s=(0.1, 0.1), back_s=(0.1, 0.1)),
    ):
        binance.inject(fault)
    done = await api.run(settings, job())
    assert (done.exit_code, done.bars.rejected, done.retries) == (1, 1, 1)
    kept = [row[0] for row in await stored(database_url)]
    assert kept == [at_ms for at_ms in stamps(market) if at_ms != bad]
    assert lost in kept
    [[raw]] = await told(database_url, "SELECT raw->>'close' FROM quarantined_bars")
    assert raw == "nan"


@pytest.mark.wide
async def test_stamps_are_read_in_the_unit_of_the_file(
    settings: api.Settings, simulate: Callable[..., Simulator], market: Market, database_url: str
) -> None:
    now = datetime(2025, 2, 20, 12, tzinfo=UTC)
    later = simulate(provider="binance", now=now)
    accounts = {"binance": AccountSettings(url=later.url, archive_url=later.url)}
    first = date(2024, 12, 1)
    given = job(first=Bound(first), as_of=now)
    done = await ran(replace(settings, accounts=accounts), later, given)
    assert (done.exit_code, len(await told(database_url, FILES))) == (0, 2)
    assert [row[0] for row in await stored(database_url)] == stamps(market, first, now)


async def test_longer_bars_are_rolled_up_from_files_as_from_calls(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    done = await ran(settings, binance, job(Timeframe.m15, Timeframe.h1, Timeframe.h4))
    assert (done.exit_code, done.series.complete, len(months(binance))) == (0, 3, 6)
    until_ms = round(NOW.timestamp() * 1000)
    for timeframe in (Timeframe.h1, Timeframe.h4):
        true = market.bars(
            "X:BTCUSDT", timeframe, midnight_ms(FIRST, "X:"), until_ms, now_ms=until_ms - 120_000
        )
        rows = await stored(database_url, timeframe)
        assert [row[:5] for row in rows] == list(
            zip(
                *(getattr(true, name).tolist() for name in ("ts_ms", "open", "high", "low")),
                true.close.tolist(),
                strict=True,
            )
        )


@pytest.mark.wide
async def test_an_archive_that_is_down_is_left_alone_and_calls_bring_the_rest(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    binance.inject(Fault(action=Action.STATUS, status=403, path="/data/"))
    done = await ran(settings, binance, job())
    assert (done.exit_code, len(months(binance))) == (0, 1)
    assert [row[0] for row in await stored(database_url)] == stamps(market)

    insisted = await api.run(settings, job(mode=Mode.reload, archive=Use.always))
    assert [one.outcome for one in insisted.failures] == ["provider_error"]


async def test_before_a_pair_began_few_files_are_asked_for(
    settings: api.Settings, binance: Simulator
) -> None:
    given = replace(job(first=Bound(date(2022, 1, 1))), symbols=("SOL/USDT",))
    done = await api.run(settings, given)
    assert (done.exit_code, done.series.complete, done.lookups) == (0, 1, 1)
    # Of August, in which it began, the file is there.
    names = [call.path.rpartition("/")[2] for call in binance.calls if "/data/" in call.path]
    assert names[0] == "SOLUSDT-15m-2022-01.zip.CHECKSUM"
    assert names[-1] == "SOLUSDT-15m-2024-08.zip"


@pytest.mark.wide
async def test_a_file_that_was_replaced_later_is_seen_and_what_it_covers_is_read_again(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    async def looked() -> tuple[int, list[str], int]:
        found = await api.gaps(settings, NOW, verify_calls=6)
        assert found.verification is not None
        files = found.verification.files
        return files.files, [one.path[-11:-4] for one in files.replaced], found.exit_code

    await ran(settings, binance, job(Timeframe.m15, Timeframe.h1))
    assert await looked() == (3, [], 0)
    at_ms = midnight_ms(date(2024, 9, 12), "X:")
    binance.inject(Fault(action=Action.EDIT_BARS, bar={"v": 9.5}, span_ms=(at_ms, at_ms + 1)))
    assert await looked() == (3, ["2024-09"], 4)

    binance.calls.clear()
    again = await ran(settings, binance, job(Timeframe.m15, Timeframe.h1))
    assert months(binance) == ["2024-09.zip.CHECKSUM", "2024-09.zip"]
    # The quarter of an hour, and the hour that it is a part of.
    assert (again.calls, again.bars.updated, again.bars.inserted) == (2, 2, 0)
    assert (9.5 in {row[5] for row in await stored(database_url)}, await looked()) == (
        True,
        (3, [], 0),
    )

    binance.clear_faults()
    mended = await api.repair(settings, NOW, verify_calls=6)
    assert mended.summary is not None
    assert (mended.exit_code, mended.summary.bars.updated) == (0, 2)
    assert [row[0] for row in await stored(database_url)] == stamps(market)
    assert 9.5 not in {row[5] for row in await stored(database_url)}
