"""Whatever ends a run: the ledger's row gets its end, no lease is left, no text does harm."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from backfill import api, log
from backfill.cli import main
from backfill.present.tables import console, table_of
from backfill.providers.massive import Massive
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Simulator
from tests.conftest import KEY, NOW, Cli, query
from tests.integration.store_kit import until
from tests.integration.test_run_hosts import JOB, settings_of

HOSTILE: Final = "[/] [link=x]y[/link] :smile: \x1b[31mred \x00 end"
AS_OF: Final = ("--as-of", NOW.isoformat())


async def ends_of(url: str) -> tuple[list[tuple[Any, ...]], int]:
    """The runs in the ledger, and how many leases are held."""
    runs = "SELECT status, exit_code, error FROM backfill_runs ORDER BY started_at"
    leases = "SELECT count(*) FROM backfill_progress WHERE claimed_until > now()"
    rows = await asyncio.to_thread(query, url, runs)
    [[held]] = await asyncio.to_thread(query, url, leases)
    return [tuple(row) for row in rows], held


@pytest.mark.attack(6)
async def test_an_error_that_nobody_foresaw_ends_the_row_and_the_leases(
    simulate: Callable[..., Simulator], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    settings = settings_of(database_url, simulator)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"boom {KEY} {HOSTILE}")

    with monkeypatch.context() as patched:
        patched.setattr(Massive, "read_bars", broken)
        with pytest.raises(BaseException, match=r"boom|unhandled errors"):
            await api.run(settings, JOB)
    [(status, code, error)], held = await ends_of(database_url)
    assert (status, code, held) == ("failed", 3, 0)
    assert "a fault of backfill's own (RuntimeError: boom *** [/]" in error
    assert (await api.run(settings, JOB)).exit_code == 0


@pytest.mark.attack(6)
async def test_a_run_that_is_cancelled_is_interrupted_and_holds_nothing(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.HANG))
    running = asyncio.create_task(api.run(settings_of(database_url, simulator), JOB))

    async def is_calling() -> bool:
        return bool(simulator.calls)

    await until(is_calling, "a call")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [(status, code, _)], held = await ends_of(database_url)
    assert (status, code, held) == ("interrupted", 130, 0)


async def _refuse_ends(url: str) -> None:
    """Have the ledger refuse the end of every run."""
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'no such row'; END $$;
    """
    await asyncio.to_thread(query, url, refuse)
    trigger = """
        CREATE TRIGGER refuse BEFORE UPDATE OF exit_code ON backfill_runs
        FOR EACH ROW EXECUTE FUNCTION public.refuse()
    """
    await asyncio.to_thread(query, url, trigger)


@pytest.mark.attack(6)
async def test_a_ledger_that_refuses_its_row_keeps_no_lease(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    await _refuse_ends(database_url)
    summary = await api.run(settings_of(database_url, simulate()), JOB)
    [(status, _, _)], held = await ends_of(database_url)
    assert (summary.exit_code, status, held) == (3, "running", 0)
    assert "no such row" in str(summary.error)
    assert summary.bars.inserted > 0


async def test_nor_does_an_import_that_the_ledger_refuses(
    database_url: str, tmp_path: Path
) -> None:
    await _refuse_ends(database_url)
    file = tmp_path / "days.csv"
    file.write_text(
        "symbol,timeframe,ts,open,high,low,close,volume\nAAPL,d1,2024-11-04,2,4,1,3,5\n"
    )
    job = api.FileJob(file, api.Reading(), feed="kaggle", adjustment="raw")
    summary = await api.import_file(api.Settings(database_url=Secret(database_url)), job)
    [(status, _, _)], held = await ends_of(database_url)
    assert (summary.exit_code, status, held) == (3, "running", 0)
    assert summary.bars.inserted == 1


@pytest.mark.attack(4)
def test_what_a_provider_says_is_only_text_on_every_way_out(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    told = json.dumps({"status": "ERROR", "error": f"{HOSTILE} {KEY}"})
    simulator.inject(Fault(action=Action.STATUS, status=400, ticker="MSFT", body=told))
    # With status 200, as JSON may escape it.
    repeated = json.dumps({"status": f"E{KEY}"}).replace(KEY, r"sim\u002dkey")
    simulator.inject(Fault(action=Action.STATUS, status=200, ticker="NVDA", body=repeated))
    split = {"execution_date": "2024-11-04", "split_from": 1, "split_to": 2}
    splits = [{**split, "ticker": one} for one in ("A\0B", f"X{KEY}", "GOOD")]
    listed = json.dumps({"status": "OK", "results": splits})
    simulator.inject(Fault(action=Action.STATUS, status=200, path="/splits", body=listed))
    ended = cli(simulator)("run", "--symbols", "AAPL,MSFT,NVDA", *AS_OF)
    assert ended.code == 1
    assert "[/] [link=x]y[/link] :smile: [31mred end ***" in " ".join(ended.out.split())
    for harm in ("\x1b", "\x00", KEY, "\U0001f604"):
        assert harm not in ended.out + ended.err
    [[kept]] = query(database_url, "SELECT failures::text FROM backfill_runs")
    assert ":smile: [31mred end ***" in kept
    assert "answered with status 'E***'" in kept
    assert KEY not in kept
    names = query(database_url, "SELECT ticker FROM splits ORDER BY 1")
    assert [name for [name] in names] == ["GOOD", "X***"]


@pytest.mark.attack(6)
def test_a_ping_address_that_nobody_can_write_to_changes_no_exit_code(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    for address in ("http://127.0.0.1:1/\udcff", "http://xn--\udcff.test/", "http://[::1/x"):
        ended = cli(simulate())(
            "run", "--symbol", "AAPL", "--from", "2024-11-01", *AS_OF, BACKFILL_PING_URL=address
        )
        assert ended.code in {0, 2}, ended.err
        assert "Traceback" not in ended.err


@pytest.mark.attack(5)
def test_a_command_that_breaks_says_so_in_one_line_and_its_traceback_holds_no_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise ValueError(f"boom {KEY}")

    log.configure("json", [KEY])
    monkeypatch.setattr(main.app, "narrowed", lambda _: broken)
    with pytest.raises(SystemExit) as ended:
        main.main()
    [event, line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 3
    assert "Traceback" in json.loads(event)["exception"]
    assert line.startswith("backfill: a fault of backfill's own (ValueError: boom ***)")
    assert KEY not in event + line


@pytest.mark.attack(5)
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("status",), {"BACKFILL_PLAN": KEY}),
        (("run", "--symbol", f"{KEY}!"), {}),
        (("run", "--symbol", "A", "--from", KEY), {}),
        (("status", "--format", KEY), {}),
        (("run", "--symbol", "A"), {"BACKFILL_PROVIDER": KEY}),
        (
            ("run", "--symbol", "A"),
            {"POLYGON_API_KEY": "another-key", "BACKFILL_SINCE": "another-key"},
        ),
        (("status",), {"PGPASSWORD": "pass-of-libpq", "BACKFILL_QUOTA": "pass-of-libpq"}),
        (("status",), {"HTTPS_PROXY": "http://me:pass-of-it@p", "BACKFILL_PLAN": "pass-of-it"}),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_quoted(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    structlog.reset_defaults()
    given = {"DATABASE_URL": "postgresql://u:pass-word@h/d", "MASSIVE_API_KEY": KEY} | environment
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["backfill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    [line] = capsys.readouterr().err.splitlines()
    assert (ended.value.code, line.count("***")) == (2, 1), line


def test_a_console_and_a_table_print_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = table_of("symbol", "why")
    table.add_row("A\nB", HOSTILE)
    console().print(table)
    console().print(f"{HOSTILE}\nsecond line")
    out = capsys.readouterr().out
    shown = "[/] [link=x]y[/link] :smile:  [31mred   end"
    assert [line.strip() for line in out.splitlines()[1:]] == [
        f"A B     {shown}",
        shown,
        "second line",
    ]
