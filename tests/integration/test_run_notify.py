"""Messages by apprise: one for each change, to whoever is there to take it."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.errors import BackfillError, DatabaseError, UsageError
from backfill.fetch.stop import StopSignal
from backfill.notify import delivery, report, telling
from backfill.notify.report import (
    repair_reported,
    reported,
    teller_of,
    watch_reported,
    work_reported,
)
from backfill.run import execution, outcomes, rounds
from backfill.settings import Settings
from backfill.simulator import Action, Fault, Simulator
from backfill.store.universe import WatchChange
from backfill.workers.duties import Duties, Worked
from backfill.workers.worker import work
from tests.conftest import NOW, Cli, blocking, query
from tests.integration.store_kit import database_name, until

pytestmark = pytest.mark.one_database

FIRST = api.Bound(date(2024, 11, 8))
H1 = (Timeframe.h1,)
"""Which nobody is asked for grouped: each series has calls of its own."""
TOKEN = "5ec4e7-f0r-those-who-read"
HOSTILE = f"@everyone <!here> \x1b[31m http://evil.test key={TOKEN}"
WITHIN = telling.Patience(20.0, 20.0, 20.0)
"""Longer than a busy machine takes."""


@dataclass
class Reader:
    """Whoever reads messages: what was taken, and whether it is taken just now."""

    port: int = 0
    status: int = 200
    answered: int = 0
    heard: list[dict[str, Any]] = field(default_factory=list)
    takes: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://localhost:{self.port}/{TOKEN}"

    @property
    def titles(self) -> list[str]:
        return [one["title"].removeprefix("backfill: ") for one in self.heard]


@pytest.fixture
def reader() -> Iterator[Reader]:
    yield from reading()


@pytest.fixture
def another() -> Iterator[Reader]:
    yield from reading()


def reading() -> Iterator[Reader]:
    reader = Reader()
    reader.takes.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == f"/{TOKEN}"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reader.heard.append(body)
            reader.takes.wait(60)
            reader.answered += 1
            self.send_response(reader.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        reader.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield reader
        reader.takes.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "USUAL", WITHIN)
    monkeypatch.setattr(telling, "AT_THE_END", WITHIN)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


Run = Callable[..., api.Summary]


@pytest.fixture
def run(settings_here: Callable[..., Settings], simulator: Simulator, reader: Reader) -> Run:
    """Run a job as the command does, as of so many days after the others."""

    def one(*tickers: str, days: int = 0, notify: str | None = None, **asked: Any) -> api.Summary:
        now = NOW + timedelta(days=days)
        simulator.set_now(now)
        settings = settings_here(BACKFILL_NOTIFY=notify or reader.url)
        job = api.Job(symbols=tickers, timeframes=H1, first=FIRST, as_of=now, **asked)
        teller = teller_of(settings, "run", as_of=now)
        return blocking(reported(settings, execution.run(settings, job), teller))

    return one


def watch(settings: Settings, ticker: str) -> None:
    change = WatchChange(timeframes=H1, since="5d")
    blocking(api.watchlist.add(settings, [ticker], change, offline=True))


def breaks(simulator: Simulator, ticker: str, status: int = 400, error: str = "broken") -> None:
    body = json.dumps({"status": "ERROR", "error": error})
    simulator.inject(Fault(action=Action.STATUS, status=status, ticker=ticker, body=body))


def test_a_series_that_fails_is_told_of_once_and_once_more_when_it_is_well(
    run: Run, simulator: Simulator, reader: Reader
) -> None:
    assert run("AAPL", "MSFT").exit_code == 0
    assert reader.heard == []
    breaks(simulator, "MSFT")
    assert run("AAPL", "MSFT", days=1).exit_code == 1
    assert reader.titles == ["1 series failing"]
    assert "Failing: MSFT h1 of massive" in reader.heard[0]["message"]
    assert "backfill run --symbol MSFT --timeframe h1" in reader.heard[0]["message"]
    assert reader.heard[0]["type"] == "failure"
    assert run("AAPL", "MSFT", days=1).exit_code == 1
    assert run("AAPL", days=1).exit_code == 0  # it did not look at the other
    assert len(reader.heard) == 1
    simulator.clear_faults()
    assert run("AAPL", "MSFT", days=1).exit_code == 0
    assert run("AAPL", "MSFT", days=1).exit_code == 0
    assert reader.titles[1:] == ["1 series well again"]
    assert reader.heard[1]["type"] == "success"


def test_a_run_of_an_older_part_neither_calls_a_series_well_nor_hides_that_it_fails(
    run: Run, simulator: Simulator, reader: Reader
) -> None:
    assert run("MSFT").exit_code == 0
    breaks(simulator, "MSFT")
    assert run("MSFT", days=1).exit_code == 1
    assert run("MSFT", days=1, last=api.Bound(date(2024, 11, 11))).exit_code == 0
    assert reader.titles == ["1 series failing"]
    simulator.clear_faults()
    assert run("MSFT", days=1).exit_code == 0
    assert reader.titles[1:] == ["1 series well again"]


def test_what_the_plan_refuses_is_told_of_apart_from_what_fails(
    run: Run, simulator: Simulator, reader: Reader
) -> None:
    breaks(simulator, "MSFT", 403, "Your plan doesn't include this data timeframe.")
    breaks(simulator, "TSLA")
    assert run("MSFT", "TSLA", "AAPL").exit_code == 1
    assert reader.titles == ["1 series failing, 1 series refused by quota or plan"]
    assert "set BACKFILL_PLAN to the plan that you have" in reader.heard[0]["message"]


def test_a_stale_series_is_told_of_once_also_where_a_run_did_not_come_to_it(
    run: Run, settings_here: Callable[..., Settings], reader: Reader
) -> None:
    assert run("AAPL", "MSFT").exit_code == 0
    for _ in range(2):
        assert run("AAPL", "MSFT", days=1, max_calls=0).exit_code == 5
    assert reader.titles == ["2 series stale"]
    assert "backfill status --stale" in reader.heard[0]["message"]
    assert run("AAPL", days=1).exit_code == 0
    assert run("AAPL", "MSFT", days=1).exit_code == 0
    assert reader.titles[1:] == ["1 series well again", "1 series well again"]
    # A first load that has not begun is no stale series.
    watch(settings_here(), "TSLA")
    assert run("TSLA", days=1, max_calls=0).exit_code == 5
    assert len(reader.heard) == 3


def test_a_series_with_bars_in_quarantine_is_well_once_they_are_dealt_with(
    run: Run, simulator: Simulator, reader: Reader, database_url: str
) -> None:
    simulator.inject(Fault(action=Action.EDIT_BARS, ticker="AAPL", bar={"h": -1}, times=1))
    assert run("AAPL").exit_code == 1
    assert reader.titles == ["1 series with bars in quarantine"]
    assert run("AAPL").exit_code == 0
    assert len(reader.heard) == 1
    query(database_url, "UPDATE quarantined_bars SET accepted_at = now()")
    assert run("AAPL").exit_code == 0
    assert reader.titles[1:] == ["1 series well again"]


def test_bars_in_quarantine_are_told_of_by_the_next_run_where_the_first_could_not(
    run: Run, simulator: Simulator, reader: Reader, database_url: str
) -> None:
    simulator.inject(Fault(action=Action.EDIT_BARS, ticker="AAPL", bar={"h": -1}, times=1))
    reader.status = 500
    assert run("AAPL").exit_code == 1
    reader.heard.clear()
    reader.status = 200
    for _ in range(2):
        assert run("AAPL").exit_code == 0
    assert reader.titles == ["1 series with bars in quarantine"]
    assert "backfill quarantine list --symbol AAPL" in reader.heard[0]["message"]
    # What a reload takes away stays there, and nobody has to deal with it.
    query(database_url, "UPDATE quarantined_bars SET accepted_at = now()")
    query(
        database_url,
        """
        UPDATE quarantined_bars SET accepted_at = NULL, reason = 'withdrawn'
        WHERE ts = (SELECT min(ts) FROM quarantined_bars)
    """,
    )
    assert run("AAPL").exit_code == 0
    assert reader.titles[1:] == ["1 series well again"]


def test_a_message_that_is_not_taken_is_a_warning_and_the_next_run_sends_it(
    run: Run, simulator: Simulator, reader: Reader, another: Reader, capfd: Any
) -> None:
    breaks(simulator, "MSFT")
    both = f"{reader.url}, {another.url}"
    reader.status = 500
    assert run("MSFT", notify=both).exit_code == 1
    said = capfd.readouterr()
    assert "notify.failed" in said.out + said.err
    assert TOKEN not in said.out + said.err
    assert str(reader.port) not in said.out + said.err
    assert (len(reader.heard), len(another.heard)) == (1, 1)
    reader.status = 200
    assert run("MSFT", notify=both).exit_code == 1
    assert run("MSFT", notify=both).exit_code == 1
    assert (len(reader.heard), len(another.heard)) == (2, 1)
    assert reader.heard[0] == reader.heard[1]


def test_nobody_waits_for_a_reader_who_says_nothing(
    run: Run, simulator: Simulator, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "USUAL", replace(WITHIN, delivery_s=0.2))
    breaks(simulator, "MSFT")
    reader.takes.clear()
    # apprise by itself would wait for this one's answer longer than it takes.
    assert run("MSFT", notify=f"{reader.url}?rto=100").exit_code == 1
    assert (reader.titles, reader.answered) == (["1 series failing"], 0)


def test_behind_a_deadline_nobody_waits_however_the_run_ended(
    run: Run,
    settings_here: Callable[..., Settings],
    reader: Reader,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = failing(run("AAPL"), "AAPL")
    monkeypatch.setattr(telling, "AT_THE_END", replace(WITHIN, delivery_s=0.0))
    settings = settings_here(BACKFILL_NOTIFY=reader.url)
    for deadline_s, told in ((0.0, None), (1e6, "failing")):
        blocking(
            reported(settings, done(failed), teller_of(settings, "run", deadline_s=deadline_s))
        )
        assert query(database_url, "SELECT trouble FROM backfill_notices") == [(told,)]


def test_where_the_look_at_bars_takes_too_long_what_fails_is_told_and_nobody_is_called_well(
    run: Run, simulator: Simulator, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "USUAL", replace(WITHIN, look_s=0.0))
    breaks(simulator, "MSFT")
    assert run("MSFT").exit_code == 1
    assert reader.titles == ["1 series failing"]
    simulator.clear_faults()
    assert run("MSFT").exit_code == 0
    assert len(reader.heard) == 1
    monkeypatch.setattr(telling, "USUAL", WITHIN)
    assert run("MSFT").exit_code == 0
    assert reader.titles[1:] == ["1 series well again"]


def test_of_two_runs_that_see_a_change_at_once_one_tells_it(
    settings_here: Callable[..., Settings], run: Run, reader: Reader, database_url: str
) -> None:
    summary = run("AAPL")
    settings = settings_here(BACKFILL_NOTIFY=reader.url)
    failed = failing(summary, "AAPL")

    def teller() -> telling.Teller:
        found = teller_of(settings, "run", as_of=NOW)
        assert found is not None
        found.note(failed)
        return found

    async def heard() -> bool:
        return len(reader.heard) == 1

    async def together() -> None:
        reader.takes.clear()
        first = asyncio.create_task(teller().tell())
        await until(heard, "the first message")
        await teller().tell()  # it is the first one's to tell
        assert len(reader.heard) == 1
        reader.takes.set()
        await first
        await teller().tell()
        assert len(reader.heard) == 1

    async def one_that_dies() -> None:
        query_ = "UPDATE backfill_notices SET trouble = NULL"
        await asyncio.to_thread(query, database_url, query_)
        reader.heard.clear()
        reader.takes.clear()
        dying = asyncio.create_task(teller().tell())
        await until(heard, "the message of the one that dies")
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        reader.takes.set()
        await teller().tell()
        assert len(reader.heard) == 1
        past = "UPDATE backfill_notices SET claimed_until = now() - interval '1 s'"
        await asyncio.to_thread(query, database_url, past)
        await teller().tell()
        assert len(reader.heard) == 2

    blocking(together())
    blocking(one_that_dies())


async def done(summary: api.Summary) -> api.Summary:
    return summary


def failing(summary: api.Summary, *tickers: str) -> api.Summary:
    """The summary of a run in which some series failed."""
    failures = [outcomes.Failure(one, "h1", "provider_error", "broken") for one in tickers]
    return replace(summary, failures=failures, exit_code=1)


def test_foreign_text_calls_nobody_and_no_secret_is_told(
    run: Run, simulator: Simulator, reader: Reader, database_url: str
) -> None:
    breaks(simulator, "MSFT", error=HOSTILE)
    assert run("MSFT").exit_code == 1
    text = reader.heard[0]["title"] + reader.heard[0]["message"]
    for sign in ("@", "<", "://", "\x1b", TOKEN):
        assert sign not in text
    assert "***" in text
    kept = str(query(database_url, "SELECT * FROM backfill_notices"))
    assert TOKEN not in kept
    assert str(reader.port) not in kept


def test_what_ends_a_command_is_told_of_once_and_by_each_where_no_database_remembers_it(
    run: Run,
    settings_here: Callable[..., Settings],
    reader: Reader,
    database_url: str,
) -> None:
    for _ in range(2):
        with pytest.raises(BackfillError):
            run("AAPL@alpaca")
    assert reader.titles == ["run failed"]
    assert "run ended before its work did: " in reader.heard[0]["message"]
    assert run("AAPL").exit_code == 0
    assert reader.titles[1:] == ["run works again"]
    reader.heard.clear()

    nowhere = database_url.replace(database_name(database_url), "nowhere")
    settings = settings_here(BACKFILL_NOTIFY=reader.url, DATABASE_URL=nowhere)
    job = api.Job(symbols=("AAPL",), as_of=NOW)
    for _ in range(2):
        teller = teller_of(settings, "run")
        with pytest.raises(DatabaseError):
            blocking(reported(settings, execution.run(settings, job), teller))
    assert reader.titles == ["run failed", "run failed"]


def test_without_a_database_a_teller_tells_what_ended_its_work_once_and_not_each_minute(
    run: Run, settings_here: Callable[..., Settings], reader: Reader, database_url: str
) -> None:
    ended = replace(run("AAPL"), exit_code=3, error="the server is away")
    nowhere = database_url.replace(database_name(database_url), "nowhere")
    teller = teller_of(settings_here(BACKFILL_NOTIFY=reader.url, DATABASE_URL=nowhere), "worker")
    assert teller is not None

    async def minutes() -> None:
        for status in (500, 200, 200):
            reader.status = status
            teller.note(ended)
            await teller.tell()

    blocking(minutes())
    # The first was not taken.
    assert reader.titles == ["worker failed"] * 2


def test_a_fault_of_our_own_is_told_too(
    settings_here: Callable[..., Settings], reader: Reader
) -> None:
    settings = settings_here(BACKFILL_NOTIFY=reader.url)

    async def broken() -> api.Summary:
        raise ZeroDivisionError("nobody foresaw it")

    with pytest.raises(ZeroDivisionError):
        blocking(reported(settings, broken(), teller_of(settings, "run --all")))
    assert reader.titles == ["run --all failed"]
    assert "a fault of backfill's own (ZeroDivisionError" in reader.heard[0]["message"]


def test_an_address_that_is_new_hears_of_all_that_is_not_well(
    run: Run, simulator: Simulator, reader: Reader, another: Reader
) -> None:
    breaks(simulator, "MSFT")
    assert run("MSFT").exit_code == 1
    assert run("MSFT", notify=f"{reader.url} {another.url}").exit_code == 1
    assert (len(reader.heard), another.titles) == (1, ["1 series failing"])


def test_a_worker_tells_of_all_its_jobs_at_once(
    settings_here: Callable[..., Settings], simulator: Simulator, reader: Reader
) -> None:
    for ticker in ("MSFT", "TSLA"):
        breaks(simulator, ticker, 403, "Your plan doesn't include this data timeframe.")
    settings = settings_here(BACKFILL_NOTIFY=reader.url)
    job = api.Job(symbols=("AAPL", "MSFT", "TSLA"), timeframes=H1, first=FIRST, as_of=NOW)
    assert blocking(api.enqueue(settings, job)).added == 3
    teller = teller_of(settings, "worker", as_of=NOW)
    assert teller is not None

    async def worked() -> None:
        working = work(
            settings, Duties(("massive",), drain=True), stop=StopSignal(), tell=teller.note_job
        )
        assert (await work_reported(working, teller)).held == 2

    blocking(worked())
    assert reader.titles == ["2 series refused by quota or plan"]


def test_of_a_provider_that_is_away_a_worker_tells_once_while_jobs_of_another_go_on(
    run: Run, settings_here: Callable[..., Settings], reader: Reader
) -> None:
    well = replace(run("AAPL"), provider="binance")
    away = replace(well, provider="massive", exit_code=3, error="no answer came")
    teller = teller_of(settings_here(BACKFILL_NOTIFY=reader.url), "worker", as_of=NOW)
    assert teller is not None

    async def minutes(*jobs: api.Summary) -> None:
        for job in jobs:
            teller.note_job(job)
            await teller.tell()

    blocking(minutes(away, well, away, well, replace(away, exit_code=0)))
    assert reader.titles == ["worker of massive failed", "worker of massive works again"]


def test_what_a_worker_is_telling_as_it_ends_is_told_once(
    run: Run,
    settings_here: Callable[..., Settings],
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "_BETWEEN_S", 0.01)
    monkeypatch.setattr(report, "_MOMENT_S", 60.0)
    failed = failing(run("AAPL"), "AAPL")
    teller = teller_of(settings_here(BACKFILL_NOTIFY=reader.url), "worker", as_of=NOW)
    assert teller is not None
    reader.takes.clear()

    async def heard() -> bool:
        return len(reader.heard) == 1

    async def working() -> Worked:
        teller.note(failed)
        await until(heard, "the message")
        asyncio.get_running_loop().call_later(0.2, reader.takes.set)
        return Worked()

    blocking(work_reported(working(), teller))
    assert reader.titles == ["1 series failing"]


def test_a_watch_tells_at_the_end_of_each_round_and_of_what_ends_it(
    simulate: Callable[..., Simulator], settings_here: Callable[..., Settings], reader: Reader
) -> None:
    simulator = simulate(plan="unlimited", now=None)
    breaks(simulator, "AAPL")
    settings = settings_here(BACKFILL_NOTIFY=reader.url, BACKFILL_PROVIDER_URL=simulator.url)
    watch(settings, "AAPL")
    teller = teller_of(settings, "run --all --watch")
    around = partial(reported, settings, teller=teller)
    ended = blocking(
        watch_reported(
            settings,
            rounds.run_rounds(settings, api.Job(max_calls=1), lambda _: None, around=around),
            teller,
        )
    )
    assert ended.exit_code == 1
    assert reader.titles == ["1 series failing"]

    simulator.clear_faults()
    settings = settings_here(
        BACKFILL_NOTIFY=reader.url, BACKFILL_PROVIDER_URL=simulator.url, MASSIVE_API_KEY="wrong"
    )
    teller = teller_of(settings, "run --all --watch")
    around = partial(reported, settings, teller=teller)
    watching = rounds.run_rounds(settings, api.Job(), lambda _: None, around=around)
    assert blocking(watch_reported(settings, watching, teller)).exit_code == 3
    assert reader.titles[1:] == ["run --all --watch failed"]


def test_a_repair_tells_how_its_run_ended(
    run: Run,
    settings_here: Callable[..., Settings],
    simulator: Simulator,
    reader: Reader,
    database_url: str,
) -> None:
    assert run("AAPL").exit_code == 0
    query(database_url, "DELETE FROM ohlc_bars WHERE ts = '2024-11-08T15:00Z'")
    breaks(simulator, "AAPL")
    settings = settings_here(BACKFILL_NOTIFY=reader.url)
    for _ in range(2):
        teller = teller_of(settings, "gaps --repair", as_of=NOW)
        assert blocking(repair_reported(api.repair(settings, NOW), teller)).exit_code == 1
    assert reader.titles == ["1 series failing"]


def test_an_address_that_apprise_cannot_read_ends_the_command_before_anything(
    settings_here: Callable[..., Settings],
    cli: Callable[..., Cli],
    simulator: Simulator,
    reader: Reader,
    tmp_path: Path,
) -> None:
    for wrong, place in ((TOKEN, 1), (f"{reader.url} nosuch://{TOKEN}", 2), ("tgram://a", 1)):
        settings = settings_here(BACKFILL_NOTIFY=wrong)
        with pytest.raises(UsageError, match=f"can't read its address number {place}") as caught:
            teller_of(settings, "run")
        assert TOKEN not in str(caught.value)

    run = cli(simulator)
    at_noon = ("run", "AAPL", "--as-of", NOW.isoformat())
    ended = run(*at_noon, BACKFILL_NOTIFY=f"tgram://{TOKEN}")
    assert (ended.code, ended.err.count("\n"), simulator.calls) == (2, 1, []), ended.err
    doctor = run("doctor", "--json", BACKFILL_NOTIFY=f"tgram://{TOKEN}")
    assert doctor.code == 2
    assert "BACKFILL_NOTIFY: apprise can't read" in doctor.out
    assert TOKEN not in ended.err + ended.out + doctor.out + doctor.err

    file = tmp_path / "notify"
    file.write_text(f"{reader.url}\n")
    simulator.inject(Fault(action=Action.STATUS, status=400))
    assert run(*at_noon, BACKFILL_NOTIFY_FILE=str(file)).code == 1
    assert reader.titles == ["1 series failing"]


def test_without_apprise_one_line_says_what_to_install(
    settings_here: Callable[..., Settings], reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "find_spec", lambda _name: None)
    settings = settings_here(BACKFILL_NOTIFY=reader.url)
    with pytest.raises(BackfillError, match=r"pip install 'ohlc-backfill\[notify\]'"):
        teller_of(settings, "run")
