"""Massive's flat files: a session of the whole market in one file, for all series that miss it."""

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill import api
from backfill.core.archive import Use
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.errors import UsageError
from backfill.providers import PROVIDERS
from backfill.run.outcomes import Summary
from backfill.run.planned import Plan
from backfill.settings import Settings
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.simulator.wire.massive import flatfiles
from tests.conftest import KEY, query

MANY = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "JPM", "BRK.B")
SECRET = "an-s3-secret-key-of-nobody"
FROM, TO = date(2024, 11, 4), date(2024, 11, 8)
ALL = (Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.h4, Timeframe.d1, Timeframe.w1)

Run = Callable[..., Summary]


class Few(Market):
    """A market of few tickers: a file holds the minutes of them all."""

    tickers = (*MANY, "THIN", "VTHIN", "HALTED", "NEWCO", "SPLT")


@pytest.fixture(scope="module")
def market() -> Market:
    return Few()


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def job(
    simulator: Simulator, settings_here: Callable[..., Settings]
) -> Callable[..., tuple[Settings, api.Job]]:
    """What asks for some symbols over a week, with the keys of the flat files."""

    def one(
        *tickers: str,
        timeframes: tuple[Timeframe, ...] = (Timeframe.m1,),
        archive: Use = Use.always,
        environment: dict[str, str] | None = None,
        **job: Any,
    ) -> tuple[Settings, api.Job]:
        keys = {
            "MASSIVE_FLATFILES_URL": simulator.url,
            "MASSIVE_S3_ACCESS_KEY_ID": KEY,
            "MASSIVE_S3_SECRET_ACCESS_KEY": SECRET,
        }
        asked: dict[str, Any] = {
            "symbols": tickers or MANY,
            "timeframes": timeframes,
            "first": Bound(FROM),
            "last": Bound(TO),
            "as_of": simulator.now,
            "archive": archive,
        }
        return settings_here(**(keys | (environment or {}))), api.Job(**(asked | job))

    return one


@pytest.fixture
def run(job: Callable[..., tuple[Settings, api.Job]]) -> Run:
    """Run it."""
    return lambda *tickers, **said: asyncio.run(api.run(*job(*tickers, **said)))


@pytest.fixture
def plan(job: Callable[..., tuple[Settings, api.Job]]) -> Callable[..., Plan]:
    """Plan what `run` would do."""
    return lambda *tickers, **said: asyncio.run(api.plan(*job(*tickers, **said)))


def files(simulator: Simulator) -> list[tuple[str, int | None]]:
    """The days of the minute files that were asked for, and how each was answered."""
    asked = [call for call in simulator.calls if "minute_aggs" in call.path]
    return [(call.path[-17:-7], call.status) for call in asked]


def calls(simulator: Simulator) -> list[str]:
    return [call.path for call in simulator.calls if call.path.startswith("/v2/aggs/")]


def tables(url: str) -> dict[str, list[Any]]:
    """All that is stored of bars and known of series, but for vwap and for when it was asked."""
    bars = query(
        url,
        "SELECT s.ticker, b.timeframe, ts, open, high, low, close, volume, trade_count "
        "FROM ohlc_bars AS b JOIN symbols AS s ON s.id = b.symbol_id ORDER BY 1, 2, 3",
    )
    series = query(
        url,
        "SELECT s.ticker, p.timeframe, provider, feed, adjustment, derived_from, coverage, "
        "oldest_bar, newest_bar, wanted_from, provisional FROM backfill_progress AS p "
        "JOIN symbols AS s ON s.id = p.symbol_id ORDER BY 1, 2",
    )
    empty = query(
        url,
        "SELECT s.ticker, k.timeframe, reason, range_agg(u) AS slots FROM known_empty AS k "
        "JOIN symbols AS s ON s.id = k.symbol_id, unnest(slots) AS u GROUP BY 1, 2, 3 "
        "ORDER BY 1, 2, 3",
    )
    names = ("bars", "series", "empty")
    return {
        name: [tuple(row) for row in rows]
        for name, rows in zip(names, (bars, series, empty), strict=True)
    }


def days_stored(url: str) -> list[date]:
    rows = query(
        url,
        "SELECT DISTINCT (ts AT TIME ZONE 'America/New_York')::date FROM ohlc_bars ORDER BY 1",
    )
    return [day for [day] in rows]


def forget(url: str) -> None:
    """Empty every table but the calendar's."""
    named = query(
        url,
        "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public' "
        "AND tablename !~ '^market_' AND tablename !~ 'migration'",
    )
    query(url, f"TRUNCATE {named[0][0]}")


def test_a_week_by_files_is_that_week_by_calls_but_for_the_vwap(
    run: Run, simulator: Simulator, database_url: str
) -> None:
    summary = run(timeframes=ALL)
    assert summary.exit_code == 0
    assert summary.series.complete == len(MANY) * len(ALL)
    by_files = tables(database_url)
    assert len(by_files["bars"]) == summary.bars.inserted > 20_000
    assert files(simulator) == [(f"2024-11-0{day}", 200) for day in (8, 7, 6, 5, 4)]
    assert not calls(simulator)
    assert summary.calls == 10, "five files of minutes, five of days"
    assert not query(database_url, "SELECT FROM ohlc_bars WHERE vwap IS NOT NULL")
    read = query(
        database_url, "SELECT path, etag, bytes FROM archive_files WHERE provider = $1", "massive"
    )
    assert len(read) == 10
    assert all(row["etag"] and row["bytes"] for row in read)

    again = run(timeframes=ALL)
    assert (again.calls, again.bars.inserted, again.bars.updated) == (0, 0, 0)

    forget(database_url)
    assert run(timeframes=ALL, archive=Use.never).exit_code == 0
    assert tables(database_url) == by_files


@pytest.mark.wide
def test_a_reload_by_files_of_what_calls_brought_changes_nothing_but_what_they_had_wrong(
    run: Run, database_url: str
) -> None:
    timeframes = (Timeframe.m1, Timeframe.h1)
    assert run("AAPL", "MSFT", timeframes=timeframes, archive=Use.never).exit_code == 0
    by_calls = query(database_url, "SELECT * FROM ohlc_bars ORDER BY 1, 2, 3")
    query(
        database_url,
        "UPDATE ohlc_bars SET close = (high + low) / 2 WHERE ts = $1 AND timeframe = 'm1'",
        datetime(2024, 11, 6, 15, 30, tzinfo=UTC),
    )
    summary = run("AAPL", "MSFT", timeframes=timeframes, mode=Mode.reload)
    assert summary.exit_code == 0
    assert (summary.bars.inserted, summary.bars.withdrawn) == (0, 0)
    assert 0 < summary.bars.updated <= 4
    assert summary.calls == 5
    reloaded = query(database_url, "SELECT * FROM ohlc_bars ORDER BY 1, 2, 3")
    others = [
        pair for pair in zip(by_calls, reloaded, strict=True) if tuple(pair[0]) != tuple(pair[1])
    ]
    assert 0 < len(others) <= 4
    assert all(new["close"] == old["close"] and new["vwap"] is None for old, new in others)


@pytest.mark.wide
def test_symbols_that_hardly_trade_halt_or_were_not_listed_yet_come_out_as_by_calls(
    run: Run, simulator: Simulator, database_url: str
) -> None:
    timeframes = (Timeframe.m1, Timeframe.m30, Timeframe.d1)
    odd = ("THIN", "VTHIN", "HALTED", "NOBODY")
    span = {"first": Bound(date(2024, 5, 13)), "last": Bound(date(2024, 5, 17))}
    summary = run(*odd, timeframes=timeframes, **span)
    assert files(simulator)
    assert calls(simulator), "what leaves a question goes on by calls"
    by_files = tables(database_url)
    forget(database_url)
    by_calls = run(
        *odd, timeframes=(Timeframe.m1, Timeframe.m30, Timeframe.d1), archive=Use.never, **span
    )
    assert tables(database_url) == by_files
    assert [one.outcome for one in summary.failures] == [one.outcome for one in by_calls.failures]


def test_three_minutes_that_could_start_coarser_bars_are_minutes_among_those_of_others(
    run: Run, simulator: Simulator, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = flatfiles._packed

    def packed(*given: Any) -> bytes:
        lines = gzip.decompress(true(*given)).decode().splitlines()
        whole = [one for one in lines if one.startswith("THIN,") and starts_five(one)]
        thin = [whole[0], whole[len(whole) // 2], whole[-1]]
        assert len(set(thin)) == 3
        others = [one for one in lines if not one.startswith("THIN,")]
        return gzip.compress("\n".join([*others, *thin, ""]).encode())

    def starts_five(line: str) -> bool:
        return int(line.split(",")[6]) // 60_000_000_000 % 5 == 0

    monkeypatch.setattr(flatfiles, "_packed", packed)
    summary = run("AAPL", "THIN", timeframes=(Timeframe.m1,))
    assert summary.exit_code == 0
    assert not calls(simulator)
    [[bars]] = query(
        database_url,
        "SELECT count(*) FROM ohlc_bars JOIN symbols ON id = symbol_id WHERE ticker = 'THIN'",
    )
    assert bars == 3 * len(files(simulator))


@pytest.mark.wide
def test_a_jump_of_the_price_and_what_is_older_than_a_listing_are_left_to_calls(
    run: Run, simulator: Simulator, database_url: str
) -> None:
    for ticker, first, last in (
        ("SPLT", date(2024, 6, 6), date(2024, 6, 12)),
        ("NEWCO", date(2024, 3, 12), date(2024, 3, 18)),
    ):
        simulator.calls.clear()
        assert run(ticker, first=Bound(first), last=Bound(last)).exit_code == 0
        assert files(simulator)
        assert len(calls(simulator)) == 1
        by_files = tables(database_url)["bars"]
        forget(database_url)
        assert run(ticker, first=Bound(first), last=Bound(last), archive=Use.never).exit_code == 0
        assert tables(database_url)["bars"] == by_files
        forget(database_url)


def test_a_file_that_is_missing_leaves_its_session_to_calls(
    run: Run, simulator: Simulator, database_url: str
) -> None:
    simulator.inject(Fault(action=Action.STATUS, status=404, path="2024-11-06"))
    summary = run()
    assert (summary.exit_code, summary.retries) == (0, 0)
    assert ("2024-11-06", 404) in files(simulator)
    assert len(calls(simulator)) == len(MANY)
    vwaps = query(
        database_url, "SELECT DISTINCT ts::date FROM ohlc_bars WHERE vwap IS NOT NULL ORDER BY 1"
    )
    assert {day for [day] in vwaps} <= {date(2024, 11, 6), date(2024, 11, 7)}
    assert not run().calls


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files so small that they are worth it for a few symbols."""
    can = PROVIDERS["massive"].can
    assert can.archive is not None
    sizes = tuple((timeframe, 1000) for timeframe in (Timeframe.m1, Timeframe.d1))
    small = replace(can, archive=replace(can.archive, market_bytes=sizes))
    monkeypatch.setattr(PROVIDERS["massive"], "can", small)


@pytest.mark.parametrize(
    ("status", "requests", "outcome"), [(403, 1, "not_entitled"), (503, 4, "provider_error")]
)
@pytest.mark.wide
def test_an_archive_that_can_not_be_had_leaves_all_to_calls_or_fails_where_it_has_to_be_read(
    status: int, requests: int, outcome: str, small_files: None, run: Run, simulator: Simulator
) -> None:
    assert small_files is None
    simulator.inject(Fault(action=Action.STATUS, status=status, path="flatfiles", skip=1))
    summary = run(archive=Use.always)
    assert {one.outcome for one in summary.failures} == {outcome}
    assert len(summary.failures) == len(MANY)
    assert [answered for _, answered in files(simulator)] == [200] + [status] * requests
    assert not calls(simulator)

    simulator.calls.clear()
    assert run(archive=Use.auto).exit_code == 0
    assert [answered for _, answered in files(simulator)] == [status] * requests
    assert len(calls(simulator)) == len(MANY)


@pytest.mark.wide
def test_a_file_that_was_replaced_is_seen_and_read_again(
    job: Callable[..., tuple[Settings, api.Job]], run: Run, simulator: Simulator, database_url: str
) -> None:
    is_told = set[bool]()

    def replaced() -> list[str]:
        nonlocal is_told
        settings, _ = job()
        found = asyncio.run(api.gaps(settings, simulator.now, verify_calls=20))
        assert found.verification is not None
        assert found.verification.files.files == 5
        is_told |= {bool(found.verification.differences)}
        return [one.path[-17:-7] for one in found.verification.files.replaced]

    timeframes = (Timeframe.m1, Timeframe.h1)
    before = run("AAPL", timeframes=timeframes).bars.inserted
    assert replaced() == []
    assert is_told == {False}, "that a file has no vwap is no difference"
    half_past = int(datetime(2024, 11, 6, 15, 30, tzinfo=UTC).timestamp() * 1000)
    simulator.inject(
        Fault(action=Action.LACKING, ticker=None, span_ms=(half_past, half_past + 60_000))
    )
    assert replaced() == ["2024-11-06"]
    simulator.calls.clear()
    again = run("AAPL", timeframes=timeframes)
    assert [day for day, _ in files(simulator)] == ["2024-11-06"]
    assert (again.bars.withdrawn, again.bars.updated, again.bars.inserted) == (1, 1, 0)
    [[left]] = query(database_url, "SELECT count(*) FROM ohlc_bars")
    assert left == before - 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda true, *asked: true(*asked)[:-300],
        lambda true, market, _, *more: true(market, date(2024, 11, 1), *more),
        pytest.param(
            lambda true, market, day, _, *more: true(market, day, True, *more),
            marks=pytest.mark.soak,
        ),
    ],
    ids=["cut", "of_another_day", "of_days"],
)
def test_a_wrong_file_fails_the_series_that_it_was_read_for_and_nothing_of_it_is_stored(
    wrong: Callable[..., bytes],
    run: Run,
    simulator: Simulator,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = flatfiles._packed  # the file that the market makes

    def packed(market: Market, day: date, *more: Any) -> bytes:
        if day == date(2024, 11, 6):
            return wrong(true, market, day, *more)
        return true(market, day, *more)

    monkeypatch.setattr(flatfiles, "_packed", packed)
    summary = run("AAPL", "MSFT", timeframes=(Timeframe.m1, Timeframe.m5))
    assert summary.exit_code == 1
    assert {one.outcome for one in summary.failures} == {"bad_answer"}
    assert len(summary.failures) == 4
    assert not calls(simulator)
    assert [day for day, _ in files(simulator)] == ["2024-11-08", "2024-11-07", "2024-11-06"]
    assert days_stored(database_url) == [date(2024, 11, 7), date(2024, 11, 8)]
    read = query(database_url, "SELECT path FROM archive_files")
    assert len(read) == 2

    monkeypatch.setattr(flatfiles, "_packed", true)
    assert run("AAPL", "MSFT", timeframes=(Timeframe.m1, Timeframe.m5)).exit_code == 0
    assert [day for day, _ in files(simulator)[3:]] == ["2024-11-06", "2024-11-05", "2024-11-04"]


def test_calls_that_are_used_up_end_the_run_between_files_and_another_goes_on(
    run: Run, simulator: Simulator, database_url: str
) -> None:
    summary = run("AAPL", "MSFT", max_calls=3)
    assert (summary.exit_code, summary.calls) == (5, 3)
    assert len(simulator.calls) == 3
    summary = run("AAPL", "MSFT")
    assert summary.exit_code == 0
    assert [day for day, _ in files(simulator)] == [f"2024-11-0{day}" for day in (8, 7, 6, 5, 4)]
    forget(database_url)


@pytest.mark.parametrize(
    "action", [Action.STALL, pytest.param(Action.HANG, marks=pytest.mark.soak)]
)
def test_a_deadline_ends_a_file_that_does_not_come_and_claims_nothing_of_it(
    action: Action, run: Run, simulator: Simulator, database_url: str
) -> None:
    simulator.inject(Fault(action=action, path="2024-11-07", stall_s=60))
    summary = run("AAPL", "MSFT", deadline_s=2.0)
    assert summary.exit_code == 5
    assert summary.duration_s < 10
    # How far it came by then depends on the machine; the file that hangs is none of it.
    assert days_stored(database_url) in ([], [date(2024, 11, 8)])
    for [begins] in query(
        database_url, "SELECT lower(coverage) FROM backfill_progress WHERE NOT isempty(coverage)"
    ):
        assert begins > datetime(2024, 11, 8, tzinfo=UTC)
    assert not query(database_url, "SELECT FROM backfill_progress WHERE claimed_by IS NOT NULL")


def test_the_plan_tells_both_and_calls_are_made_where_files_are_not_worth_it(
    plan: Callable[..., Plan], run: Run, simulator: Simulator
) -> None:
    always, auto, never = (plan(archive=one) for one in (Use.always, Use.auto, Use.never))
    assert (always.calls, always.archive.requests) == (5, 5)
    assert always.calls_max == 5 + len(MANY)
    assert always.archive.calls_instead == never.calls == auto.calls == len(MANY)
    assert always.archive.bytes > always.archive.bytes_instead > 0
    assert auto.archive == never.archive
    assert not simulator.calls
    run("AAPL", archive=Use.auto)
    assert not files(simulator)


def test_without_what_reads_buckets_files_are_not_read_and_demanding_them_is_an_error(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.run.lane.find_spec", lambda _: None)
    assert not plan(archive=Use.auto).archive.requests
    with pytest.raises(UsageError, match=r"pip install 'ohlc-backfill\[flatfiles\]'"):
        plan(archive=Use.always)


def test_one_key_of_two_is_an_error_that_names_both(settings_here: Callable[..., Settings]) -> None:
    with pytest.raises(UsageError, match="MASSIVE_S3_ACCESS_KEY_ID and MASSIVE_S3_SECRET"):
        settings_here(MASSIVE_S3_ACCESS_KEY_ID=KEY)


def test_the_keys_are_secrets(
    run: Run, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"MASSIVE_S3_ACCESS_KEY_ID": "the-id-of-a-key-that-is-refused"}
    summary = run("AAPL", environment=environment)
    assert summary.exit_code == 1
    named = query(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    kept = [query(database_url, f"SELECT t::text FROM {name} AS t") for [name] in named]
    out, err = capsys.readouterr()
    for secret in (*environment.values(), SECRET):
        assert secret not in f"{kept}{summary}{out}{err}"
